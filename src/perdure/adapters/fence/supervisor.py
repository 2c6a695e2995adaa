"""What runs in the supervisor's process: sleep until the earliest deadline, read once more, act.

It needs nobody: what it has to know is in the files of `record`, read again immediately before each act, so that a
renewal that came in time always counts. It may be killed and started again at any point: what was done is noted, and
SIGTERM is sent once for each deadline. Stopped beyond a deadline, it acts at once when it runs again.

A file that is damaged, or gone without a word, changes nothing: the last valid statement counts. Taking damage for the
end of the right would let a bad sector kill a healthy replica, taking it for a release would let a stale one live.

The process is small (about 11 MB, mostly the interpreter), and imports what it has to with care. `client` starts it.
"""

import _signal  # type: ignore[import-not-found]
import fcntl
import os
from contextlib import suppress

from perdure import __version__
from perdure.adapters.fence import record
from perdure.adapters.runner import group, stat

TICK_S = 0.25
"""The longest sleep. Sleeping does not count the time for which the machine was suspended; deadlines do."""
LOOK_S = 1.0
"""So often all files are read although the kernel told of no change to them. Where it tells nothing: each TICK_S."""
CHECK_S_FIRST = 0.005
"""How soon after a signal the group is looked at; each time twice as long, up to TICK_S."""
LOCK_WAIT_S = 2
NEVER = float("inf")
CHANGES = fcntl.DN_CREATE | fcntl.DN_MODIFY | fcntl.DN_RENAME | fcntl.DN_DELETE | fcntl.DN_MULTISHOT
WAKERS = frozenset({_signal.SIGTERM, _signal.SIGIO, _signal.SIGCONT})


class Case:
    """One service: what was stated of it last, and what was done."""

    def __init__(self) -> None:
        self.held: record.Held | None = None
        self.done: dict[str, record.Done] = {}
        self.gone: tuple[int, int, int] | None = None
        """The process whose group was seen to be gone: nothing of it can come back."""
        self.check_s = CHECK_S_FIRST
        self.due: record.Done | None = None
        """What has to be done in this turn."""
        self.struck = False
        """Whether the first process's own group was signalled in this turn."""

    @property
    def first(self) -> bool:
        """Whether what is due was not done before."""
        due = self.due
        done = None if due is None else self.done.get(due.signal)
        return due is not None and (done is None or (done.name, done.due_at) != (due.name, due.due_at))

    @property
    def binding(self) -> record.Held | None:
        """What is held with a deadline, and still has to be enforced."""
        held = self.held
        return None if held is None or not held.pid or held.term_at is None or self.gone == held.name else held


