"""Whoever becomes active finds its state whole and at rest: what is given up, what is under way, what is half done.

The keeper here goes on with what its callers have given up, one call after the other, as its process does.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from test_preserve import Case

from perdure.model.errors import UnavailableError
from perdure.model.replica import Slot, State
from perdure.model.service import Standby
from perdure.model.snapshot import Manifest
from perdure.ports.keeper import Source
from perdure.sim.keeper import SimulatedKeeper

HEIR = Slot("web", 2)


@dataclass
class GoingOn(SimulatedKeeper):
    """Whose `apply` to the slots in `held` lasts until `go` is set."""

    held: Sequence[str] = ()
    began: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def _done(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def in_turn() -> Any:
            async with self.turn:
                return await work

        task = asyncio.create_task(in_turn())
        self.tasks.add(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise UnavailableError("it was given up") from None
            raise

    async def take(self, source: Source, epoch: int, data_epoch: int) -> Manifest:
        manifest: Manifest = await self._done(SimulatedKeeper.take(self, source, epoch, data_epoch))
        return manifest

    async def apply(self, source: Source, snapshot: str, running: bool) -> None:
        async def slowly() -> None:
            self.shelf.applied.pop(source.slot, None)
            self.shelf.states[source.slot] = (*self.shelf.states.get(source.slot, ()), "half")
            if source.slot in self.held:
                self.began.set()
                await self.go.wait()
            await SimulatedKeeper.apply(self, source, snapshot, running)

        await self._done(slowly())

    async def applied(self, source: Source) -> Manifest | None:
        manifest: Manifest | None = await self._done(SimulatedKeeper.applied(self, source))
        return manifest

    async def abandon(self, service: str) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Held(Case):
    """All follow the first snapshot; then the active one has written once more, and has ended."""

    def __init__(self, standby: Standby = Standby.COLD) -> None:
        super().__init__(standby)
        self.keeper = GoingOn(self.shelf, self.clock)
        self.preserver.keeper = self.keeper

    async def ended(self) -> None:
        self.shelf.write("web/1", "a")
        await self.step()
        self.clock.at += 5.0
        self.shelf.write("web/1", "last words")
        self.end(1)

    async def settled(self) -> None:
        """Whatever goes on ends now."""
        self.keeper.go.set()
        await asyncio.gather(*self.keeper.tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper takes no time, and little of it is waited for."""
    monkeypatch.setattr("perdure.sim.keeper.TAKES_S", 0.0)
    monkeypatch.setattr("perdure.control.preserve.CAUGHT_UP_S_MAX", 0.05)


async def test_a_last_copy_that_was_given_up_is_not_written_below_the_replica_that_starts() -> None:
    case = Held()
    await case.ended()
    case.keeper.held = ("web/2",)
    assert not await case.preserver.caught_up(case.service, HEIR)
    assert case.told.subjects[-1] == ("D05", "web/1")
    case.shelf.states["web/2"] = ("what the new one writes",)
    await case.settled()
    assert case.shelf.states["web/2"] == ("what the new one writes",)
    assert 2 not in case.service.preserved.applied, "its state is between two snapshots"


async def test_an_heir_whose_state_was_left_half_written_gets_a_whole_one_first() -> None:
    case = Held()
    await case.ended()
    case.keeper.held = ("web/2",)
    assert not await case.preserver.caught_up(case.service, HEIR)
    assert "half" in case.shelf.states["web/2"]
    case.service.lossy, case.keeper.held = True, ()
    assert await case.preserver.caught_up(case.service, HEIR)
    assert "half" not in case.shelf.states["web/2"]
    assert case.service.preserved.applied[2].id == case.service.preserved.kept[-1].manifest.id


async def test_an_heir_that_cannot_be_made_whole_is_refused_and_that_is_told_once() -> None:
    case = Held()
    await case.ended()
    case.service.lossy = True
    case.shelf.applied.pop("web/2")
    case.keeper.held = ("web/2",)
    for _ in range(2):
        assert not await case.preserver.caught_up(case.service, HEIR)
    assert case.told.subjects.count(("D21", "web/2")) == 1
    case.keeper.held = ()
    assert await case.preserver.caught_up(case.service, HEIR)
    assert case.shelf.states["web/2"] == ("a",)


async def test_an_heir_without_any_snapshot_to_be_brought_to_may_begin() -> None:
    case = Held()
    case.end(1)
    case.service.lossy = True
    assert await case.preserver.caught_up(case.service, HEIR)
    assert "web/2" not in case.shelf.states


async def test_what_is_being_written_to_an_heir_is_waited_for_also_when_a_loss_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perdure.control.preserve.CAUGHT_UP_S_MAX", 10.0)
    case = Held()
    case.shelf.write("web/1", "a")
    await case.step()
    case.shelf.write("web/1", "b")
    case.keeper.held = ("web/2",)
    following = asyncio.create_task(case.step(20.0))
    await case.keeper.began.wait()
    case.end(1)
    case.service.lossy, case.service.heir = True, 2
    becoming = asyncio.create_task(case.preserver.caught_up(case.service, HEIR))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not becoming.done(), "a replica would start on what is being written"
    case.keeper.go.set()
    assert await becoming and case.shelf.states["web/2"] == ("a", "b")
    await following


@pytest.mark.parametrize("becomes", ["heir", "owner"])
async def test_nobody_else_writes_to_an_heir_or_a_new_owner(becomes: str) -> None:
    case = Held()
    case.shelf.write("web/1", "a")
    case.keeper.held = ("web/2",)
    following = asyncio.create_task(case.step())
    await case.keeper.began.wait()
    # While slot 2 is brought to the snapshot, slot 3 is chosen: it would have been next.
    if becomes == "heir":
        case.service.heir = 3
    else:
        case.service.term = replace(case.service.term, owner=3, epoch=2)
    case.keeper.go.set()
    await following
    assert case.shelf.states["web/2"] == ("a",) and "web/3" not in case.shelf.states


async def test_a_warm_replica_that_was_promoted_is_not_put_back_to_an_old_state() -> None:
    case = Held(Standby.WARM)
    await case.ended()
    case.keeper.held = ("web/2",)
    assert not await case.preserver.caught_up(case.service, HEIR)
    replica = case.service.slots[2].replica
    assert replica is not None and replica.state is State.PASSIVE
    case.shelf.states["web/2"] = ("a", "its own first change")
    await case.settled()
    assert case.shelf.states["web/2"] == ("a", "its own first change")
