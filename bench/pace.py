"""Fires at the exact instants of a fixed schedule, for the load generator.

Timers of the event loops are rounded to a millisecond, which is as long as a whole request takes here; a timer of the
kernel (timerfd) that the loop watches like a socket is exact to some 50 microseconds, and lighter. Where the kernel has
none, the loop's own timers serve.
"""

import asyncio
import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | 0o2000000
_ABSOLUTE = 1


class Pacer:
    """Calls `fire` at `start_at` (monotonic) and every `period_s` after, late calls once for all that is due."""

    def __init__(self, start_at: float, period_s: float, fire: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._next_at = start_at
        self._period_s = period_s
        self._fire = fire
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = _open_timer(start_at, period_s) if sys.platform == "linux" else -1
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._expired)
        else:
            self._arm()

    def stop(self) -> None:
        """End it; may be called again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        self._fire()

    def _arm(self) -> None:
        self._timer = self._loop.call_later(max(0.0, self._next_at - time.monotonic()), self._ticked)

    def _ticked(self) -> None:
        while self._next_at <= time.monotonic():
            self._next_at += self._period_s
        self._fire()
        self._arm()


def _open_timer(start_at: float, period_s: float) -> int:
    """A periodic timerfd; -1 when the C library has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timerfd_create"):
        return -1
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
    if descriptor < 0:
        return -1
    setting = struct.pack("@llll", *_split(period_s), *_split(max(start_at, 1e-9)))
    if libc.timerfd_settime(descriptor, _ABSOLUTE, setting, None) != 0:
        os.close(descriptor)
        return -1
    return descriptor


def _split(seconds: float) -> tuple[int, int]:
    return divmod(max(1, round(seconds * 1e9)), 1_000_000_000)
