"""Preserving state: snapshots, those that stand by brought to them, the last copy before a takeover, proofs."""

from dataclasses import replace

import pytest
from facts import replica, service
from heard import Heard
from test_claim import Hand
from test_own import Told

from perdure.control import keepsakes
from perdure.control.lineage import lag_s
from perdure.control.preserve import CAUGHT_UP_S_MAX, UNSAVED_AGAIN_S, Preserver
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import suspect
from perdure.model.errors import ConfigError, RefusedError, UnavailableError
from perdure.model.owner import Term
from perdure.model.replica import Slot, State
from perdure.model.service import Mode, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.model.standing import Desired
from perdure.sim.keeper import SimulatedKeeper, SimulatedShelf

KEEPING = Keeping(StateKind.SQLITE, "notes.db", every_s=10.0, keep=3)


class Case:
    """A service whose slot 1 is active; slots 2 and 3 stand by."""

    def __init__(self, standby: Standby = Standby.COLD) -> None:
        self.clock, self.shelf = Hand(), SimulatedShelf()
        declared = service(mode=Mode.ACTIVE_PASSIVE, standby=standby, state=KEEPING)
        warm = standby is Standby.WARM
        slots = {
            number: SlotState(Slot("web", number), replica(number, State.PASSIVE) if warm else None)
            for number in (2, 3)
        }
        slots[1] = SlotState(Slot("web", 1), replica(1, epoch=1))
        self.service = ServiceState(Desired(declared, "web@1", 3), suspect.policy(declared), slots)
        self.service.term = Term(owner=1, epoch=1, holds=True, takeable=True)
        self.told = Heard()
        self.preserver = Preserver(
            self.clock,
            SimulatedKeeper(self.shelf, self.clock),
            World({"web": self.service}),
            Told(),
            lambda slot: (),
            lambda: 0.5,
            lambda service: None,
            lambda slot: None,
            self.told,
        )

    async def step(self, after_s: float = 0.0) -> None:
        self.clock.at += after_s
        await self.preserver.step("web")

    def end(self, number: int) -> None:
        """The replica of a slot is gone."""
        slot = self.service.slots[number]
        assert slot.replica is not None
        slot.replica = replica(number, State.STOPPED, epoch=slot.replica.epoch)

    @property
    def ids(self) -> list[str]:
        return [one.manifest.id for one in self.service.preserved.kept]


@pytest.mark.parametrize("standby", list(Standby))
async def test_a_snapshot_is_taken_when_it_is_due_and_those_that_stand_by_are_brought_to_it(standby: Standby) -> None:
    case = Case(standby)
    case.shelf.write("web/1", "a")
    await case.step()
    assert case.ids == ["s-0001"] and case.shelf.states["web/2"] == case.shelf.states["web/3"] == ("a",)
    case.shelf.write("web/1", "b")
    await case.step(5.0)
    assert case.ids == ["s-0001"]
    assert lag_s(case.service, case.service.slots[2], case.clock.wall()) == pytest.approx(5.0)
    await case.step(5.0)
    assert case.ids == ["s-0001", "s-0002"] and case.shelf.states["web/3"] == ("a", "b")
    assert lag_s(case.service, case.service.slots[1], case.clock.wall()) == 0.0


async def test_a_slot_in_which_somebody_runs_who_does_not_stand_by_is_left_alone() -> None:
    case = Case()
    case.service.slots[2].replica = replica(2, State.STARTING)
    case.shelf.write("web/1", "a")
    await case.step()
    assert "web/2" not in case.shelf.states and case.shelf.states["web/3"] == ("a",)


async def test_nothing_is_taken_while_nobody_is_active_or_the_right_has_run_out() -> None:
    case = Case()
    case.service.term = Term(owner=1, epoch=1)
    await case.step()
    case.service.term = Term(takeable=True)
    await case.step()
    assert case.ids == []


async def test_those_that_nobody_relies_on_are_removed() -> None:
    case = Case()
    for _ in range(8):
        await case.step(20.0)
    assert case.ids == ["s-0001", "s-0006", "s-0007", "s-0008"] or len(case.ids) <= 5
    assert "s-0008" in case.ids and "s-0002" not in case.ids


async def test_before_another_slot_takes_over_it_is_brought_to_the_last_state_of_the_one_that_ended() -> None:
    case = Case()
    await case.step()
    case.shelf.write("web/1", "last words")
    case.end(1)
    assert await case.preserver.caught_up(case.service, Slot("web", 2))
    assert case.shelf.states["web/2"] == ("last words",)


async def test_the_slot_that_was_left_stands_by_with_the_last_state_before_there_is_a_new_snapshot() -> None:
    case = Case()
    await case.step()
    case.clock.at += 7.0
    case.end(1)
    assert await case.preserver.caught_up(case.service, Slot("web", 2))
    case.service.term = Term(owner=2, epoch=2, holds=True)
    case.clock.at += 2.0
    assert lag_s(case.service, case.service.slots[1], case.clock.wall()) == pytest.approx(2.0)


async def test_how_many_are_kept_is_unknown_until_a_new_daemon_has_looked() -> None:
    case = Case()
    before = keepsakes.told(case.service, 0.0)
    await case.step()
    after = keepsakes.told(case.service, 0.0)
    assert before is not None and before["snapshots"] is None
    assert after is not None and after["snapshots"] == 1


@pytest.mark.parametrize(("declares", "replicas", "expected"), [(True, 3, None), (True, 1, 0.0), (False, 3, 0.0)])
def test_how_long_a_copy_takes_is_unknown_until_there_was_one(
    declares: bool, replicas: int, expected: float | None
) -> None:
    declared = service(mode=Mode.ACTIVE_PASSIVE, state=KEEPING if declares else None, replicas=replicas)
    fresh = ServiceState(Desired(declared, "web@1", replicas), suspect.policy(declared))
    assert keepsakes.copied_s(fresh) == expected


