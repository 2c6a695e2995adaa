"""Markers that are set when all is well: what counts as well, what is done each hour, and what a person may do."""

import time
from dataclasses import replace

import pytest
from facts import replica, verdict
from test_preserve import Case
from test_prevent_snapshot import NOW, taken

from perdure.control import keepsakes, markers
from perdure.control.world import SlotState
from perdure.model.errors import RefusedError, UnavailableError
from perdure.model.replica import Slot, State
from perdure.model.service import Standby
from perdure.model.verdict import Sign
from perdure.prevent.marker import AUTOMATIC_MAX, automatic


def names(case: Case) -> list[str]:
    """The markers that were set, those of the oldest snapshot first."""
    return [name for one in case.service.preserved.kept for name in one.marks]


async def hours(case: Case, count: float) -> None:
    """Let time pass, a twelfth of an hour at a time."""
    for _ in range(round(12 * count)):
        await case.step(300.0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper takes no time."""
    monkeypatch.setattr("perdure.sim.keeper.TAKES_S", 0.0)


@pytest.mark.parametrize("standby", list(Standby))
async def test_after_a_healthy_hour_the_newest_snapshot_is_marked_and_once_an_hour_from_then_on(
    standby: Standby,
) -> None:
    case = Case(standby)
    case.clock.at = 1000.0
    await case.step()
    await hours(case, 11 / 12)
    assert names(case) == []
    await hours(case, 1 / 12)
    [name] = names(case)
    [kept] = [one for one in case.service.preserved.kept if one.marks]
    assert automatic(name) and name == markers.named(kept.manifest)
    assert ("D20", "web") in case.told.subjects
    await hours(case, 0.9)
    assert names(case) == [name]
    await hours(case, 4.0)
    assert len(names(case)) == AUTOMATIC_MAX and name not in names(case)
    assert case.told.subjects.count(("D20", "web")) == 5
    await case.step(60.0)
    assert len(case.ids) <= 3 + AUTOMATIC_MAX + 2, "what has lost its name is removed like any other"


def test_the_name_is_the_instant_of_the_copy_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert markers.named(taken(1, age_s=NOW - 1_700_000_000.0).manifest) == "healthy-20231114-2213"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "what",
    [
        "suspected",
        "isolated",
        "restarted",
        "problem",
        "no right",
        "lossy",
        "stopped",
        "missing",
        "verdict",
        "old",
        "more",
    ],
)
async def test_whatever_is_not_as_wanted_begins_the_hour_anew(what: str) -> None:
    case = Case(Standby.WARM)
    service = case.service
    await case.step()
    await hours(case, 0.9)
    good = (service.slots[1].replica, service.slots[2].replica, service.term, service.desired)
    assert good[1] is not None
    match what:
        case "suspected":
            service.slots[1].replica = replica(1, State.SUSPECT, epoch=1)
        case "isolated":
            service.slots[2].replica = replica(2, State.ISOLATED)
        case "restarted":
            good = (good[0], replace(good[1], since_at=case.clock.at), *good[2:])
            service.slots[2].replica = good[1]
        case "problem":
            case.shelf.damaged.add("web/1")
        case "no right":
            service.term = replace(service.term, holds=False)
        case "lossy":
            service.lossy = True
            service.slots[1].replica = replica(1, State.STARTING, epoch=1)
        case "stopped":
            service.desired = replace(service.desired, stopped=True)
        case "missing":
            service.slots[2].replica = None
        case "verdict":
            service.slots[1].verdict = verdict(Sign.STOPPED)
        case "old":
            service.desired = replace(service.desired, release="web@2")
        case "more":
            service.slots[4] = SlotState(Slot("web", 4), replica(4))
    await hours(case, 1 / 12)
    service.slots[1].replica, service.slots[2].replica, service.term, service.desired = good
    service.slots[1].verdict, service.lossy = None, False
    service.slots.pop(4, None)
    case.shelf.damaged.clear()
    await hours(case, 0.8)
    assert names(case) == []
    await hours(case, 0.3)
    assert len(names(case)) == 1


async def test_a_snapshot_that_cannot_be_restored_gets_no_name() -> None:
    case = Case()
    case.shelf.unrestorable = True
    await hours(case, 1.5)
    assert names(case) == []


async def test_after_going_back_a_snapshot_of_the_new_history_is_marked() -> None:
    case = Case()
    await hours(case, 1.5)
    case.service.term = replace(case.service.term, data_epoch=1)
    await hours(case, 1.0)
    histories = {one.manifest.data_epoch for one in case.service.preserved.kept if one.marks}
    assert histories == {0, 1}


async def test_a_name_that_is_taken_away_keeps_nothing() -> None:
    case = Case()
    made = keepsakes.Keepsakes(case.preserver)
    await made.mark("web", "v1", None)
    assert await made.unmark("web", "v1") == ["s-0001 of web is no longer marked v1"]
    assert [one.marks for one in case.shelf.kept["web"]] == [()]
    with pytest.raises(UnavailableError, match="no snapshot of web is marked v1"):
        await made.unmark("web", "v1")


async def test_a_person_cannot_give_a_name_that_would_be_taken_away_again() -> None:
    case = Case()
    made = keepsakes.Keepsakes(case.preserver)
    with pytest.raises(RefusedError, match="given by Perdure"):
        await made.mark("web", "healthy-20261125-1405", None)
    assert await made.mark("web", "healthy-before-import", None)
