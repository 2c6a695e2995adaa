"""Active-passive services in the simulated world, under every fault: never two are active, and nothing is lost."""

from dataclasses import replace

import pytest

from perdure.model.service import Mode, Role, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.sim import plan, run
from perdure.sim.checkers import Converges, GroupsEnd, OneProcessPerSlot, UnknownIsNotHealthy
from perdure.sim.checkers_data import NothingLost
from perdure.sim.checkers_owner import OneActive, RightLasts
from perdure.sim.commands import VERBS
from perdure.sim.kernel import Runs
from perdure.sim.plan import Plan
from perdure.sim.world import World

SEEDS = range(1, 21)


def drawn(seed: int) -> Plan:
    """The plan of a seed, with every service of several replicas active-passive; warm in every other plan."""
    made = plan.drawn(seed)
    warm = seed % 2 == 0
    keeping = Keeping(StateKind.SQLITE, "notes.db", every_s=2.0)
    changed = {"mode": Mode.ACTIVE_PASSIVE, "standby": Standby.WARM if warm else Standby.COLD, "state": keeping}
    services = tuple(
        replace(one, **changed, role=Role(http="/role") if warm else None) if one.replicas > 1 else one
        for one in made.services
    )
    steps = tuple(step for step in made.steps if step.what not in VERBS)
    return replace(made, services=services, steps=steps)


def prepared(seed: int, lost: NothingLost) -> World:
    """A world in which somebody hands over now and then; in every third a state is damaged, and its replica dies."""
    watchers = [OneProcessPerSlot(), OneActive(), RightLasts(), Converges(), UnknownIsNotHealthy(), GroupsEnd(), lost]
    world = run.prepared(seed, drawn(seed), watchers)
    services = [one.name for one in world.services.values() if one.one_active]

    def hand_over(name: str) -> None:
        world.daemon.ask(lambda desk: desk.controller.promote(name), lambda problem: None)

    def damage(name: str) -> None:
        active = [runs for runs in world.kernel.living() if is_active(world, runs) and runs.slot.service == name]
        for runs in active:
            slot, damaged = str(runs.slot), world.daemon.machine.states.damaged
            damaged.add(slot)
            world.kernel.send(runs, "SIGKILL")
            world.loop.call_later(6.0, damaged.discard, slot)

    for number, name in enumerate(services):
        for turn in range(1, 5):
            world.loop.call_at(7.0 * turn + number, hand_over, name)
        if seed % 3 == 0:
            world.loop.call_at(13.0 + number, damage, name)
            world.harm("damage", name, None, 20.0)
    return world


def is_active(world: World, runs: Runs) -> bool:
    duty = world.daemon.machine.roles.get(str(runs.slot))
    return runs.well and duty is not None and duty.role == "active"


@pytest.mark.parametrize("seed", SEEDS)
def test_one_is_active_and_never_two_and_nothing_that_was_acknowledged_is_lost(seed: int) -> None:
    lost = NothingLost()
    world = prepared(seed, lost)
    run.let_pass(world, world.quiet_at + world.settle_s + plan.MARGIN_S)
    run.finish(world)
    assert not world.violations, [f"{one.at:.3f} {one.checker}: {one.sentence}" for one in world.violations]
    assert lost.written > 20 or not any(one.one_active for one in world.services.values())
