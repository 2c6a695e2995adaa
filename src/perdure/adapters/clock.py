"""The clocks of this machine."""

import asyncio
import time


class SystemClock:
    """CLOCK_MONOTONIC for decisions, Unix time for people."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix time."""
        return time.time()

    async def sleep_until(self, at: float) -> None:
        """Sleep until monotonic instant `at`."""
        await asyncio.sleep(max(0.0, at - time.monotonic()))
