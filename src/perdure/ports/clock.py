"""Time as the shell sees it; the simulated world has its own."""

from typing import Protocol


class Clock(Protocol):
    """Two clocks that must not be mixed up: one decides, one is for people."""

    def now(self) -> float:
        """Monotonic seconds; stops with nothing, jumps with nothing, means nothing after a reboot."""

    def wall(self) -> float:
        """Unix time, for people to read; may jump either way."""

    async def sleep_until(self, at: float) -> None:
        """Return at monotonic instant `at` or later; at once when it has passed."""
