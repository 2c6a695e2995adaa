"""Active-passive services in the simulated world, under every fault: never two are active, and in the end one is."""

from dataclasses import replace

import pytest

from perdure.model.service import Mode, Role, Standby
from perdure.sim import plan, run
from perdure.sim.checkers import Converges, GroupsEnd, OneProcessPerSlot, UnknownIsNotHealthy
from perdure.sim.checkers_owner import OneActive
from perdure.sim.commands import VERBS
from perdure.sim.plan import Plan

SEEDS = range(1, 21)


def drawn(seed: int) -> Plan:
    """The plan of a seed, with every service of several replicas active-passive; warm in every other plan."""
    made = plan.drawn(seed)
    warm = seed % 2 == 0
    changed = {"mode": Mode.ACTIVE_PASSIVE, "standby": Standby.WARM if warm else Standby.COLD}
    services = tuple(
        replace(one, **changed, role=Role(http="/role") if warm else None) if one.replicas > 1 else one
        for one in made.services
    )
    steps = tuple(step for step in made.steps if step.what not in VERBS)
    return replace(made, services=services, steps=steps)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_is_active_and_never_two(seed: int) -> None:
    watchers = [OneProcessPerSlot(), OneActive(), Converges(), UnknownIsNotHealthy(), GroupsEnd()]
    outcome = run.perform(seed, drawn(seed), watchers)
    assert not outcome.violations, outcome.told()
