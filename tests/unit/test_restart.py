"""When a replica is ended because it failed, how many at a time, and when its slot gets the next one."""

from dataclasses import replace

import pytest
import worlds
from facts import conviction, service, standing, verdict
from hypothesis import given
from hypothesis import strategies as st

from perdure.control import turn
from perdure.model.decision import Decision, End, Kill
from perdure.model.replica import State
from perdure.model.service import Restart
from perdure.model.standing import History, Standing, View
from perdure.model.verdict import Sign
from perdure.recover import restart
from perdure.recover.restart import Bucket

NOTHING_SHARED: frozenset[Sign] = frozenset()
FULL = Bucket(2.0, 0.0)
WEB = service()


def bad(number: int, sign: Sign, state: State = State.ISOLATED, **changed: object) -> Standing:
    fields: dict[str, object] = {"verdict": verdict(sign), "verdict_since_at": 100.0}
    if state is State.ISOLATED:
        fields["conviction"] = conviction(sign)
    return standing(number, state, **(fields | changed))


def condemned(*standings: Standing, now: float, shared: frozenset[Sign] = NOTHING_SHARED) -> list[Decision]:
    return restart.condemn(WEB, standings, shared, Bucket(2.0, now), now)


@pytest.mark.parametrize(
    ("sign", "state", "patience_s"),
    [
        (Sign.HANG, State.ISOLATED, 0.0),
        (Sign.SILENT, State.ISOLATED, 0.0),
        (Sign.STOPPED, State.ISOLATED, 0.0),
        (Sign.FOREIGN, State.ISOLATED, 0.0),
        (Sign.REFUSED, State.ISOLATED, 3.0),
        (Sign.STATUS, State.ISOLATED, 10.0),
        (Sign.CONTENT, State.ISOLATED, 10.0),
        (Sign.MEMORY, State.ISOLATED, 30.0),  # it drains first
        (Sign.HANG, State.READY, 0.0),  # held by the floor: nothing but a restart can repair it
        (Sign.REFUSED, State.READY, 3.0),  # so does its port: nobody gets an answer
        (Sign.BACKLOG, State.READY, 10.0),  # it may answer a part of its traffic
        (Sign.BACKLOG, State.ISOLATED, 5.0),
        (Sign.STATUS, State.SUSPECT, 10.0),
    ],
)
def test_each_sign_has_its_patience_before_the_restart(sign: Sign, state: State, patience_s: float) -> None:
    one = bad(1, sign, state)
    assert condemned(one, now=100.0 + patience_s - 0.01) == [] or patience_s == 0.0
    [decision] = condemned(one, now=100.0 + patience_s)
    assert (decision.rule, decision.subject) == ("R11", "web/1")
    assert decision.sentence == f"is restarted: it is {sign.value}"


@pytest.mark.parametrize("stop_timeout_s", [0.0, 300.0])
@pytest.mark.parametrize(("sign", "patience_s"), [(Sign.REFUSED, 3.0), (Sign.BACKLOG, 10.0), (Sign.STATUS, 10.0)])
def test_how_long_a_replica_may_take_to_end_is_not_how_long_the_only_one_may_fail(
    sign: Sign, patience_s: float, stop_timeout_s: float
) -> None:
    alone = service(replicas=1, restart=Restart(stop_timeout_s=stop_timeout_s))
    for now, rules in ((99.99 + patience_s, []), (100.0 + patience_s, ["R11"])):
        decisions = restart.condemn(alone, [bad(1, sign, State.READY)], NOTHING_SHARED, Bucket(2.0, now), now)
        assert [one.rule for one in decisions] == rules


def test_replicas_that_all_refuse_are_not_restarted_in_haste() -> None:
    both, shared = (bad(1, Sign.REFUSED, State.READY), bad(2, Sign.REFUSED, State.READY)), frozenset({Sign.REFUSED})
    assert condemned(*both, now=109.9, shared=shared) == []
    assert [one.rule for one in condemned(*both, now=110.0, shared=shared)] == ["R11"]


@pytest.mark.parametrize(
    ("sign", "grace_s"),
    [(Sign.STOPPED, 0.0), (Sign.HANG, 1.0), (Sign.SILENT, 1.0), (Sign.FOREIGN, 1.0), (Sign.STATUS, 10.0)],
)
def test_what_cannot_hear_a_signal_gets_little_grace(sign: Sign, grace_s: float) -> None:
    [decision] = condemned(bad(1, sign), now=1000.0)
    assert decision.change == End(standing(1).slot, grace_s, failed=True)


def test_a_replica_over_its_memory_limit_is_ended_as_soon_as_it_is_drained() -> None:
    assert condemned(bad(1, Sign.MEMORY, in_flight=3), now=101.0) == []
    assert [one.rule for one in condemned(bad(1, Sign.MEMORY, in_flight=0), now=101.0)] == ["R11"]


