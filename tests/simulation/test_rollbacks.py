"""Going back in the simulated world: whoever dies in whatever step, the old data serve or the new ones, as recorded."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from playing import WEB, Played

from perdure.control import claim, persist
from perdure.control.assemble import Desk
from perdure.control.going_back import Rollbacks
from perdure.model.rollback import Outcome, Rollback
from perdure.model.service import Mode, Role, Service, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.sim import plan, run
from perdure.sim.checkers import Converges, OneProcessPerSlot
from perdure.sim.checkers_owner import OneActive
from perdure.sim.kernel import Runs
from perdure.sim.world import Watcher, World

OLD, NEW = ("a", "b"), ("a", "b", "c")
KEEPING = Keeping(StateKind.SQLITE, "notes.db", every_s=2.0)
ASKED_AT, UNTIL_AT = 12.0, 60.0


class WholeHistory(Watcher):
    """The active one starts with all of the data that its history has, and no other."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, tuple[str, ...]]] = set()

    def spawned(self, world: World, runs: Runs) -> None:
        duty = world.daemon.machine.roles.get(str(runs.slot))
        if world.now < ASKED_AT or duty is None or duty.role != "active":
            return
        record, words = world.shelf.records[claim.key("web")].value, world.daemon.machine.states.states[str(runs.slot)]
        self.seen.add((record["data_epoch"], words))


def declared(standby: Standby) -> Service:
    role = Role(http="/role") if standby is Standby.WARM else None
    return replace(WEB, replicas=2, mode=Mode.ACTIVE_PASSIVE, standby=standby, role=role, state=KEEPING)


def last(world: World) -> Rollback | None:
    return persist.read_desired(world.shelf.records[persist.service_key("web")].value).rollback


class Going:
    """A world in which somebody goes back to a marker; `fuse`: after so many acts of the daemon it dies."""

    def __init__(self, standby: Standby, fuse: int | None = None) -> None:
        service, self.history, self.plan = declared(standby), WholeHistory(), dict[str, Any]()
        self.problems: list[str] = []
        drawn = plan.Plan((service,), {"web": 0.3}, {"web": plan.Traffic(20.0, 0.0, 0.0)}, (), 20.0)
        watchers = [OneProcessPerSlot(), OneActive(), Converges(), self.history]
        self.world = run.prepared(1, drawn, watchers)
        self.fuse = fuse
        self.at(3.0, lambda: self.write(*OLD))
        self.at(7.0, lambda: self.ask(lambda rollbacks: rollbacks.preserver.keeper.mark("web", "then", self.newest())))
        self.at(8.0, lambda: self.write("c"))
        self.at(11.0, lambda: self.ask(self.planned))
        self.at(ASKED_AT, self.agree)

    def at(self, instant: float, do: Callable[[], None]) -> None:
        self.world.loop.call_at(instant, do)

    def write(self, *words: str) -> None:
        for word in words:
            self.world.daemon.machine.states.write("web/1", word)

    def newest(self) -> str:
        return self.world.daemon.machine.states.kept["web"][-1].manifest.id

    def ask(self, what: Callable[[Rollbacks], Awaitable[object]]) -> None:
        daemon = self.world.daemon

        async def asked(desk: Desk) -> object:
            return await what(desk.rollbacks)

        assert daemon.ask(asked, lambda problem: self.problems.append(problem) if problem else None)

    async def planned(self, rollbacks: Rollbacks) -> None:
        self.plan = await rollbacks.plan("web", "then")

    def agree(self) -> None:
        life = self.world.daemon.life
        assert life is not None
        life.fuse = self.fuse
        self.ask(lambda rollbacks: rollbacks.carry_out("web", self.plan["token"]))
        self.at(self.world.now + 8.0, lambda: setattr(life, "fuse", None))
        for later_s in range(2, 12, 2):
            self.at(self.world.now + later_s, lambda: self.world.loop.outside(self.world.daemon.start))

    def play(self, until_at: float = UNTIL_AT) -> Played:
        run.let_pass(self.world, until_at)
        run.finish(self.world)
        return Played(self.world)

    @property
    def state(self) -> tuple[str, ...]:
        return self.world.daemon.machine.states.states["web/1"]


@pytest.mark.parametrize("standby", list(Standby))
def test_the_older_data_serve_and_those_that_stand_by_follow(standby: Standby) -> None:
    going = Going(standby)
    played = going.play()
    assert not played.broken and not going.problems and not played.failed
    rollback = last(going.world)
    assert rollback is not None and rollback.outcome is Outcome.DONE
    assert going.plan["loss"]["added"] == ["c"]
    assert going.state == OLD == going.world.daemon.machine.states.states["web/2"]
    assert going.history.seen == {(1, OLD)}


@pytest.mark.parametrize("standby", list(Standby))
@pytest.mark.parametrize("fuse", range(0, 64, 3))
def test_a_daemon_that_dies_at_any_step_leaves_all_of_the_old_or_all_of_the_new(standby: Standby, fuse: int) -> None:
    going = Going(standby, fuse)
    played = going.play()
    assert not played.broken, played.lines
    rollback = last(going.world)
    if rollback is None:
        assert going.state == NEW and going.history.seen <= {(0, NEW)}
    else:
        assert rollback.outcome is Outcome.DONE and going.state == OLD
        assert going.history.seen <= {(0, NEW), (1, OLD)}


def test_what_cannot_be_exchanged_leaves_what_was_live() -> None:
    going = Going(Standby.COLD)
    going.at(ASKED_AT - 0.1, lambda: going.world.daemon.machine.states.stuck.add("web/1"))
    played = going.play()
    rollback = last(going.world)
    assert rollback is not None and rollback.outcome is Outcome.FAILED
    assert not played.broken and going.state == NEW and going.history.seen == {(0, NEW)}
    assert played.first(r"D12 web/1: its data could not be exchanged")


def test_data_with_which_nobody_can_serve_are_taken_back() -> None:
    going = Going(Standby.COLD)
    states, behaviour = going.world.daemon.machine.states, going.world.daemon.machine.behaviour_of

    def needs_c(*words: Any) -> Any:
        made = behaviour(*words)
        if states.states.get("web/1") == OLD and going.world.now > ASKED_AT:
            made.crash_after_s = 0.05
        return made

    object.__setattr__(going.world.daemon.machine, "behaviour_of", needs_c)
    played = going.play()
    rollback = last(going.world)
    assert rollback is not None and (rollback.undoes, rollback.outcome) == (1, Outcome.DONE)
    assert going.state == NEW and played.first("D13 web/1: cannot serve")
    assert going.history.seen == {(1, OLD), (2, NEW)}
