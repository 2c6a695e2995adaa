"""Ways to do harm: to a replica over the control endpoint of `bench/app.py` or by signals, to HAProxy, to the monitor.

Each strike is called with whom it strikes and the side it happens on, and returns when it is done. What must be taken
back is pushed onto `struck.afterwards`; what lasts stops when `struck.over` is set. What takes more than a signal or a
word to the application is in `disasters`.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from bench import load, runtime
from bench.faults import stages
from bench.faults.struck import Strike, Struck, switch
from bench.load_process import ROOT, arguments
from bench.sides import Side

DESCRIPTORS_LEFT = 3
NEIGHBOURS = 6
BUSY = "import time\nuntil_at = time.monotonic() + 60\nwhile time.monotonic() < until_at: pass"


def fault(**query: object) -> Strike:
    """Switch a fault of `bench/app.py` on."""

    def strike(struck: Struck, side: Side) -> None:
        switch(side, struck.port, query)

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


def nearly_all_descriptors(struck: Struck, side: Side) -> None:
    """Open files until three descriptors are left of those that the bench allows."""
    count = stages.OPEN_FILES - DESCRIPTORS_LEFT - _descriptors(struck.pid)
    switch(side, struck.port, {"kind": "files", "count": count})


def no_more_descriptors(struck: Struck, _: Side) -> None:
    """Allow the process no more descriptors than it has: for programs that cannot be told to open some."""
    hard = resource.prlimit(struck.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(struck.pid, resource.RLIMIT_NOFILE, (_descriptors(struck.pid), hard))


def crash_loop(struck: Struck, _: Side) -> None:
    """Kill the replica, and let all that are started in its place end at once."""
    doomed = struck.folder / f"doomed-{struck.slot.replace('/', '-')}"
    doomed.touch()
    struck.afterwards.callback(doomed.unlink, missing_ok=True)
    os.kill(struck.pid, signal.SIGKILL)


def neighbours(struck: Struck, _: Side) -> None:
    """Bind the replica to one core, where busy loops take all of the time but what nobody else wants."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(struck.pid, {core})
    os.sched_setscheduler(struck.pid, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(struck.pid) == struck.pid:
        with suppress(OSError):  # a kernel that groups by session gives each session its share, however low inside
            Path(f"/proc/{struck.pid}/autogroup").write_text("19")
    for _number in range(NEIGHBOURS):
        process = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", BUSY], start_new_session=True)
        struck.afterwards.callback(process.wait)
        struck.afterwards.callback(process.kill)


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


def heal(struck: Struck, side: Side) -> None:
    """Make a replica well again; one that is gone or cannot be told is left to whoever restarts it."""
    with suppress(OSError):
        os.kill(struck.pid, signal.SIGCONT)
    with suppress(OSError):
        switch(side, struck.port, {"kind": "none"})


def _stopped(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