class Supervisor:
    """Enforces what the files of one directory state; `directory` and `lock` are descriptors."""

    def __init__(self, directory: int, lock: int) -> None:
        self._directory = directory
        self._lock = lock
        self._boot = record.boot_id()
        self._sessions: set[int] = set()
        self._groups = group.Groups(self._sessions)
        self._cases: dict[str, Case] = {}
        self._leaving = False
        self._look_s = TICK_S
        self._complaint = ""

    def run(self) -> None:
        """Enforce, until another one has taken over or there is nothing left to do."""
        while not self._superseded():
            next_at = self.turn()
            if (self._leaving or self._abandoned()) and not any(case.binding for case in self._cases.values()):
                return
            self._sleep(next_at)

    def _sleep(self, until_at: float) -> None:
        """Until then, or until the kernel tells of a change, somebody continues this process, or asks it to leave."""
        while (left_s := until_at - record.now()) > 0:
            woken = _signal.sigtimedwait(WAKERS, min(left_s, TICK_S))
            if woken is not None:
                self._leaving = self._leaving or woken.si_signo == _signal.SIGTERM
                return

    def turn(self) -> float:
        """Look at every service and do what is due; when to look again.

        Deadlines often fall together, since one daemon renews them all. So each group is struck first, in microseconds,
        and only then are those sought that left it, which takes milliseconds."""
        next_at = record.now() + self._look_s
        names = self._names()
        for step in (self._look, self._follow):
            for name in names:
                try:
                    next_at = min(next_at, step(name, self._cases.setdefault(name, Case())))
                except Exception as error:  # noqa: BLE001 - with the daemon dead nobody would start this process again
                    self._complain(f"{name}: {error!r}")
                    next_at = min(next_at, record.now() + TICK_S)
        return next_at

    def notice(self) -> None:
        """Have the kernel send SIGIO when a file of the directory changes (dnotify), if it can.

        The descriptor is for this alone and stays open: closing a copy, as `listdir` does, ends the notices."""
        with suppress(OSError):
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
            fcntl.fcntl(descriptor, fcntl.F_NOTIFY, CHANGES)
            self._look_s = LOOK_S

    def rehearse(self) -> None:
        """Look through all processes once, so that everything that is needed at a deadline is in memory."""
        self._groups.alive(record.Held("", 0, os.getpid(), 0))

    def _names(self) -> set[str]:
        try:
            found = {name for name in os.listdir(self._directory) if name.endswith(record.SUFFIX)}  # noqa: PTH208
        except OSError as error:
            self._complain(repr(error))
            found = set()
        return found | self._cases.keys()

    def _look(self, name: str, case: Case) -> float:
        """Read, and strike if a deadline has passed; when the next one does."""
        case.due = None
        now = record.now()  # before the file is read: what was written by then is in it
        self._read(name, case)
        held = case.binding
        if held is None or held.term_at is None or held.kill_at is None:
            return NEVER
        if now < held.term_at:
            return held.term_at
        kill = now >= held.kill_at
        signal, due_at = ("SIGKILL", held.kill_at) if kill else ("SIGTERM", held.term_at)
        case.due = record.Done(held, signal, due_at, now)
        case.struck = case.first and self._groups.strike(held, getattr(_signal, signal))
        return NEVER if kill else held.kill_at

    def _follow(self, name: str, case: Case) -> float:
        """Signal the rest of the group: once, and SIGKILL for as long as something is there. Note what was done."""
        due = case.due
        if due is None:
            return NEVER
        if not case.struck and not self._groups.alive(due):
            self._note_gone(name, case, due)
            return NEVER
        case.check_s = min(TICK_S, case.check_s * 2)
        send = self._groups.send_to_others if case.struck else self._groups.send
        if case.first or due.signal == "SIGKILL":
            send(due, getattr(_signal, due.signal))
        if case.first:
            case.check_s = CHECK_S_FIRST
            case.done[due.signal] = due
            self._write(name, due)
        return record.now() + case.check_s

    def _note_gone(self, name: str, case: Case, due: record.Done) -> None:
        case.gone = due.name
        for done in case.done.values():
            if done.name == due.name and done.gone_at is None:
                done.gone_at = record.now()
                self._write(name, done)

    def _read(self, name: str, case: Case) -> None:
        """Take what the file states, if it states something; see the module for what damage means."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory)
            try:
                content = os.read(descriptor, record.FILE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._complain(f"{name}: {error!r}")
            return
        held = record.newest(content, self._boot)
        if held is None or (case.held is not None and held.sequence <= case.held.sequence):
            return
        if case.held is None:
            case.done = {done.signal: done for done in record.done(content, self._boot)}
        if case.held is None or case.held.name != held.name:
            case.check_s = CHECK_S_FIRST
            self._sessions.discard(case.held.pid if case.held else 0)
        self._sessions.add(held.pid)
        case.held = held

    def _write(self, name: str, done: record.Done) -> None:
        """Tell what was done, if it can be told: what counts is that it was done."""
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory)
            try:
                os.pwrite(descriptor, done.encode(self._boot), record.ACTED_AT[done.signal])
            finally:
                os.close(descriptor)
        except OSError as error:
            self._complain(f"{name}: {error!r}")

    def _superseded(self) -> bool:
        """Whether another supervisor holds the lock that the directory has now; the daemon replaces one so."""
        try:
            if _same(self._lock, record.LOCK, self._directory):
                return False
            other = os.open(record.LOCK, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError:
            return False
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(other)
        return False

    def _abandoned(self) -> bool:
        return os.fstat(self._directory).st_nlink == 0

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            with suppress(OSError):
                os.write(2, f"perdure: {text}\n".encode())


def main(path: str, ready: int) -> None:
    """Be the supervisor of a directory; a byte goes to the descriptor `ready` when it is."""
    close_all_but(ready)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir("/")
    os.umask(0o077)
    supervisor = Supervisor(directory, take_lock(directory))
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    supervisor.notice()
    supervisor.rehearse()
    harden()
    with suppress(OSError):  # the daemon may be dead by now
        os.write(ready, b"1")
        os.close(ready)
    supervisor.run()


def close_all_but(kept: int) -> None:
    """Drop every descriptor that somebody forgot to mark close-on-exec."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):  # the one that listed the directory
                os.close(int(name))


def take_lock(directory: int) -> int:
    """Wait for the directory's lock and write down who this is; SIGALRM ends the process when it stays taken."""
    while True:
        lock = os.open(record.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
        _signal.alarm(LOCK_WAIT_S)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _signal.alarm(0)
        if _same(lock, record.LOCK, directory):
            break
        os.close(lock)
    own = stat.read(os.getpid())
    assert own is not None
    line = f"{os.getpid()} {own.started_ticks} {record.boot_id()} {__version__}"
    with suppress(OSError):  # a full disk: the daemon that started this one knows it all the same
        os.pwrite(lock, line.encode().ljust(record.LOCK_BYTES - 1) + b"\n", 0)
    return lock


def _same(descriptor: int, name: str, directory: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=directory))
    except FileNotFoundError:
        return False


def harden() -> None:
    """Be hard to starve, as far as this user may: the last to be killed for want of memory, before all others on the
    processor (as cluster watchdogs such as sbd are), and never swapped out. None of it has to succeed."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("-1000")
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        # What is in memory now, and no later page: a limit on locked memory must not make an allocation fail.
        ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_ONFAULT)


MCL_CURRENT = 1
MCL_ONFAULT = 4
"""linux/mman.h: pages that were touched, instead of all 30 MB that are mapped."""
