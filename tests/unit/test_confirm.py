"""Is a replica stuck, or do all wait for the same? What the answers to what clients ask most say."""

import pytest
from facts import desired, replica, service

from perdure.control import appraise, turn
from perdure.control.world import ServiceState, SlotState
from perdure.detect import confirm, probe, stall, suspect
from perdure.detect.stall import Stall
from perdure.model.check import CONFIRMING
from perdure.model.evidence import Outcome, Probed
from perdure.model.replica import Slot, State
from perdure.model.verdict import Sign

LABEL = f"{CONFIRMING}/orders"
GOOD, TIMEOUT = Outcome.GOOD, Outcome.TIMEOUT


def asked(*answers: tuple[float, float, Outcome]) -> dict[str, probe.Asked]:
    """The evidence of questions: when each was asked, how long it took, and what came back."""
    seen = probe.Asked(LABEL)
    for at, took_s, outcome in answers:
        seen = probe.observe(seen, Probed("web/1#1", LABEL, at, at + took_s, outcome))
    return {LABEL: seen}


@pytest.mark.parametrize(
    ("answers", "now", "answered", "late"),
    [
        (((1.0, 0.02, GOOD),), 1.1, True, False),
        (((1.0, 0.6, GOOD),), 1.7, True, True),
        (((1.0, 0.6, GOOD), (2.0, 0.02, GOOD), (3.0, 0.02, GOOD)), 3.1, True, True),
        (((1.0, 0.6, GOOD), (11.0, 0.02, GOOD)), 11.1, True, True),
        (((1.0, 0.6, GOOD), (12.0, 0.02, GOOD)), 12.1, True, False),
        (((1.0, 1.0, TIMEOUT),), 2.1, False, True),
        (((1.0, 1.0, TIMEOUT), (2.0, 0.02, GOOD)), 2.1, True, True),
        (((1.0, 1.0, TIMEOUT),), 5.1, False, False),
        (((1.0, 0.02, GOOD),), 4.1, False, False),
    ],
)
def test_what_an_answer_says_and_for_how_long(
    answers: tuple[tuple[float, float, Outcome], ...], now: float, answered: bool, late: bool
) -> None:
    each = asked(*answers)
    assert confirm.answers(each, now) is answered
    assert confirm.late(each, now) is late


def test_a_silence_that_was_not_watched_is_forgotten_and_declared_checks_are_not() -> None:
    each = asked((1.0, 1.0, TIMEOUT)) | {"http /healthz": probe.Asked("http /healthz")}
    assert confirm.watched(each, 4.9).keys() == each.keys()
    assert confirm.watched(each, 5.1)["http /healthz"] == each["http /healthz"]
    assert confirm.watched(each, 5.1)[LABEL] == probe.Asked(LABEL, slow_at=2.0)
    assert confirm.watched(each, 12.1).keys() == {"http /healthz"}


def waiting(*questions: dict[str, probe.Asked]) -> ServiceState:
    """A service whose first replica has not answered five requests for 3 s, while the others answer; what each said to
    the monitor.
    """
    declared = service(replicas=len(questions))
    slots = {}
    for number, each in enumerate(questions, 1):
        open_ = ((10.0, 5),) if number == 1 else ()
        stalled = Stall(9.9 if number == 1 else 13.0, open_, 13.0, (5,) if number == 1 else (0,))
        belief = suspect.Belief(asked=each, stalled=stalled)
        slots[number] = SlotState(Slot("web", number), replica(number, State.READY), belief)
    return ServiceState(desired(declared), suspect.policy(declared), slots)


def rules(service_: ServiceState) -> set[str]:
    standings = appraise.standings(service_, 13.0)
    facts = turn.Facts(service_.desired, standings, True, service_.bucket)
    return {one.rule for one in turn.decide(facts, 13.0).decisions}


SILENT = asked((11.0, 1.0, TIMEOUT), (12.0, 1.0, TIMEOUT))
QUICK = asked((11.0, 0.01, GOOD), (12.0, 0.01, GOOD))
SLOWLY = asked((11.0, 0.9, GOOD), (12.0, 0.9, GOOD))


def test_a_replica_that_answers_nothing_is_isolated_when_its_peers_answer_soon() -> None:
    assert stall.overdue(waiting(SILENT, QUICK).slots[1].belief.stalled) == 5
    for peers in ([QUICK], [QUICK, QUICK], [QUICK, QUICK, QUICK, SLOWLY]):
        found = rules(waiting(SILENT, *peers))
        assert {"R01", "R11"} & found, peers
    assert {"R01", "R11"} & rules(waiting({}, {}, {}))


def test_a_replica_that_answers_what_clients_ask_most_is_not_stuck() -> None:
    assert not {"R01", "R11"} & rules(waiting(QUICK, QUICK, QUICK))


@pytest.mark.parametrize("peers", [[SLOWLY], [SILENT, QUICK], [SLOWLY, SLOWLY], [SILENT, SLOWLY, QUICK]])
def test_what_half_of_the_replicas_do_not_answer_soon_is_shared(peers: list[dict[str, probe.Asked]]) -> None:
    service_ = waiting(SILENT, *peers)
    assert not {"R01", "R11"} & rules(service_)
    assert Sign.STALLED in turn.shared_signs(appraise.standings(service_, 13.0), len(peers) + 1)
