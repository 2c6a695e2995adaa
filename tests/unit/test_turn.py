"""One turn for one service: urgent things first, one change for each slot, the same plan for the same facts."""

import math
from dataclasses import replace

import pytest
import worlds
from facts import conviction, desired, service, standing, verdict
from facts import replica as facts_replica
from hypothesis import given

from perdure.control import turn
from perdure.detect import sampled
from perdure.model import replica
from perdure.model.check import CONFIRMING
from perdure.model.decision import Advance, Begin, End, Kill, Note
from perdure.model.deploy import Strategy
from perdure.model.release import Arm, Phase, Rollout
from perdure.model.replica import Event, Slot, State
from perdure.model.standing import History, Standing
from perdure.model.verdict import Failing, Scope, Sign
from perdure.recover.restart import Bucket

FULL = Bucket(2.0, 0.0)


def plan(*standings: Standing, now: float = 100.0, ready: bool = True, **wanted: object) -> turn.Plan:
    return turn.decide(turn.Facts(desired(**wanted), standings, ready, FULL), now)


def bad(number: int, sign: Sign, state: State = State.READY) -> Standing:
    convicted = conviction(sign) if state is State.ISOLATED else None
    return standing(number, state, verdict=verdict(sign), verdict_since_at=50.0, conviction=convicted)


def test_a_healthy_service_needs_nothing() -> None:
    quiet = plan(standing(1), standing(2), standing(3))
    assert quiet == turn.Plan((), FULL, math.inf)


def test_a_replica_that_hangs_is_isolated_first_and_restarted_in_the_next_turn() -> None:
    first = plan(bad(1, Sign.HANG), standing(2), standing(3))
    assert [one.rule for one in first.decisions] == ["R01"]
    assert first.bucket == FULL
    second = plan(bad(1, Sign.HANG, State.ISOLATED), standing(2), standing(3))
    assert [one.rule for one in second.decisions] == ["R11"]
    assert second.bucket == Bucket(1.0, 100.0)


def test_one_that_a_command_takes_out_in_the_same_turn_is_no_capacity_for_an_isolation() -> None:
    four = standing(1), standing(2), bad(3, Sign.REQUESTS), replace(standing(4), replica=None)
    isolated = Advance(Slot("web", 3), Event.CONVICTED)
    drained = Advance(Slot("web", 1), Event.DRAIN_WANTED)
    assert isolated in [one.change for one in plan(*four, replicas=4).decisions]
    changes = [one.change for one in plan(*four, replicas=4, drained=(1,)).decisions]
    assert drained in changes and isolated not in changes and Note("floor") in changes
    assert [one.rule for one in plan(bad(1, Sign.REQUESTS), replicas=1, drained=(1,)).decisions] == ["P04"]


def test_in_a_turn_that_isolates_nobody_else_is_replaced() -> None:
    outdated = replace(standing(1), replica=facts_replica(1, generation=1))
    assert [one.rule for one in plan(outdated, standing(2), replicas=2, generation=2).decisions] == ["P08"]
    ill = bad(2, Sign.REQUESTS)
    assert [one.rule for one in plan(outdated, ill, replicas=2, generation=2).decisions] == ["R01"]


def test_the_only_replica_that_hangs_is_restarted_where_it_is() -> None:
    alone = plan(bad(1, Sign.HANG), replicas=1)
    assert [one.rule for one in alone.decisions] == ["R06", "R11"]


def test_when_all_hang_one_alarm_says_so_and_one_is_restarted() -> None:
    all_bad = plan(*[bad(number, Sign.HANG) for number in (1, 2, 3)])
    assert {one.rule for one in all_bad.decisions if isinstance(one.change, Note)} == {"R05"}
    assert [one.rule for one in all_bad.decisions if not isinstance(one.change, Note)] == ["R11"]


def test_an_isolated_replica_counts_towards_what_is_shared() -> None:
    shared = turn.shared_signs([bad(1, Sign.STATUS, State.ISOLATED), bad(2, Sign.STATUS), standing(3)], 3)
    assert shared == {Sign.STATUS}
    later = standing(1, State.ISOLATED, conviction=conviction(Sign.STATUS))
    assert turn.shared_signs([later, bad(2, Sign.STATUS), standing(3)], 3) == {Sign.STATUS}


def test_a_replica_whose_last_answer_looked_the_same_makes_a_sign_shared() -> None:
    """It is too little for a verdict on that one, but whoever is convicted now is not alone to blame."""
    first, second = bad(1, Sign.STATUS), standing(2, hint=Sign.STATUS)
    assert turn.shared_signs([first, second, standing(3)], 3) == {Sign.STATUS}
    assert turn.shared_signs([first, standing(2, hint=Sign.CONTENT), standing(3)], 3) == frozenset()
    assert [one.rule for one in plan(first, second, standing(3)).decisions] == ["R05"]


def test_a_replica_that_is_being_ended_for_a_sign_still_shares_it() -> None:
    ending = standing(1, State.STOPPING, conviction=conviction(Sign.HANG))
    assert turn.shared_signs([ending, bad(2, Sign.HANG), standing(3)], 3) == {Sign.HANG}