async def test_how_long_a_copy_takes_is_what_the_last_ones_took() -> None:
    case = Case()
    await case.step()
    case.service.preserved.bring_s = 1.5
    [kept] = case.service.preserved.kept
    case.service.preserved.kept = (replace(kept, manifest=replace(kept.manifest, took_s=2.0)),)
    assert keepsakes.copied_s(case.service) == 3.5


async def test_what_cannot_be_copied_is_told_and_the_slot_is_left_as_it_is_until_it_can() -> None:
    case = Case()
    case.shelf.write("web/1", "a")
    await case.step()
    case.shelf.write("web/1", "the only copy")
    case.shelf.damaged.add("web/1")
    case.end(1)
    assert not await case.preserver.caught_up(case.service, Slot("web", 2))
    assert case.told.subjects[-1] == ("D05", "web/1") and case.service.slots[1].unsaved
    case.service.term = Term(owner=2, epoch=2, holds=True)
    case.service.slots[2].replica = replica(2, epoch=2)
    case.shelf.write("web/2", "b")
    await case.step(20.0)
    assert case.shelf.states["web/3"] == ("a", "b") and case.shelf.states["web/1"] == ("a", "the only copy")
    case.shelf.damaged.clear()
    await case.step(UNSAVED_AGAIN_S)
    assert ("D06", "web/1") in case.told.subjects and not case.service.slots[1].unsaved
    assert ("a", "the only copy") in case.shelf.contents.values()
    await case.step(20.0)
    assert case.shelf.states["web/1"] == ("a", "b")


async def test_what_goes_wrong_is_told_once_and_so_is_that_it_works_again() -> None:
    case = Case()
    case.shelf.damaged.add("web/1")
    await case.step()
    await case.step(30.0)
    assert case.told.subjects == [("D01", "web")] and keepsakes.told(case.service, 0.0)["problem"]  # type: ignore[index]
    case.shelf.damaged.clear()
    await case.step(100.0)
    assert ("D02", "web") in case.told.subjects and not case.service.preserved.problem


async def test_a_snapshot_is_proven_to_restore_soon_and_then_once_a_day() -> None:
    case = Case()
    await case.step()
    assert case.told.subjects == [("D03", "web")]
    for _ in range(20):
        await case.step(3600.0)
    assert case.told.subjects.count(("D03", "web")) == 1
    for _ in range(5):
        await case.step(3600.0)
    assert case.told.subjects.count(("D03", "web")) == 2


async def test_a_proof_that_fails_is_an_alarm() -> None:
    case = Case()
    case.shelf.unrestorable = True
    await case.step()
    assert ("D04", "web") in case.told.subjects


async def test_the_last_copy_may_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    monkeypatch.setattr("perdure.control.preserve.CAUGHT_UP_S_MAX", 0.001)
    case.end(1)
    assert CAUGHT_UP_S_MAX > 1.0
    assert not await case.preserver.caught_up(case.service, Slot("web", 2))
    assert case.told.subjects == [("D05", "web/1")]


async def test_snapshots_by_command() -> None:
    case = Case()
    made = keepsakes.Keepsakes(case.preserver)
    assert (await made.take("web"))[0].startswith("s-0001 was taken of web/1")
    assert await made.pin("web", "s-0001", pinned=True)
    assert await made.mark("web", "before", None) == [
        "s-0002 of web is 'before' now, and is kept as long as it has a name"
    ]
    assert "restored aside" in (await made.verify("web", "s-0001"))[0]
    newest, oldest = await made.listed("web")
    assert (newest["id"], newest["marks"], oldest["pinned"], oldest["proven"]["problem"]) == (
        "s-0002",
        ["before"],
        True,
        "",
    )
    await made.pin("web", "s-0001", pinned=False)
    assert not (await made.listed("web"))[1]["pinned"]


async def test_commands_for_what_is_not_there_are_refused() -> None:
    case = Case()
    made = keepsakes.Keepsakes(case.preserver)
    with pytest.raises(ConfigError):
        await made.take("api")
    with pytest.raises(ConfigError):
        await made.take("web/9")
    with pytest.raises(UnavailableError):
        await made.verify("web", "s-0009")
    case.end(1)
    with pytest.raises(UnavailableError):
        await made.take("web")
    case.service.desired = Desired(service(), "web@1", 3)
    with pytest.raises(RefusedError):
        await made.listed("web")


async def test_after_a_handover_there_and_back_nobody_is_brought_to_what_was_taken_before_the_first() -> None:
    case = Case()
    case.shelf.write("web/1", "old")
    await case.step()
    for epoch, left, heir in ((2, 1, 2), (3, 2, 1)):
        case.shelf.write(f"web/{left}", f"written in {left}")
        case.end(left)
        assert await case.preserver.caught_up(case.service, Slot("web", heir))
        case.service.term = Term(owner=heir, epoch=epoch, holds=True)
        case.service.slots[heir].replica = replica(heir, epoch=epoch)
    await case.step(1.0)
    assert case.shelf.states["web/2"] == ("old", "written in 1", "written in 2")


async def test_what_was_taken_by_command_stays_though_nothing_has_changed() -> None:
    case = Case()
    await case.step()
    said = await keepsakes.Keepsakes(case.preserver).take("web")
    taken = said[0].split()[0]
    for _ in range(4):
        await case.step(10.0)
    assert taken in case.ids and len(case.ids) < 5, "those beside it have gone"
    assert case.service.preserved.held == 0
