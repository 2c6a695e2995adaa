"""Starts, measures and ends the processes of a bench: each in its own session, each ended by its pid.

CPU and memory are read from /proc for a whole process tree, so that masters, workers and threads all count. What a
bench started is ended when its `Ward` closes, in reverse order, whatever happened in between.
"""

import itertools
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = resource.getpagesize()
HERE = Path(__file__).resolve().parent
_candidates = itertools.count(12_000 + os.getpid() % 64 * 100)
RESULTS = HERE / "results"


class BenchError(Exception):
    """The bench itself cannot go on; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree has used so far and holds now (resident memory; shared pages count in each process)."""

    cpu_s: float
    rss_bytes: int


class Ward:
    """Keeps what a bench starts, and ends it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._endings: list[Callable[[], None]] = []

    def __enter__(self) -> "Ward":
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ending in reversed(self._endings):
            ending()
        for process in reversed(self._processes):
            self.end(process)

    def at_exit(self, ending: Callable[[], None]) -> None:
        """Call this before the processes are ended."""
        self._endings.append(ending)

    def start(
        self, words: Sequence[str | Path], name: str, core: int | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, bound to one core if named; its output goes to NAME.log."""
        with (self.directory / f"{name}.log").open("ab") as log, bound_to(core):
            process = subprocess.Popen(
                [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.directory, env=None if env is None else dict(env), start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes], grace_s: float = 3.0) -> None:
        """SIGTERM to its process group, SIGKILL to the whole tree at the end of the grace."""
        pids = tree(process.pid) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        for pid in (*pids, process.pid):
            if pid != process.pid or process.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()
        if process in self._processes:
            self._processes.remove(process)


class bound_to:  # noqa: N801
    """A block whose child processes run on one core only (None: on all)."""

    def __init__(self, core: int | None) -> None:
        self._core = core
        self._before = os.sched_getaffinity(0)

    def __enter__(self) -> None:
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.sched_setaffinity(0, self._before)


def tree(pid: int) -> list[int]:
    """A process and its descendants; empty when it is gone."""
    if not Path(f"/proc/{pid}").exists():
        return []
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def belonging_to(directory: Path) -> list[int]:
    """Processes that work in this directory or were started with a path in it: what a killed daemon left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            inside = f"{directory}/".encode()
            if (entry / "cwd").readlink().is_relative_to(directory) or any(word.startswith(inside) for word in words):
                found.append(int(entry.name))
    return found


def usage(pids: Iterable[int]) -> Usage:
    """Used by these processes together; raises BenchError when one of them is gone."""
    cpu_s, pages = 0.0, 0
    for pid in pids:
        process = Path(f"/proc/{pid}")
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            exact_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in (process / "task").iterdir())
        except OSError:
            raise BenchError(f"process {pid} ended while it was measured") from None
        # The scheduler's own count is exact to the nanosecond, but lacks threads that have ended; ticks are 10 ms.
        cpu_s += max(exact_ns / 1e9, (int(fields[11]) + int(fields[12]) - 2) / TICKS_A_SECOND)
        pages += int(fields[21])
    return Usage(cpu_s, pages * PAGE_BYTES)


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 10.0) -> None:
    """Look every 20 ms; raises BenchError at the deadline."""
    until_at = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > until_at:
            raise BenchError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Whether a GET on this port is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n")
            return connection.recv(1024).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens now, below the ephemeral range; each is told once."""
    found: list[int] = []
    while len(found) < count:
        at = next(_candidates)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", at))
                found.append(at)
    return found


def compiled(name: str) -> Path:
    """The program made of bench/NAME.c; compiled when its source is newer. Raises BenchError without a C compiler."""
    source, program = HERE / f"{name}.c", RESULTS / "bin" / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{source.name} cannot be compiled: {error}") from error
    return program
