"""What is remembered of a slot between two turns: since when there has been a verdict on its replica."""

from dataclasses import replace

import pytest
from facts import HEALTHZ, conviction, desired, replica, service

from perdure.control import appraise
from perdure.control.world import ServiceState, SlotState
from perdure.detect import peers, suspect, traffic
from perdure.model.evidence import Beat, Outcome, Probed, Served
from perdure.model.replica import Slot, State
from perdure.model.service import Heartbeat
from perdure.model.verdict import Sign

RULES = suspect.policy(service())
CONVICTED_AT = 5.0


def asked(slot: SlotState, at: float, *outcomes: Outcome) -> None:
    """Ask its check in a row, and take a look."""
    for number, outcome in enumerate(outcomes):
        begun_at = at + number / 10
        probed = Probed("web/1#1", HEALTHZ.label, begun_at, begun_at + 0.01, outcome)
        slot.belief = suspect.observe(slot.belief, probed, RULES)
    appraise.standings(ServiceState(desired(), RULES, {1: slot}), at + 1.0)


def test_what_a_starting_replica_has_not_shown_yet_is_said_in_words() -> None:
    told = suspect.policy(service(heartbeat=Heartbeat(1.0)))
    slot = SlotState(Slot("web", 1), replica(1, State.STARTING))
    known = ServiceState(desired(told.service), told, {1: slot})

    def awaits() -> str:
        return appraise.awaits(known, slot, 10.0)

    assert awaits() == "http /healthz has had no good answer"
    refused = Probed("web/1#1", HEALTHZ.label, 1.0, 1.0, Outcome.REFUSED, "connection refused")
    slot.belief = suspect.observe(slot.belief, refused, told)
    assert awaits() == "http /healthz has had no good answer (the last one was: connection refused)"
    slot.belief = suspect.observe(slot.belief, Probed("web/1#1", HEALTHZ.label, 2.0, 2.0, Outcome.GOOD), told)
    assert awaits() == "it has sent no heartbeat"
    slot.belief = suspect.observe(slot.belief, Beat("web/1#1", 3.0), told)
    assert awaits() == "it does not listen on its port, 21001"
    slot.port_checked = True
    assert awaits() == ""
    slot.exited = True
    assert awaits() == "it has ended"


@pytest.mark.parametrize("others", [Outcome.STATUS, Outcome.REFUSED])
def test_an_isolated_replica_whose_check_fails_every_other_time_is_not_given_its_time_anew(others: Outcome) -> None:
    slot = SlotState(Slot("web", 1), replica(1, State.ISOLATED), conviction=conviction(Sign.STATUS, CONVICTED_AT))
    asked(slot, 10.0, Outcome.STATUS, Outcome.STATUS, Outcome.STATUS, Outcome.GOOD)
    assert (slot.verdict, slot.verdict_since_at) == (None, CONVICTED_AT)
    asked(slot, 20.0, others)
    assert slot.verdict is not None and slot.verdict_since_at == CONVICTED_AT


def test_a_pause_of_the_monitor_is_given_back_to_an_isolated_replica() -> None:
    slot = SlotState(Slot("web", 1), replica(1, State.ISOLATED), conviction=conviction(Sign.STATUS, CONVICTED_AT))
    slot.verdict_since_at = CONVICTED_AT + 60.0
    asked(slot, 70.0, Outcome.STATUS, Outcome.STATUS, Outcome.STATUS)
    assert slot.verdict_since_at == CONVICTED_AT + 60.0


@pytest.mark.parametrize("others", [Outcome.STATUS, Outcome.REFUSED])
def test_while_it_serves_a_good_answer_or_another_sign_begins_anew(others: Outcome) -> None:
    slot = SlotState(Slot("web", 1), replica(1))
    asked(slot, 10.0, Outcome.STATUS, Outcome.STATUS, Outcome.STATUS)
    assert slot.verdict_since_at == 11.0
    asked(slot, 20.0, Outcome.GOOD)
    assert slot.verdict_since_at is None
    asked(slot, 30.0, others)
    assert slot.verdict_since_at == 31.0


@pytest.mark.parametrize(("state", "stands"), [(State.READY, False), (State.ISOLATED, True)])
def test_a_few_failures_of_the_evening_are_no_verdict_all_night_unless_it_was_isolated_for_them(
    state: State, stands: bool
) -> None:
    """The only replica keeps its traffic, so its service was degraded until somebody asked it again."""
    isolated_for = conviction(Sign.REQUESTS, CONVICTED_AT) if state is State.ISOLATED else None
    slot = SlotState(Slot("web", 1), replica(1, state), conviction=isolated_for)
    seen = traffic.count(traffic.Seen(), Served("web/1#1", 10.0, 3, 3))
    slot.belief = replace(slot.belief, seen=traffic.observe(seen, Served("web/1#1", 10.0, 3, 3), peers.Peers()))
    alone = ServiceState(desired(service(replicas=1)), RULES, {1: slot})
    for at, convicts in ((10.1, True), (3_600.0, stands)):
        (standing, *_) = appraise.standings(alone, at)
        assert (standing.verdict is not None) is convicts
