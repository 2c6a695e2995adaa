"""Which slots get a replica, lose it, or have it replaced, one step at a time."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import worlds
from facts import conviction, desired, service, standing
from hypothesis import given

from perdure.control import turn
from perdure.model.decision import Advance, Begin, Decision, End
from perdure.model.replica import SERVING, Event, Slot, State
from perdure.model.standing import Desired, History, Standing
from perdure.model.verdict import Sign
from perdure.prevent import replicate

WANTED = desired()
NEW_RELEASE = desired(release="web@2")
GONE = desired(stopped=True)
DRAINED = desired(drained=(1,))
EMPTY = Standing(Slot("web", 1))
ROOM = replicate.Room(True, range(1, 10))


def decided(wanted: Desired, *standings: Standing, ready: bool = True, now: float = 100.0) -> list[Decision]:
    return replicate.decide(wanted, standings, replicate.Room(ready, [one.slot.number for one in standings]), now)


def rules(wanted: Desired, *standings: Standing, now: float = 100.0) -> list[tuple[str, str]]:
    return [(one.rule, one.subject) for one in decided(wanted, *standings, now=now)]


def test_an_empty_slot_gets_a_replica() -> None:
    [decision] = decided(WANTED, EMPTY)
    assert (decision.rule, decision.change) == ("P01", Begin(EMPTY.slot))


@pytest.mark.parametrize("state", [None, State.STOPPED])
def test_a_slot_waits_for_its_back_off(state: State | None) -> None:
    empty = standing(1, state) if state else EMPTY
    waiting = replace(empty, history=History(next_start_at=100.1))
    assert decided(WANTED, waiting, now=100.0) == []
    assert rules(WANTED, waiting, now=100.1) == [("P01", "web/1")]
    assert replicate.next_step_at(WANTED, [waiting], ROOM) == 100.1


def test_a_new_release_does_not_wait_for_the_back_off_of_the_old_one() -> None:
    waiting = replace(standing(1, State.STOPPED), history=History(failures=9, next_start_at=130.0))
    assert rules(NEW_RELEASE, waiting) == [("P01", "web/1")]
    assert rules(desired(generation=2), waiting) == [("P01", "web/1")]
    assert decided(WANTED, waiting) == []


def test_nothing_is_started_before_what_it_depends_on_serves() -> None:
    assert decided(WANTED, EMPTY, ready=False) == []


@pytest.mark.parametrize(
    ("one", "change"),
    [
        (standing(1, State.READY), Advance(EMPTY.slot, Event.DRAIN_WANTED)),
        (standing(1, State.SUSPECT), Advance(EMPTY.slot, Event.DRAIN_WANTED)),
        (standing(1, State.DRAINING, in_flight=0), End(EMPTY.slot, 10.0, failed=False)),
        (standing(1, State.ISOLATED), End(EMPTY.slot, 10.0, failed=False)),
        (standing(1, State.STARTING), End(EMPTY.slot, 10.0, failed=False)),
    ],
)
def test_what_is_no_longer_wanted_is_drained_and_then_ended(one: Standing, change: Advance | End) -> None:
    [decision] = decided(GONE, one)
    assert (decision.rule, decision.change) == ("P02", change)
    [decision] = decided(desired(replicas=0), one)
    assert decision.rule == "P02"


@pytest.mark.parametrize(
    "one",
    [EMPTY, standing(1, State.STOPPED), standing(1, State.STOPPING), standing(1, State.DRAINING, 90.0, in_flight=1)],
)
def test_what_is_gone_or_going_is_left_alone(one: Standing) -> None:
    assert decided(GONE, one) == []


@pytest.mark.parametrize(
    ("in_flight", "now", "over"),
    [
        (0, 100.0, True),
        (1, 100.0, False),
        (None, 100.0, False),
        (1, 129.9, False),
        (1, 130.0, True),
        (None, 130.0, True),
    ],
)
def test_draining_ends_with_the_last_request_or_at_its_deadline(in_flight: int | None, now: float, over: bool) -> None:
    one = standing(1, State.DRAINING, 100.0, in_flight=in_flight)
    assert bool(decided(GONE, one, now=now)) is over
    assert bool(decided(DRAINED, one, now=now)) is over
    assert replicate.next_step_at(GONE, [one], ROOM) == 130.0


def test_a_service_without_an_address_has_nothing_to_drain() -> None:
    worker = desired(service(listen=None), stopped=True)
    assert rules(worker, standing(1, State.DRAINING, 100.0)) == [("P02", "web/1")]


def test_an_outdated_replica_that_does_not_serve_is_replaced_at_once() -> None:
    for state in (State.STARTING, State.ISOLATED):
        [decision] = decided(NEW_RELEASE, standing(1, state), standing(2))[:1]
        assert (decision.rule, decision.change) == ("P03", End(Slot("web", 1), 10.0, failed=False))


def test_a_drained_slot_stays_out_until_it_is_undrained() -> None:
    ready, draining, out = (standing(1, state, in_flight=0) for state in (State.READY, State.DRAINING, State.ISOLATED))
    assert [one.change for one in decided(DRAINED, ready)] == [Advance(ready.slot, Event.DRAIN_WANTED)]
    assert rules(DRAINED, ready) == [("P04", "web/1")]
    assert rules(DRAINED, draining) == [("P07", "web/1")]
    assert rules(DRAINED, out) == []
    assert rules(WANTED, out) == [("P05", "web/1")]
    assert rules(WANTED, draining) == [("P05", "web/1")]


def test_undraining_readmits_nobody_who_was_convicted() -> None:
    assert decided(WANTED, standing(1, State.ISOLATED, conviction=conviction(Sign.STATUS))) == []


def test_a_replica_that_answered_becomes_ready() -> None:
    answered = standing(1, State.STARTING, awaits="")
    assert rules(WANTED, answered) == [("P06", "web/1")]
    assert rules(DRAINED, answered) == [("P06", "web/1")]
    assert rules(WANTED, standing(1, State.STARTING)) == []


def test_a_roll_drains_one_replica_and_goes_on_only_when_all_others_serve() -> None:
    old = [standing(number) for number in (1, 2, 3)]
    [decision] = decided(NEW_RELEASE, *old)
    assert (decision.rule, decision.change) == ("P08", Advance(Slot("web", 1), Event.DRAIN_WANTED))
    for state in (State.DRAINING, State.STOPPING, State.STARTING, State.STOPPED):
        first = standing(1, state, 90.0, in_flight=1)
        assert not any(rule == "P08" for rule, _ in rules(NEW_RELEASE, first, *old[1:]))


def test_a_slot_that_a_person_drained_does_not_hold_up_a_roll() -> None:
    wanted = desired(release="web@2", drained=(1,))
    out = standing(1, State.ISOLATED)
    assert out.replica is not None
    renewed = replace(out, replica=replace(out.replica, release="web@2"))
    assert rules(wanted, renewed, standing(2), standing(3)) == [("P08", "web/2")]


@given(worlds.facts())
def test_each_slot_gets_at_most_one_step(facts: turn.Facts) -> None:
    decisions = decided(facts.desired, *facts.standings, now=worlds.NOW)
    rolled = {one.subject for one in decisions if one.rule == "P08"}
    stepped = [one.subject for one in decisions if one.rule != "P08"]
    assert len(set(stepped)) == len(stepped)
    assert len(rolled) <= 1


@given(worlds.facts())
def test_a_roll_never_takes_a_second_replica_out_of_service(facts: turn.Facts) -> None:
    decisions = decided(facts.desired, *facts.standings, now=worlds.NOW)
    if any(one.rule == "P08" for one in decisions):
        wanted = [one for one in facts.standings if facts.desired.wants(one.slot.number)]
        assert all(one.serving for one in wanted if one.slot.number not in facts.desired.drained)


@given(worlds.facts())
def test_no_process_is_started_in_a_slot_that_may_have_one(facts: turn.Facts) -> None:
    live = {str(one.slot) for one in facts.standings if one.live}
    decisions = decided(facts.desired, *facts.standings, now=worlds.NOW)
    assert live.isdisjoint(one.subject for one in decisions if isinstance(one.change, Begin))


def test_a_rolling_restart_reaches_every_slot_and_never_costs_more_than_one_replica() -> None:
    wanted = desired(generation=2)
    slots = [standing(number) for number in (1, 2, 3)]
    for step in range(50):
        decisions = decided(wanted, *slots, now=float(step))
        if not decisions:
            break
        slots = [_carried_out(one, decisions, float(step)) for one in slots]
        assert sum(one.serving for one in slots) >= 2
    assert [one.replica and one.replica.generation for one in slots] == [2, 2, 2]
    assert all(one.serving for one in slots)


def _carried_out(one: Standing, decisions: Sequence[Decision], now: float) -> Standing:
    """The standing after its decision, when everything goes well at once."""
    mine = [decision.change for decision in decisions if decision.subject == str(one.slot)]
    match mine:
        case [Advance(_, Event.DRAIN_WANTED)]:
            return standing(one.slot.number, State.DRAINING, now, in_flight=0)
        case [End()]:
            return standing(one.slot.number, State.STOPPED, now)
        case [Begin()]:
            begun = standing(one.slot.number, State.STARTING, now, awaits="")
        case [Advance(_, Event.ANSWERED)]:
            begun = standing(one.slot.number, State.READY, now)
        case _:
            return one
    assert begun.replica is not None
    return replace(begun, replica=replace(begun.replica, run=2, generation=2))


@given(worlds.facts())
def test_only_serving_replicas_are_drained(facts: turn.Facts) -> None:
    serving = {one.slot for one in facts.standings if one.replica is not None and one.replica.state in SERVING}
    for decision in decided(facts.desired, *facts.standings, now=worlds.NOW):
        if isinstance(decision.change, Advance) and decision.change.event is Event.DRAIN_WANTED:
            assert decision.change.slot in serving
