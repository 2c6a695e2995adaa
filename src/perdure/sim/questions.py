"""The monitor's questions on a simulated day: `ports.prober.Prober`, answered by what befalls the replica now.

The monitor itself (`control.monitor`: when it asks, bursts, confirmations, what a pause of its own voids) is the real
one. An answer that takes less than `AT_ONCE_S` comes at the instant of the question, which saves half of the cost.
Neighbours: `crowd` knows who is paused and how slow things are; `kernel` knows who lives; `days` puts them together.
"""

import asyncio
import math
from dataclasses import dataclass
from random import Random

from perdure.model.check import Check, CheckRole
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target
from perdure.sim.crowd import Crowd
from perdure.sim.kernel import Kernel

AT_ONCE_S = 0.1
PROBE_SIGMA = 0.7
GOOD = Answer(Outcome.GOOD, "ok", 200)
REFUSED = Answer(Outcome.REFUSED, "connection refused")
TIMEOUT = Answer(Outcome.TIMEOUT, "no answer in time")
ERROR = Answer(Outcome.STATUS, "status 500", 500)


@dataclass(slots=True)
class DayProber:
    """Keeps the port's contract."""

    kernel: Kernel
    crowd: Crowd
    random: Random

    async def probe(self, check: Check, target: Target, timeout_s: float, twice: bool = False) -> Answer:
        """Ask once; a second question on the same connection would be answered alike."""
        loop = self.kernel.loop
        runs = self.kernel.at_port(target.port)
        if runs is None:
            return REFUSED
        number = runs.slot.number
        paused_s = max(0.0, self.crowd.taps[number - 1].paused_until_at - loop.time())
        taken_s = paused_s + self._takes_s(check, number - 1)
        if taken_s >= timeout_s:
            await self._wait(timeout_s)
            return TIMEOUT
        if taken_s >= AT_ONCE_S:
            await self._wait(taken_s)
        if runs.behaviour.single_errors:
            runs.behaviour.single_errors -= 1
            return ERROR
        return GOOD if runs.listening else REFUSED

    async def echo(self, timeout_s: float) -> bool:
        """The loopback is always well."""
        return True

    async def close(self) -> None:
        """Nothing is open."""

    def _takes_s(self, check: Check, index: int) -> float:
        places = self.crowd.weather.climate.places
        if check.role is CheckRole.CONFIRMS:
            asked = next((place for place, one in enumerate(places) if one.path == check.path), 0)
            return self.crowd.takes_s(asked, index)
        usual_s = self.crowd.weather.climate.probe_s * self.crowd.probe_slowness
        return usual_s * math.exp(PROBE_SIGMA * self.random.gauss(0.0, 1.0))

    async def _wait(self, wait_s: float) -> None:
        """The answer comes whether the monitor runs or not; a monitor that is paused takes it later."""
        loop = self.kernel.loop
        answer: asyncio.Future[None] = loop.create_future()
        loop.outside(lambda: loop.call_later(wait_s, _settle, answer))
        await answer


def _settle(answer: asyncio.Future[None]) -> None:
    if not answer.done():  # who asked may have been told to ask no more
        answer.set_result(None)