def test_failed_requests_alone_restart_a_replica_only_when_it_relapses() -> None:
    first = bad(1, Sign.REQUESTS)
    assert condemned(first, now=10_000.0) == []
    relapsed = replace(first, history=History(relapses=1))
    assert [one.rule for one in condemned(relapsed, now=100.0)] == ["R11"]


@pytest.mark.parametrize("sign", [Sign.STATUS, Sign.CONTENT])
def test_a_shared_error_restarts_nobody(sign: Sign) -> None:
    assert condemned(bad(1, sign), bad(2, sign), now=10_000.0, shared=frozenset({sign})) == []


@pytest.mark.parametrize(
    ("view", "endpoint", "patience_s"),
    [
        (View.WAITS, "http /healthz", 0.0),
        (View.UNSEEN, "http /healthz", 0.0),
        (View.ANSWERS, "http /healthz", None),  # HAProxy asks the same, and is answered
        (View.UP, "http /healthz", None),
        (View.ANSWERS, "http /export", 10.0),
        (View.UNSEEN, "http /export", 0.0),
    ],
)
def test_who_is_silent_to_the_monitor_alone_is_not_restarted(
    view: View, endpoint: str, patience_s: float | None
) -> None:
    one = bad(1, Sign.HANG, view=view, verdict=replace(verdict(Sign.HANG), endpoint=endpoint))
    if patience_s is None:
        assert condemned(one, now=10_000.0) == []
    else:
        assert condemned(one, now=100.0 + patience_s - 0.01) == [] or patience_s == 0.0
        assert [decision.rule for decision in condemned(one, now=100.0 + patience_s)] == ["R11"]


@pytest.mark.parametrize("sign", [Sign.HANG, Sign.SILENT, Sign.REFUSED])
def test_replicas_that_share_a_hang_are_restarted_one_at_a_time(sign: Sign) -> None:
    both = bad(1, sign), bad(2, sign)
    shared = frozenset({sign})
    assert [one.subject for one in condemned(*both, now=10_000.0, shared=shared)] == ["web/1"]
    assert condemned(standing(1, State.STARTING, 10_000.0), both[1], now=10_000.0, shared=shared) == []


def test_what_did_not_answer_in_time_is_ended() -> None:
    starting = standing(1, State.STARTING, 100.0)
    assert condemned(starting, now=159.9) == []
    [decision] = condemned(starting, now=160.0)
    assert (decision.rule, decision.change) == ("R13", End(starting.slot, 10.0, failed=True))


def test_one_that_is_late_is_ended_only_when_others_have_answered_what_was_asked_after_its_time() -> None:
    late = replace(standing(1, State.STARTING, 100.0), heard_at=159.5)
    assert condemned(late, now=162.0) == [], "the network may have failed since"
    assert [one.rule for one in condemned(replace(late, heard_at=160.2), now=162.0)] == ["R13"]


def test_a_pause_while_it_starts_is_given_back() -> None:
    paused = replace(standing(1, State.STARTING, 100.0), stopped_s=2.0)
    assert condemned(paused, now=161.9) == []
    assert [one.rule for one in condemned(paused, now=162.0)] == ["R13"]


@pytest.mark.parametrize(("sign", "grace_s"), [(Sign.FOREIGN, 10.0), (Sign.STOPPED, 0.0)])
def test_a_starting_replica_that_cannot_recover_is_ended_before_its_time_is_up(sign: Sign, grace_s: float) -> None:
    starting = bad(1, sign, State.STARTING)
    [decision] = condemned(starting, now=1.0)
    assert (decision.rule, decision.sentence) == ("R14", f"is ended: it is {sign.value}")
    assert decision.change == End(starting.slot, grace_s, failed=True)


@pytest.mark.parametrize("sign", [Sign.REFUSED, Sign.HANG, Sign.STATUS])
def test_a_replica_that_does_not_answer_yet_may_go_on_starting(sign: Sign) -> None:
    assert condemned(bad(1, sign, State.STARTING), now=1.0) == []


def test_a_slot_that_waits_for_its_next_replica_holds_up_the_next_shared_restart() -> None:
    waiting = replace(standing(1, State.STOPPED), history=History(failures=1, next_start_at=100.1))
    hanging, shared = bad(2, Sign.HANG), frozenset({Sign.HANG})
    assert condemned(waiting, hanging, now=100.0, shared=shared) == []
    assert [one.subject for one in condemned(waiting, hanging, now=100.2, shared=shared)] == ["web/2"]


def test_what_outlives_its_grace_is_killed() -> None:
    stopping = standing(1, State.STOPPING)
    assert stopping.replica is not None
    stopping = replace(stopping, replica=replace(stopping.replica, stop_deadline_at=50.0))
    assert condemned(stopping, now=49.9) == []
    [decision] = condemned(stopping, now=50.0)
    assert (decision.rule, decision.change) == ("R12", Kill(stopping.slot))


