"""The monitor in real time, asking a prober that answers as the test says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from perdure.adapters.clock import SystemClock
from perdure.adapters.host import KernelHost
from perdure.control.monitor import KEPT_ALIVE_EVERY, Monitor
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import suspect
from perdure.model.evidence import Beat, Held, Outcome, Probed, Sighted
from perdure.model.replica import Process, Replica, Slot, State
from perdure.model.service import Check, CheckKind, Service
from perdure.model.standing import Desired
from perdure.model.verdict import Sign
from perdure.ports.prober import Answer, Target

CHECK = Check(CheckKind.HTTP, "/healthz", interval_s=0.05, timeout_s=0.05)


@dataclass
class Prober:
    """Answers questions of one kind of connection well, and of the other not."""

    answers: Callable[[bool], Outcome]
    asked: list[bool] = field(default_factory=list)

    async def probe(self, check: Check, target: Target, timeout_s: float, fresh: bool) -> Answer:
        self.asked.append(fresh)
        return Answer(self.answers(fresh))

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Watched:
    """One ready replica, and what is believed of it."""

    prober: Prober

    def __post_init__(self) -> None:
        declared = Service("web", ("serve",), checks=(CHECK,))
        self.service = ServiceState(Desired(declared, "web@1", 1), suspect.policy(declared))
        replica = Replica(Slot("web", 1), 1, "web@1", 1, 21_000, State.READY, 0.0, Process(1, 1))
        self.slot = self.service.slots[1] = SlotState(Slot("web", 1), replica)
        world = World({"web": self.service})
        clock = SystemClock()
        self.monitor = Monitor(
            clock, self.prober, None, KernelHost(), world, self.observe, lambda pause: None, lambda slot: ()  # type: ignore[arg-type]
        )  # fmt: skip

    def observe(self, evidence: Probed | Sighted | Held | Beat) -> None:
        self.slot.belief = suspect.observe(self.slot.belief, evidence, self.service.rules)

    async def until(self, condition: Callable[[], bool]) -> None:
        ticking = asyncio.create_task(self.monitor.tick())
        self.monitor.watch(self.service, self.slot)
        try:
            async with asyncio.timeout(10):
                while not condition():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        finally:
            ticking.cancel()
            await self.monitor.close()


async def test_one_question_in_four_is_asked_on_a_kept_connection() -> None:
    watched = Watched(Prober(lambda fresh: Outcome.GOOD))
    asked = watched.prober.asked
    await watched.until(lambda: len(asked) >= 3 * KEPT_ALIVE_EVERY)
    assert asked[: 3 * KEPT_ALIVE_EVERY] == ([True] * (KEPT_ALIVE_EVERY - 1) + [False]) * 3


@pytest.mark.parametrize("failing", [True, False])
async def test_a_replica_that_fails_on_one_kind_of_connection_alone_is_convicted(failing: bool) -> None:
    watched = Watched(Prober(lambda fresh: Outcome.REFUSED if fresh is failing else Outcome.GOOD))
    found: list[Sign] = []

    def convicted() -> bool:
        verdict = suspect.judge(watched.slot.belief, watched.monitor.clock.now(), watched.service.rules)
        found.extend([verdict.sign] if verdict is not None else [])
        return bool(found)

    await watched.until(convicted)
    assert found == [Sign.REFUSED]
