"""Ways to do harm: to a replica over the control endpoint of `bench/app.py` or by signals, to HAProxy, to the monitor.

Each strike is called with whom it strikes and the side it happens on, and returns when it is done; what must be undone
is undone by `heal`.
"""

import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import load, runtime
from bench.load_process import ROOT, arguments
from bench.sides import Side

CONTROL_TIMEOUT_S = 2.0
OPEN_FILES = 200
DESCRIPTORS_LEFT = 3
NEIGHBOURS = 6
BUSY = "import time\nuntil_at = time.monotonic() + 60\nwhile time.monotonic() < until_at: pass"


@dataclass(frozen=True, slots=True)
class Struck:
    """A replica that a fault is done to; port 0: nobody in particular."""

    port: int
    pid: int


Strike = Callable[[Struck, Side], None]

_neighbours: dict[int, list[subprocess.Popen[bytes]]] = {}
"""The pid of a replica -> the processes that starve it."""
_doomed: dict[int, Path] = {}
"""The pid of a replica -> the file that lets those who come after it end at once."""


def fault(**query: object) -> Strike:
    """Switch a fault of `bench/app.py` on."""

    def strike(struck: Struck, _: Side) -> None:
        switch(struck.port, query)

    return strike


def send(number: signal.Signals) -> Strike:
    """Send a signal to the process."""

    def strike(struck: Struck, _: Side) -> None:
        os.kill(struck.pid, number)

    return strike


def pause(seconds: float) -> Strike:
    """Stop the process for so long."""

    def strike(struck: Struck, _: Side) -> None:
        _stopped(struck.pid, seconds)

    return strike


def pause_of_the_monitor(seconds: float) -> Strike:
    """Stop the daemon for so long."""

    def strike(_: Struck, side: Side) -> None:
        _stopped(side.daemon_pid(), seconds)

    return strike


def starve_the_monitor(seconds: float, share: float) -> Strike:
    """Let the daemon run for only this share of the time, in turns of 100 ms."""

    def strike(_: Struck, side: Side) -> None:
        pid, until_at = side.daemon_pid(), time.monotonic() + seconds
        while time.monotonic() < until_at:
            _stopped(pid, 0.1 * (1.0 - share))
            time.sleep(0.1 * share)

    return strike


def kill_the_monitor_too(struck: Struck, side: Side) -> None:
    """Kill the daemon and, at once, the replica."""
    os.kill(side.daemon_pid(), signal.SIGKILL)
    os.kill(struck.pid, signal.SIGKILL)


def nearly_all_descriptors(struck: Struck, _: Side) -> None:
    """Open files until three descriptors are left of those that the bench allows."""
    switch(struck.port, {"kind": "files", "count": OPEN_FILES - DESCRIPTORS_LEFT - _descriptors(struck.pid)})


def no_more_descriptors(struck: Struck, _: Side) -> None:
    """Allow the process no more descriptors than it has: for programs that cannot be told to open some."""
    _, hard = resource.prlimit(struck.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(struck.pid, resource.RLIMIT_NOFILE, (_descriptors(struck.pid), hard))


def crash_loop(struck: Struck, _: Side) -> None:
    """Kill the replica, and let all that are started in its place end at once."""
    variables = Path(f"/proc/{struck.pid}/environ").read_bytes().decode().split("\0")
    slot = next((one.partition("=")[2] for one in variables if one.startswith("PERDURE_SLOT=")), str(struck.port))
    doomed = Path(os.readlink(f"/proc/{struck.pid}/cwd")) / f"doomed-{slot.replace('/', '-')}"  # noqa: PTH115
    doomed.touch()
    _doomed[struck.pid] = doomed
    os.kill(struck.pid, signal.SIGKILL)


def neighbours(struck: Struck, _: Side) -> None:
    """Bind the replica to one core, where busy loops take all of the time but what nobody else wants."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(struck.pid, {core})
    os.sched_setscheduler(struck.pid, os.SCHED_IDLE, os.sched_param(0))
    _neighbours[struck.pid] = [
        subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", BUSY]) for _ in range(NEIGHBOURS)
    ]


def weightless(struck: Struck, side: Side) -> None:
    """Take its share of the requests away behind everybody's back, in HAProxy itself."""
    stats = side.stats()
    assert stats is not None
    name = next(name for name, port in runtime.servers(stats, side.backends).items() if port == struck.port)
    runtime.ask(stats, f"set server {name} weight 0")


def clients(rate: float, seconds: float, path: str = "/") -> Strike:
    """More clients, who send so many requests a second for so long."""

    def strike(_: Struck, side: Side) -> None:
        plan = load.Plan(f"http://127.0.0.1:{side.port}{path}", rate, duration_s=seconds, connections=1024)
        words = [sys.executable, "-m", "bench.load", *arguments(plan)]
        subprocess.run(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, check=False, timeout=120)

    return strike


def switch(port: int, query: Mapping[str, object]) -> None:
    """Tell a replica how to fail; raises OSError when it cannot be told."""
    words = "&".join(f"{name}={value}" for name, value in query.items())
    request = urllib.request.Request(f"http://127.0.0.1:{port}/fault?{words}", b"", method="POST")
    with urllib.request.urlopen(request, timeout=CONTROL_TIMEOUT_S) as answer:
        answer.read()


def heal(struck: Struck) -> None:
    """Make a replica well again; one that is gone or cannot be told is left to whoever restarts it."""
    undo(struck)
    with suppress(OSError):
        os.kill(struck.pid, signal.SIGCONT)
    with suppress(OSError):
        switch(struck.port, {"kind": "none"})


def undo(struck: Struck) -> None:
    """Take back what was done beside the replica."""
    for process in _neighbours.pop(struck.pid, []):
        process.kill()
        process.wait()
    if struck.pid in _doomed:
        _doomed.pop(struck.pid).unlink(missing_ok=True)


def _stopped(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
