"""What the monitor looks at: of whom the memory is measured, and whether the kernel killed for it."""

from collections.abc import Sequence
from typing import Any

import pytest
from facts import desired, replica, service

from perdure.control.monitor import Monitor
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import oom, suspect
from perdure.model.deploy import Strategy
from perdure.model.evidence import Sighted
from perdure.model.release import Arm, Rollout
from perdure.model.replica import Process, Slot
from perdure.model.service import Limits
from perdure.ports.runner import Sight


class Looked(Exception):
    """The first look is over."""


class Clock:
    """Of a clock the present; whoever waits has done its first look."""

    def now(self) -> float:
        return 100.0

    async def sleep_until(self, at: float) -> None:
        raise Looked


class Runner:
    """Of a runner what a look asks: all run, and hold as many bytes as their pid says."""

    def sight(self, process: Process, descriptors: bool = False) -> Sight:
        return Sight("S")

    def group_memory(self, processes: Sequence[Process]) -> Sequence[int]:
        return [process.pid for process in processes]


class Host:
    """Nobody waits to be accepted, and the kernel has killed three."""

    def backlogs(self) -> dict[int, tuple[int, int]]:
        return {}

    def oom_kills(self) -> int:
        return 3


async def looked(world: World) -> list[Sighted]:
    found: list[Any] = []
    parts: Any = (Clock(), None, Runner(), Host(), world, found.append)
    monitor = Monitor(*parts, lambda pause: None, lambda slot: ())
    with pytest.raises(Looked):
        await monitor.look()
    return [one for one in found if isinstance(one, Sighted)]


async def test_the_memory_of_a_replica_is_measured_when_its_own_release_limits_it() -> None:
    old, new = service(replicas=1), service(replicas=1, limits=Limits(memory_bytes=1_000_000))
    rollout = Rollout(1, Arm("web@1", old, (1,)), Arm("web@2", new, (2,)), Strategy.CANARY, (), 1)
    slots = {1: SlotState(Slot("web", 1), replica(1)), 2: SlotState(Slot("web", 2), replica(2, release="web@2"))}
    known = ServiceState(desired(old, rollout=rollout), suspect.policy(old), slots)
    assert await looked(World({"web": known})) == [Sighted("web/2#1", 100.0, "S", 1002)]


async def test_that_the_kernel_killed_for_memory_is_seen_whoever_it_was() -> None:
    world = World(oom_kills=oom.Kills(2))
    await looked(world)
    assert world.oom_kills == oom.Kills(3, 100.0)
