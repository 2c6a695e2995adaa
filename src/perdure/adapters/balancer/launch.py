"""Starts HAProxy as a process of its own, and watches it through a pidfd, whoever started it.

It gets its own session, a clean environment and no descriptor of the daemon's, so that it survives the daemon.
`haproxy.HAProxy` decides when; identity is pid and start time, as everywhere (`model.replica.Process`).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from perdure.model.errors import UnavailableError
from perdure.model.replica import Process

LOG_BYTES_MAX = 1_000_000


def start(command: Sequence[str], log: Path) -> Process:
    """Start a process whose output goes to the end of `log`; UnavailableError when the system cannot."""
    bound_log(log)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o640),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        pid = os.posix_spawn(
            command[0],
            list(command),
            {"PATH": os.defpath},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1),
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {command[0]}: {error.strerror}", "perdure doctor") from error
    return Process(pid, started_ticks(pid) or 0)


def bound_log(log: Path) -> None:
    """Empty a log that has grown large; who has it open goes on at its start."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        os.truncate(log, 0)


def started_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None when there is no such process, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Watch:
    """A process under watch: `alive` until its end was seen; then `on_end` is called once from the event loop."""

    def __init__(self, process: Process, on_end: Callable[["Watch"], None]) -> None:
        """Raises ProcessLookupError when it is gone, or the pid is another process's now."""
        self.process = process
        self.ended = asyncio.Event()
        self._on_end = on_end
        self._descriptor = os.pidfd_open(process.pid)
        if started_ticks(process.pid) not in (process.started_ticks, None):
            os.close(self._descriptor)
            raise ProcessLookupError(process.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    @property
    def alive(self) -> bool:
        """Whether its end was not seen yet."""
        return not self.ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to this process and no later one of the same pid; nothing happens when it is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def end(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`; returns when it is gone."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended.wait(), grace_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.ended.wait()

    def _end(self) -> None:
        # Only a child of ours has to be reaped; an adopted one is reaped by init.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process.pid, os.WNOHANG)
        self.forget()
        self._on_end(self)

    def forget(self) -> None:
        """Stop watching; the process goes on."""
        if self.alive:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self.ended.set()
