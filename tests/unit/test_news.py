"""What is told once: a note that holds, and one that comes back a moment later."""

from dataclasses import replace

from facts import desired

from perdure.control import news
from perdure.control.world import ServiceState
from perdure.detect import suspect
from perdure.model.decision import Advance, Decision, Note
from perdure.model.event import Severity
from perdure.model.replica import Event, Slot

FAILING = Decision("R07", "web", "half of them fail", Note("shared requests"), {}, Severity.ALARM)
FLOOR = Decision("R06", "web/2", "keeps its traffic", Note("floor"), {}, Severity.ALARM)
ISOLATED = Decision("R01", "web/1", "is isolated", Advance(Slot("web", 1), Event.CONVICTED))


def fresh() -> ServiceState:
    wanted = desired()
    return ServiceState(wanted, suspect.policy(wanted.service))


def rules(service: ServiceState, now: float, *decisions: Decision) -> list[str]:
    return [one.rule for one in news.of(service, decisions, now)]


def test_a_note_is_told_when_it_begins_to_hold_and_shown_as_long_as_it_does() -> None:
    service = fresh()
    assert rules(service, 1.0, FAILING, FLOOR) == ["R07", "R06"]
    assert rules(service, 20.0, FAILING) == []
    assert service.notes == {"web shared requests": "half of them fail"}


def test_what_is_shown_of_one_slot_says_which_one() -> None:
    service = fresh()
    rules(service, 1.0, FAILING, FLOOR)
    assert [*service.notes.values()] == ["half of them fail", "web/2 keeps its traffic"]


def test_what_is_shown_says_whose_fault_it_is() -> None:
    service = fresh()
    rules(service, 1.0, replace(FAILING, facts={"scope": "dependency"}))
    assert [*service.notes.values()] == ["half of them fail (scope: dependency)"]


def test_a_note_that_comes_back_within_ten_seconds_is_the_same_one() -> None:
    service = fresh()
    assert rules(service, 1.0, FAILING) == ["R07"]
    assert rules(service, 2.0) == [] and service.notes == {}
    assert rules(service, 11.9, FAILING) == []
    assert service.notes == {"web shared requests": "half of them fail"}
    assert rules(service, 13.0) == []
    assert rules(service, 23.1, FAILING) == ["R07"]


def test_a_note_that_flaps_for_long_is_told_once_and_another_one_at_once() -> None:
    service = fresh()
    told = [rule for second in range(60) for rule in rules(service, float(second), *[FAILING][: second % 2])]
    assert told == ["R07"]
    assert rules(service, 60.0, FLOOR) == ["R06"]


def test_what_is_to_be_done_is_never_held_back_and_comes_first() -> None:
    service = fresh()
    assert rules(service, 1.0, FAILING, ISOLATED) == ["R01", "R07"]
    assert rules(service, 1.1, FAILING, ISOLATED) == ["R01"]


def test_what_ended_long_ago_is_forgotten() -> None:
    service = fresh()
    rules(service, 1.0, FAILING)
    rules(service, 2.0)
    rules(service, 13.0)
    assert service.noted_at == {}