@pytest.mark.parametrize(("replicas", "capacity"), [(1, 2.0), (3, 2.0), (20, 2.0), (50, 5.0), (1000, 100.0)])
def test_the_bucket_holds_a_tenth_of_the_replicas_and_at_least_two(replicas: int, capacity: float) -> None:
    assert Bucket.capacity(replicas) == capacity


@pytest.mark.parametrize(("elapsed_s", "tokens"), [(0.0, 0.5), (2.5, 1.0), (5.0, 1.5), (100.0, 2.0)])
def test_the_bucket_fills_by_a_token_in_five_seconds(elapsed_s: float, tokens: float) -> None:
    assert Bucket(0.5, 10.0).refilled(3, 10.0 + elapsed_s) == Bucket(tokens, 10.0 + elapsed_s)


def test_only_ordered_restarts_take_tokens() -> None:
    decisions = condemned(bad(1, Sign.HANG), standing(2, State.STARTING, 0.0), now=100.0)
    assert sorted(one.rule for one in decisions) == ["R11", "R13"]
    assert restart.spent(Bucket(2.0, 100.0), 3, decisions, 100.0) == Bucket(1.0, 100.0)
    assert restart.spent(Bucket(1.0, 50.0), 3, [], 100.0) == Bucket(1.0, 50.0)


@given(worlds.facts(), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8))
def test_restarts_never_exceed_the_bucket_however_often_it_is_decided(facts: turn.Facts, gaps: list[float]) -> None:
    now, bucket, ordered = worlds.NOW, facts.bucket, 0
    count = len(facts.standings)
    allowed = bucket.refilled(count, now).tokens
    for gap_s in gaps:
        now += gap_s
        allowed += gap_s / restart.REFILL_S
        decisions = restart.condemn(facts.desired.service, facts.standings, NOTHING_SHARED, bucket, now)
        ordered += sum(one.rule == "R11" for one in decisions)
        bucket = restart.spent(bucket, count, decisions, now)
        assert bucket.tokens >= 0.0
    assert ordered <= allowed + 1e-6


@pytest.mark.parametrize(
    ("before", "ready_s", "failures", "delay_s"),
    [
        (History(), None, 1, 0.1),
        (History(failures=1), 0.5, 2, 0.2),
        (History(failures=7), 9.9, 8, 12.8),
        (History(failures=7), 10.0, 1, 0.1),  # a healthy spell
        (History(failures=50), None, 51, 30.0),
    ],
)
def test_the_back_off_grows_with_each_failure_and_a_healthy_spell_resets_it(
    before: History, ready_s: float | None, failures: int, delay_s: float
) -> None:
    after = restart.ended(before, Restart(), ready_s, 100.0, 0.5)
    assert after.failures == failures
    assert after.next_start_at == pytest.approx(100.0 + delay_s)


def test_a_planned_end_is_no_failure_and_the_next_replica_may_start_at_once() -> None:
    after = restart.ended(History(3, 5, 999.0, 2, 50.0), Restart(), None, 100.0, None)
    assert after == History(3, 0, 100.0, 0, None)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0, exclude_max=True))
def test_a_slot_never_stops_trying(failures: int, jitter: float) -> None:
    after = restart.ended(History(failures=failures), Restart(), None, 0.0, jitter)
    assert 0.0 < after.next_start_at <= 1.25 * Restart().backoff_s_max


@pytest.mark.parametrize(("failures", "looping"), [(0, False), (2, False), (3, True)])
def test_three_failures_in_a_row_are_a_crash_loop(failures: int, looping: bool) -> None:
    assert restart.crash_looping(History(failures=failures)) is looping


@pytest.mark.parametrize(("readmitted_at", "relapses"), [(None, 0), (100.0, 3), (99.0, 3), (-499.0, 3), (-500.0, 0)])
def test_a_conviction_soon_after_a_readmission_is_a_relapse(readmitted_at: float | None, relapses: int) -> None:
    assert restart.convicted(History(relapses=2, readmitted_at=readmitted_at), 100.0).relapses == relapses


@pytest.mark.parametrize(
    ("one", "look_at"),
    [
        (standing(1), float("inf")),
        (Standing(standing(1).slot), float("inf")),
        (standing(1, State.STARTING, 100.0), 160.0),
        (bad(1, Sign.STATUS), 110.0),
        (bad(1, Sign.HANG), 101.0),
    ],
)
def test_the_next_look_is_when_time_alone_makes_something_due(one: Standing, look_at: float) -> None:
    assert restart.look_again_at(WEB, [one], FULL, 100.0) == look_at
