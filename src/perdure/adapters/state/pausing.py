"""Stops a replica's processes for as long as a copy needs, and lets them go on in every case.

A small process sends SIGCONT when the copier ends, however it does, or when the time is up (`guard`): nobody's death,
SIGKILL included, leaves a service stopped. A replica that was stopped already, by somebody else, is left as it is.
`directory` is the caller.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from perdure.adapters.runner import group, stat
from perdure.adapters.state import guard
from perdure.model.errors import UnavailableError
from perdure.model.replica import Process

STOPPED = frozenset("Tt")
STOP_TIMEOUT_S = 1.0
"""A process that waits for a disk stops only after that."""
POLL_S = 0.000_5


@contextmanager
def paused(pid: int | None, limit_s: float) -> Iterator[None]:
    """Nothing of the replica whose first process is `pid` runs inside. After `limit_s` it goes on all the same: what
    takes longer must look at the clock itself. UnavailableError when it cannot be stopped."""
    process = None if pid is None else _first_process(pid)
    if process is None:
        yield
        return
    groups = group.Groups(frozenset())
    watching = guard.Guard(lambda _: groups.send(process, signal.SIGCONT), limit_s)
    try:
        _stop(groups, process)
        yield
    finally:
        groups.send(process, signal.SIGCONT)
        watching.relieve()


def _first_process(pid: int) -> Process | None:
    """None when it is gone, when the pid belongs to something that is no replica, and when it is stopped already."""
    seen = stat.read(pid)
    if seen is None or seen.letter in stat.GONE or seen.letter in STOPPED:
        return None
    try:
        leads = os.getsid(pid) == pid
    except ProcessLookupError:
        return None
    return Process(pid, seen.started_ticks) if leads else None


def _stop(groups: group.Groups, process: Process) -> None:
    """Send SIGSTOP until all of the group, and what it forked meanwhile, is stopped."""
    until_at = time.monotonic() + STOP_TIMEOUT_S
    while True:
        groups.send(process, signal.SIGSTOP)
        if _all_stopped(groups, process):
            return
        if time.monotonic() > until_at:
            raise UnavailableError(
                f"the processes of {process.pid} did not stop for the copy within {STOP_TIMEOUT_S:g} s",
                "they may be waiting for a disk; try again, or choose another `consistency`",
            )
        time.sleep(POLL_S)


def _all_stopped(groups: group.Groups, process: Process) -> bool:
    pids = (*groups.members(process), *groups.strays(process))
    return all(letter in STOPPED or letter in stat.GONE for pid in pids for letter in _letters(pid))


def _letters(pid: int) -> Iterator[str]:
    """The states of all threads: the first one may be stopped while another is still in a system call."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for thread in threads:
        raw = stat.read_file(pid, f"task/{thread}/stat")
        if raw:
            yield chr(raw[raw.rindex(b")") + 2])
