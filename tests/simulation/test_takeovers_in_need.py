"""What can go wrong around a takeover, one thing at a time: somebody is active soon, and no write is lost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playing import WEB

from perdure.control import persist
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.replica import Slot
from perdure.model.service import Mode, Role, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.ports.keeper import Source
from perdure.ports.role import Duty, Listener
from perdure.sim import plan, run
from perdure.sim.checkers import OneProcessPerSlot
from perdure.sim.checkers_owner import OneActive, RightLasts
from perdure.sim.keeper import SimulatedKeeper
from perdure.sim.roles import SimulatedRoles

EVERY_S = 2.0


class Owned:
    """One active-passive service `web` with a database, whose active replica is at first in slot 1."""

    def __init__(self, standby: Standby, replicas: int = 2) -> None:
        role = Role(http="/role") if standby is Standby.WARM else None
        keeping = Keeping(StateKind.SQLITE, "notes.db", every_s=EVERY_S)
        service = replace(WEB, replicas=replicas, mode=Mode.ACTIVE_PASSIVE, standby=standby, role=role, state=keeping)
        drawn = plan.Plan((service,), {"web": 0.3}, {"web": plan.Traffic(20.0, 0.0, 0.0)}, (), 20.0)
        self.world = run.prepared(1, drawn, [OneProcessPerSlot(), OneActive(), RightLasts()])
        self.states = self.world.daemon.machine.states

    def at(self, at: float, act: Callable[..., object], *given: object) -> None:
        self.world.loop.call_at(at, act, *given)

    def kill(self, number: int) -> None:
        runs = self.world.kernel.in_slot(Slot("web", number))
        assert runs is not None
        self.world.kernel.send(runs, "SIGKILL")

    def break_for_good(self, number: int) -> None:
        self.world.ill[Slot("web", number)] = lambda behaviour: setattr(behaviour, "crash_after_s", 0.05)
        self.kill(number)

    def upgrade(self) -> None:
        """The daemon is killed, and started a second later."""
        self.world.daemon.kill()
        self.world.loop.call_later(1.0, lambda: self.world.loop.outside(self.world.daemon.start))

    def promote(self, slot: str) -> None:
        self.world.daemon.ask(lambda desk: desk.controller.promote(slot), lambda problem: None)

    def write_each_second(self, until_at: float) -> None:
        """The active replica gets a word each second, its instant."""
        for second in range(3, int(until_at)):
            self.at(second + 0.5, lambda: self.states.write(self.owner, f"{self.world.now:.0f}"))

    def play(self, until_at: float) -> "Owned":
        run.let_pass(self.world, until_at)
        run.finish(self.world)
        assert not self.world.violations, [one.sentence for one in self.world.violations]
        return self

    @property
    def owner(self) -> str:
        return str(self.world.shelf.records["owner/web"].value["slot"])

    @property
    def active(self) -> list[str]:
        """The slots whose living process is told that it is active."""
        roles, living = self.world.daemon.machine.roles, self.world.kernel.living()
        told = [(str(runs.slot), roles.get(str(runs.slot))) for runs in living if runs.well]
        return [slot for slot, duty in told if duty is not None and duty.role == "active"]

    @property
    def failed(self) -> int:
        return self.world.clients.tallies["web"].failed

    def times(self, rule: str) -> int:
        return sum(f" {rule} " in line for line in self.world.trace.lines)


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str, Any], None]:
    """Replaces a method of a simulated part."""
    return lambda part, name, by: monkeypatch.setattr(part, name, by)


def test_a_command_that_cannot_be_carried_out_keeps_nobody_from_taking_over() -> None:
    case = Owned(Standby.WARM, 3)
    case.at(10.0, case.break_for_good, 3)
    case.at(12.0, case.promote, "web/3")
    case.at(30.0, case.kill, 1)
    case.play(60.0)
    assert case.active == ["web/2"] and case.failed == 0


@pytest.mark.parametrize("replicas", [2, 3])
def test_who_does_not_take_what_it_is_told_is_started_as_the_active_one(replicas: int, patch: Any) -> None:
    """Of two that are deaf, each would be ended for the other one, for ever."""

    async def tell(self: SimulatedRoles, duty: Duty, listener: Listener) -> None:
        raise UnavailableError(f"{duty.slot} did not take its role: ./promote.sh: exit code 127", "repair it")

    patch(SimulatedRoles, "tell", tell)
    case = Owned(Standby.WARM, replicas)
    case.at(20.0, case.kill, 1)
    case.play(60.0)
    assert len(case.active) == 1 and case.failed == 0 and case.times("T05") == 1


@pytest.mark.parametrize("standby", [Standby.COLD, Standby.WARM])
def test_while_the_store_takes_no_write_the_owner_is_started_again_where_it_was(standby: Standby) -> None:
    case = Owned(standby)

    def away() -> None:
        case.world.shelf.failing_for_s = 0.01

    case.at(10.0, away)
    case.at(12.0, case.kill, 1)
    case.play(70.0)
    assert case.active == ["web/1"] and case.failed == 0
    assert len(case.states.kept["web"]) <= 6, "no copy for each attempt"


@pytest.mark.parametrize("hung", ["deadlocked", "stopped"])
def test_a_warm_one_that_hangs_is_found_before_it_is_needed(hung: str) -> None:
    """HAProxy does not ask it, so it has no second opinion."""
    case = Owned(Standby.WARM)

    def hang() -> None:
        runs = case.world.kernel.in_slot(Slot("web", 2))
        assert runs is not None
        if hung == "stopped":
            case.world.kernel.send(runs, "SIGSTOP")
        else:
            runs.deadlocked_at = case.world.now

    case.at(17.0, hang)
    case.play(25.0)
    assert case.times("R11") == 1 and case.failed == 0


def test_a_standby_whose_data_cannot_be_repaired_keeps_the_owner_from_nothing(patch: Any) -> None:
    case, broken = Owned(Standby.COLD), list[str]()

    async def recover(self: SimulatedKeeper, source: Source) -> None:
        if source.slot in broken:
            raise CorruptionError("the journal of web/1 cannot be read", "look at it")

    patch(SimulatedKeeper, "recover", recover)
    case.at(8.0, case.promote, "web/2")
    case.at(12.0, broken.append, "web/1")
    case.at(12.0, case.upgrade)
    case.at(20.0, case.kill, 2)
    taken = list[int]()
    case.at(22.0, lambda: taken.append(len(case.states.kept["web"])))
    case.play(60.0)
    assert case.active == ["web/2"] and case.failed == 0
    assert len(case.states.kept["web"]) > taken[0] or case.times("D01") == 1


def test_one_that_cannot_be_brought_to_a_snapshot_keeps_no_other_one_from_it(patch: Any) -> None:
    case, tries = Owned(Standby.COLD, 3), list[float]()
    apply = SimulatedKeeper.apply

    async def fails(self: SimulatedKeeper, source: Source, snapshot: str, running: bool) -> None:
        if case.world.now > 10.0 and source.slot == "web/2":
            tries.append(case.world.now)
            raise UnavailableError("no space left on the device of web/2", "make room")
        await apply(self, source, snapshot, running)

    patch(SimulatedKeeper, "apply", fails)
    case.write_each_second(60.0)
    case.play(60.0)
    behind = len(case.states.states["web/1"]) - len(case.states.states["web/3"])
    assert behind <= EVERY_S + 2.0 and 2 < len(tries) <= 12
    assert (case.times("D01"), case.times("D02")) == (1, 0), "it is not told that it works"


def test_nobody_is_started_in_a_slot_whose_data_are_being_replaced(patch: Any) -> None:
    case, met = Owned(Standby.WARM), list[str]()
    apply = SimulatedKeeper.apply

    async def slowly(self: SimulatedKeeper, source: Source, snapshot: str, running: bool) -> None:
        await case.world.clock.sleep_until(case.world.now + 2.5)
        runs = case.world.kernel.in_slot(Slot.parse(source.slot))
        if not running and runs is not None:
            met.append(runs.name)
        await apply(self, source, snapshot, running)

    patch(SimulatedKeeper, "apply", slowly)
    case.write_each_second(60.0)
    for number in range(8):
        case.at(20.5 + 4.3 * number, lambda: case.world.kernel.in_slot(Slot("web", 2)) and case.kill(2))
    case.play(60.0)
    assert met == [] and case.active == ["web/1"]


def test_a_clock_that_is_set_back_keeps_nobody_from_following() -> None:
    case, behind = Owned(Standby.COLD), list[int]()
    case.write_each_second(100.0)
    case.at(20.0, setattr, case.world.clock, "jumped_s", 3600.0)
    case.at(40.0, setattr, case.world.clock, "jumped_s", 0.0)
    for at in (60.0, 99.0):
        case.at(at, lambda: behind.append(len(case.states.states["web/1"]) - len(case.states.states.get("web/2", ()))))
    case.play(100.0)
    assert max(behind) <= EVERY_S + 2.0


def test_after_the_store_was_lost_one_is_active() -> None:
    """The owner was web/2, of which nothing tells any more but what its launcher noted."""
    case = Owned(Standby.COLD)

    def lose() -> None:
        case.world.daemon.kill()
        case.world.shelf.records.clear()
        case.world.loop.call_later(2.0, lambda: case.world.loop.outside(case.world.daemon.start))

    case.at(12.0, case.promote, "web/2")
    case.at(28.0, lose)
    case.play(60.0)
    assert len(case.active) == 1


def test_the_only_copy_of_the_last_writes_outlives_a_daemon() -> None:
    """The state of a slot cannot be read, another one took over with a loss: nothing is put over it until it was."""
    case = Owned(Standby.COLD)
    case.at(5.0, case.states.write, "web/1", "a")
    case.at(11.98, case.states.write, "web/1", "acknowledged")
    case.at(12.0, case.states.damaged.add, "web/1")
    case.at(12.0, case.break_for_good, 1)
    case.at(30.0, case.upgrade)
    case.at(33.0, case.states.damaged.discard, "web/1")
    case.play(80.0)
    assert case.active == ["web/2"]
    stored = case.world.shelf.records[persist.slot_key(Slot("web", 1))].value
    assert any("acknowledged" in words for words in case.states.contents.values()) and not stored["unsaved"]
