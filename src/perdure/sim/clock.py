"""Virtual time as the shell sees it, with a wall clock that faults can push around."""

import asyncio
from dataclasses import dataclass

from perdure.sim.loop import VirtualLoop

WALL_AT_START = 1_700_000_000.0


@dataclass(slots=True)
class SimulatedClock:
    """Implements `ports.clock.Clock`; `jumped_s` is how far the wall clock was pushed."""

    loop: VirtualLoop
    jumped_s: float = 0.0

    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self.loop.time()

    def wall(self) -> float:
        """Simulated Unix time."""
        return WALL_AT_START + self.loop.time() + self.jumped_s

    async def sleep_until(self, at: float) -> None:
        """Return at virtual instant `at`."""
        await asyncio.sleep(max(0.0, at - self.loop.time()))
