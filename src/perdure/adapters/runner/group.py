"""Which processes belong to a replica, and signals to all of them.

A replica's group is its session: every process that descends from the first one and did not start a session of its own,
whatever its process group. Those that did (`setsid`, a program that makes itself a daemon) are found by their
environment: the launcher puts PERDURE_PROCESS, the first process's pid and start, into it, and children inherit it. So
all are ended, as systemd ends a unit's control group; only a child that both starts a session and wipes its environment
escapes.

`getsid` costs 0.4 microseconds a process, reading an environment 7; so the environment is read only of processes in
sessions that belong to no known replica, and not again for 2 s once it is seen to be nobody's.

The supervisor (`adapters.fence`) looks here too, and must be small: so this imports nothing that costs memory.
"""

import os
import signal
import time
from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import suppress

from perdure.adapters.runner import stat

TYPE_CHECKING = False
"""mypy takes it for true; dataclasses and typing would cost the supervisor a third of its memory."""
if TYPE_CHECKING:
    from typing import Protocol

    class Named(Protocol):
        """A process by pid and start, as `model.replica.Process` is."""

        @property
        def pid(self) -> int: ...
        @property
        def started_ticks(self) -> int: ...


ENVIRONMENT_BYTES = 1 << 18
"""The mark comes first; only a program that sorts its children's huge environment could push it further back."""
UNMARKED_S = 2.0
ROUNDS = 5
"""How often a list is taken again to catch what was forked meanwhile."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Groups:
    """Looks processes up; `sessions` are those of all known replicas, whose members need no second look."""

    def __init__(self, sessions: Container[int]) -> None:
        self._sessions = sessions
        self._strays: dict[tuple[int, int], set[tuple[int, int]]] = {}
        self._unmarked: set[int] = set()
        self._unmarked_until_at = 0.0

    def alive(self, process: "Named") -> bool:
        """Whether any process of the group runs."""
        first = stat.read(process.pid)
        if first is not None and first.started_ticks == process.started_ticks and first.letter not in stat.GONE:
            return True
        return any(_runs(pid) for pid in self.members(process)) or bool(self.strays(process))

    def members(self, process: "Named") -> Sequence[int]:
        """The pids of the replica's session, zombies included."""
        first = stat.read(process.pid)
        if first is not None and first.started_ticks != process.started_ticks:
            return ()  # a pid is used again only when its session is empty
        return [pid for pid in _each_pid() if _session(pid) == process.pid]

    def strays(self, process: "Named") -> Sequence[int]:
        """The pids of the replica's running processes in other sessions."""
        mark = b"\0PERDURE_PROCESS=%d.%d\0" % (process.pid, process.started_ticks)
        # An ending process loses its environment a moment before it is gone: those once seen are known by start time.
        name = (process.pid, process.started_ticks)
        known = self._strays.pop(name, set())
        for pid in self._each_outsider(process.pid):
            if mark in self._marks(pid) and (seen := stat.read(pid)) is not None:
                known.add((pid, seen.started_ticks))
        running = {(pid, ticks) for pid, ticks in known if _runs(pid, ticks)}
        if running:
            self._strays[name] = running
        return [pid for pid, _ in running]

    def send(self, process: "Named", number: signal.Signals) -> None:
        """Send the signal to all; SIGKILL again to what was forked meanwhile, until nothing new is there."""
        first = stat.read(process.pid)
        if first is None or first.started_ticks == process.started_ticks:
            _send_to_group(process.pid, number)
        self.send_to_others(process, number)

    def strike(self, process: "Named", number: signal.Signals) -> bool:
        """Send the signal to the first process and its process group, if the first one runs; `send_to_others` has to
        follow. Takes 20 microseconds, for who has to end many at once."""
        running = _runs(process.pid, process.started_ticks)
        if running:
            _send_to_group(process.pid, number)
        return running

    def send_to_others(self, process: "Named", number: signal.Signals) -> None:
        """The part of `send` for those in other process groups and sessions."""
        sent: set[int] = set()
        for _ in range(ROUNDS if number == signal.SIGKILL else 1):
            members = [pid for pid in self.members(process) if _process_group(pid) != process.pid]
            strays = self.strays(process)
            if sent.issuperset(members) and sent.issuperset(strays):
                return
            for pid in members:
                _send_to(pid, number, process.pid)
            for pid in strays:
                _send_to(pid, number, None)
            sent.update(members, strays)

    def memory(self, processes: "Sequence[Named]") -> list[int]:
        """Resident bytes of each session, strays not counted."""
        pages = {process.pid: 0 for process in processes}
        for pid in _pids():
            session = _session(pid)
            if session in pages:
                fields = stat.read_file(pid, "statm").split()
                pages[session] += int(fields[1]) if fields else 0
        return [pages[process.pid] * PAGE_BYTES for process in processes]

    def _each_outsider(self, own_session: int) -> Iterator[int]:
        now_at = time.monotonic()
        if now_at > self._unmarked_until_at:
            self._unmarked.clear()
            self._unmarked_until_at = now_at + UNMARKED_S
        for pid in _each_pid():
            # Session 0 is the kernel's own threads.
            if pid in self._unmarked or not (session := _session(pid)):
                continue
            if session != own_session and session not in self._sessions:
                yield pid

    def _marks(self, pid: int) -> bytes:
        environment = stat.read_file(pid, "environ", ENVIRONMENT_BYTES)
        # An empty one proves nothing: the process may be just between two programs.
        if environment and b"PERDURE_PROCESS=" not in environment:
            self._unmarked.add(pid)
        return b"\0" + environment


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name[0] in "123456789"]  # noqa: PTH208 - a hot path


def _each_pid() -> Iterator[int]:
    """All pids, and then those that appeared while the earlier ones were looked at: a child outlives its parent."""
    seen: set[int] = set()
    for _ in range(ROUNDS):
        fresh: Collection[int] = set(_pids()) - seen
        if not fresh:
            return
        yield from fresh
        seen.update(fresh)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _process_group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _runs(pid: int, started_ticks: int | None = None) -> bool:
    seen = stat.read(pid)
    return seen is not None and seen.letter not in stat.GONE and started_ticks in (None, seen.started_ticks)


def _send_to_group(pid: int, number: signal.Signals) -> None:
    # Not permitted (a child that changed its user): the others got it, and nothing more can be done here.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _send_to(pid: int, number: signal.Signals, session: int | None) -> None:
    """Through a pidfd, and checked after it was opened, so that a pid that was just used again is not hit."""
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        if session is None or _session(pid) == session:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
