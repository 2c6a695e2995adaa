"""A small process that does one thing when this one ends, however it ends: SIGKILL runs no `finally`.

It holds the other end of a pipe, which the kernel closes with its owner. `pausing` lets it continue what was stopped,
`stream` lets it end a command whose reader is gone. It is forked, so that it needs no start of its own; what it does
must be a few system calls.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

WORD_BYTES = 64


class Guard:
    """Calls `act` with what was told to it when this process ends, and after `limit_s` seconds in any case."""

    def __init__(self, act: Callable[[bytes], None], limit_s: float | None = None) -> None:
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writing)
            _stand(reading, act, limit_s)
        os.close(reading)

    def tell(self, word: bytes) -> None:
        """Give it what it needs to know."""
        os.write(self._writing, word)

    def relieve(self) -> None:
        """Let it act now, and wait until it has."""
        os.close(self._writing)
        os.waitpid(self._pid, 0)

    def dismiss(self) -> None:
        """Let it end without acting."""
        os.kill(self._pid, signal.SIGKILL)
        self.relieve()


def _stand(reading: int, act: Callable[[bytes], None], limit_s: float | None) -> None:
    """In the child: wait for the end of the pipe."""
    try:
        os.setsid()
        told = b""
        until_at = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = None if until_at is None else max(0.0, until_at - time.monotonic())
            if not select.select([reading], [], [], left_s)[0]:
                break
            word = os.read(reading, WORD_BYTES)
            if not word:
                break
            told += word
        act(told)
    finally:
        os._exit(0)


def end_group(told: bytes) -> None:
    """For `act`: end the process group of this number, with all in it; nothing happens when none was told."""
    if told:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(told), signal.SIGKILL)
