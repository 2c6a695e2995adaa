"""A supervisor on a directory of its own, and replicas that it may end, for the tests of the fence."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import test_runner_start
from test_runner_start import SLOT, Bench, until

from perdure.adapters.fence import record
from perdure.adapters.fence.client import ProcessFence
from perdure.adapters.runner import stat
from perdure.model.replica import Process
from perdure.ports.fence import Acted, Hold

bench = test_runner_start.bench

LATE_S = 0.1
"""How long after its deadline a group may still be there."""

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for escape in (lambda: None, os.setsid, lambda: (os.fork() and os._exit(0), os.setsid())):
    if os.fork() == 0:
        escape()
        print(os.getpid(), flush=True)
        time.sleep(1000)
time.sleep(1000)
"""
"""Three children: one in the group, one and a grandchild in sessions of their own. All ignore SIGTERM."""

COUNTING = """
import signal, time
told = lambda *_: print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
while True:
    time.sleep(1000)
"""
"""Notes each SIGTERM, and goes on."""


class Site:
    """A fence in a directory of its own, and replicas of one service."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.directory = bench.path / "fence"
        self.told: list[str] = []
        self.fence = ProcessFence(self.directory, self.told.append)
        self.fence.ensure()
        self.pids = {self.pid}

    @property
    def pid(self) -> int:
        assert self.fence.pid is not None
        return self.fence.pid

    @property
    def file(self) -> Path:
        return self.directory / "web.hold"

    async def replica(self, code: str, lines: int = 1) -> Process:
        """A replica that runs Python code, once it has printed so many lines."""
        (self.bench.path / "log/web.1.log").unlink(missing_ok=True)
        process = self.bench.start(sys.executable, "-c", code)
        await until(lambda: self.bench.log().count("\n") >= lines)
        return process

    def hold(self, process: Process, term_s: float = 0.2, kill_s: float = 0.4, epoch: int = 1) -> Hold:
        now = record.now()
        hold = Hold(SLOT, epoch, process, now + term_s, now + kill_s)
        self.fence.hold(hold)
        return hold

    def alive(self, process: Process) -> bool:
        return self.bench.runner.group_alive(process)

    async def gone(self, process: Process) -> list[Acted]:
        """Wait until nothing of it is left, and what was done to it until then."""
        await until(lambda: not self.alive(process))
        await until(lambda: any(one.group_gone for one in self.fence.acted()))
        return [one for one in self.fence.acted() if one.process == process]

    def next_fence(self) -> ProcessFence:
        """That of the next daemon."""
        self.fence.close()
        self.fence = ProcessFence(self.directory, self.told.append)
        self.fence.ensure()
        self.pids.add(self.pid)
        return self.fence


@pytest.fixture
async def site(bench: Bench) -> AsyncIterator[Site]:
    site = Site(bench)
    yield site
    site.fence.close()
    for pid in site.pids | set(supervisors(site.directory)):
        kill(pid)


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone if it is a child of this process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def supervisors(directory: Path) -> list[int]:
    """The pids of all that work in this directory."""
    wanted = f"\0{directory}\0".encode()
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208
    return [pid for pid in pids if runs(pid) and wanted in stat.read_file(pid, "cmdline")]


def runs(pid: int) -> bool:
    seen = stat.read(pid)
    return seen is not None and seen.letter not in stat.GONE


async def pause_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - record.now()))