def test_what_ended_or_still_starts_counts_for_nothing_shared() -> None:
    starting = standing(1, State.STARTING, verdict=verdict(Sign.REFUSED))
    assert turn.shared_signs([starting, bad(2, Sign.REFUSED)], 2) == frozenset()


def test_time_alone_is_looked_for_at_the_next_start_and_the_next_deadline() -> None:
    starting = standing(2, State.STARTING, 90.0)
    waiting = Standing(Slot("web", 1), history=History(next_start_at=107.0))
    assert plan(waiting, starting, standing(3)).look_again_at == 107.0
    assert plan(waiting, starting, standing(3), ready=False).look_again_at == 150.0


@given(worlds.facts())
def test_deciding_twice_on_the_same_facts_gives_the_same_plan(facts: turn.Facts) -> None:
    assert turn.decide(facts, worlds.NOW) == turn.decide(facts, worlds.NOW)


@given(worlds.facts())
def test_each_slot_gets_at_most_one_change(facts: turn.Facts) -> None:
    changed = [one.change.slot for one in turn.decide(facts, worlds.NOW).decisions if not isinstance(one.change, Note)]
    assert len(set(changed)) == len(changed)


@given(worlds.facts())
def test_every_change_has_a_row_in_the_table_of_states(facts: turn.Facts) -> None:
    states = {one.slot: one.replica.state for one in facts.standings if one.replica is not None}
    for decision in turn.decide(facts, worlds.NOW).decisions:
        match decision.change:
            case Advance(slot, event):
                assert (states[slot], event) in replica.TABLE
            case End(slot):
                assert (states[slot], Event.STOP_WANTED) in replica.TABLE
            case Kill(slot):
                assert states[slot] is State.STOPPING
            case Begin(slot):
                assert states.get(slot, State.STOPPED) is State.STOPPED


@given(worlds.facts())
def test_the_bucket_never_owes_a_token(facts: turn.Facts) -> None:
    assert turn.decide(facts, worlds.NOW).bucket.tokens >= 0.0


@given(worlds.facts())
def test_every_decision_says_why(facts: turn.Facts) -> None:
    for decision in turn.decide(facts, worlds.NOW).decisions:
        assert decision.rule and decision.subject and decision.sentence


@pytest.mark.parametrize(("endpoint", "shared"), [("/orders", True), (sampled.ALL, True), ("/search", False)])
def test_who_does_not_answer_what_half_are_slow_at_is_not_stuck(endpoint: str, shared: bool) -> None:
    stuck = replace(verdict(Sign.STALLED), endpoint=f"{CONFIRMING}/orders")
    slow = (Failing(Sign.SLOW, endpoint, 0.7, 200),)
    found = plan(
        standing(1, verdict=stuck, verdict_since_at=50.0), standing(2, failing=slow), standing(3, failing=slow)
    )
    assert ("R01" not in {one.rule for one in found.decisions}) == shared
    assert ("R05" in {one.rule for one in found.decisions}) == shared


@pytest.mark.parametrize(
    ("sign", "beside", "whose"),
    [
        (Sign.STATUS, {}, Scope.RELEASE),
        (Sign.STATUS, {"hint": Sign.STATUS}, Scope.SHARED),
        (Sign.REFUSALS, {}, Scope.SHARED),
        (Sign.REFUSALS, {"failing_share": 0.0}, Scope.RELEASE),
        (Sign.REFUSALS, {"failing_share": 0.0, "failing": (Failing(Sign.REFUSALS, "/a", 0.5, 403),)}, Scope.SHARED),
    ],
)
def test_what_the_release_beside_could_show_and_does_not_is_the_fault_of_the_release(
    sign: Sign, beside: dict[str, object], whose: Scope
) -> None:
    arms = Arm("web@0", service(), (4,)), Arm("web@1", service(), (1, 2, 3))
    rollout = Rollout(1, *arms, Strategy.CANARY, (), 3, Phase.WATCHING)
    other = replace(standing(4, **beside), replica=replace(facts_replica(4), release="web@0"))
    found = plan(bad(1, sign), bad(2, sign), standing(3), other, placed=(1, 2, 3), rollout=rollout)
    assert [one.facts["scope"] for one in found.decisions if one.rule == "R05"][:1] == [whose.value]


def test_nobody_is_blamed_for_failing_a_little_more_while_a_shared_failure_dips_below_its_threshold() -> None:
    worst = standing(3, verdict=verdict(Sign.REQUESTS), verdict_since_at=50.0, failing_share=0.2)
    each = (standing(1, failing_share=0.09), standing(2, failing_share=0.08), worst)
    blamed = turn.decide(turn.Facts(desired(), each, True, FULL), 100.0)
    assert [one.rule for one in blamed.decisions] == ["R01"], "out of the blue it is the fault of that one"
    shared = turn.decide(turn.Facts(desired(), each, True, FULL, {Sign.REQUESTS: 99.9}), 100.0)
    assert [one.rule for one in shared.decisions] == ["R07"]
    assert shared.shared_at == {Sign.REQUESTS: 100.0}
