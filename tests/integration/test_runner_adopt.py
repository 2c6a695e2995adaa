"""The daemon may die at any instant: what it started is found again, and never run twice."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import test_runner_start
from test_runner_start import SLOT, Bench, comm, until

from perdure.adapters.runner import group, stat
from perdure.adapters.runner.process import Processes
from perdure.model.replica import Exit, Process

bench = test_runner_start.bench

DAEMON = """
import asyncio, os, signal, sys
from pathlib import Path
from perdure.adapters.runner.process import Processes
from perdure.model.replica import Slot
from perdure.model.service import Service
from perdure.ports.runner import Launch

async def main():
    runner = Processes(Path(sys.argv[1]) / "run", Path(sys.argv[1]) / "log")
    service = Service("web", ("sleep", "1000." + sys.argv[2]), directory="/")
    process = runner.start(Launch(service, Slot("web", 1), 1, 4321, ()), lambda process, ended: None)
    if sys.argv[3] != "never":
        await asyncio.sleep(float(sys.argv[3]))
        os.kill(os.getpid(), signal.SIGKILL)
    print(process.pid, process.started_ticks, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def commands(argument: str) -> list[int]:
    """The pids of everything whose command line ends so."""
    wanted = argument.encode() + b"\0"
    return [pid for pid in group._pids() if stat.read_file(pid, "cmdline").endswith(wanted)]


async def test_a_second_runner_adopts_and_is_told_of_the_end(bench: Bench, tmp_path: Path) -> None:
    process = bench.start("sleep", "1000")
    second = Processes(tmp_path / "run", tmp_path / "log")
    ended: list[tuple[Process, Exit]] = []
    assert second.recorded(SLOT) in (None, process)
    assert second.adopt(process, lambda gone, how: ended.append((gone, how)))
    assert second.sight(process).letter in "RSD"
    bench.runner.signal(process, "SIGKILL")
    await until(lambda: bool(ended) and process in bench.ended)
    # Both are the parent here, and only one of them can be told how it ended.
    assert {ended[0][1], bench.ended[process]} == {Exit(signal="SIGKILL"), Exit()}
    assert not second.adopt(process, lambda gone, how: None)
    second.close()


@pytest.mark.parametrize("change", [-1, 1])
async def test_a_reused_pid_is_not_adopted(bench: Bench, change: int) -> None:
    process = bench.start("sleep", "1000")
    second = Processes(bench.path / "run", bench.path / "log")
    assert not second.adopt(Process(process.pid, process.started_ticks + change), lambda gone, how: None)
    second.close()


async def test_a_zombie_is_not_adopted(bench: Bench) -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221 - nobody but this test may wait for it
    try:
        await until(lambda: (seen := stat.read(pid)) is not None and seen.letter == "Z")
        seen = stat.read(pid)
        assert seen is not None
        assert not bench.runner.adopt(Process(pid, seen.started_ticks), lambda gone, how: None)
    finally:
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended


async def test_a_killed_daemon_leaves_its_replica_running_and_the_next_one_adopts_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DAEMON, str(tmp_path), "1", "never"]
    daemon = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    pid, ticks = map(int, (await daemon.stdout.readline()).split())
    process = Process(pid, ticks)
    await until(lambda: comm(process) == "sleep")
    daemon.kill()
    await daemon.communicate()
    runner = Processes(tmp_path / "run", tmp_path / "log")
    ended: list[Exit] = []
    assert runner.recorded(SLOT) == process
    assert runner.adopt(process, lambda gone, how: ended.append(how))
    assert runner.group_alive(process)
    assert not ended
    runner.signal(process, "SIGTERM")
    await until(lambda: bool(ended))
    assert ended == [Exit()]
    runner.close()


@pytest.mark.parametrize("delay_s", ["0", "0", "0.005", "0.008", "0.011", "0.015", "0.03"])
async def test_no_unrecorded_replica_outlives_a_daemon_that_is_killed_while_it_starts_one(
    tmp_path: Path, delay_s: str
) -> None:
    mark = str(os.getpid())
    # Each daemon is waited for, so that what is left is the launcher's doing alone.
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", DAEMON, str(tmp_path), mark, delay_s)
    assert await daemon.wait() == -signal.SIGKILL
    runner = Processes(tmp_path / "run", tmp_path / "log")
    await until(lambda: runner.recorded(SLOT) is not None)
    process = runner.recorded(SLOT)
    assert process is not None
    # The launcher has written its record; it either goes on and becomes the command, or ends.
    await until(lambda: not runner.group_alive(process) or commands(f"1000.{mark}") == [process.pid])
    assert commands(f"1000.{mark}") in ([], [process.pid])
    if runner.adopt(process, lambda gone, how: None):
        runner.signal(process, "SIGKILL")
        await until(lambda: not runner.group_alive(process))
    runner.close()


async def test_a_launcher_whose_daemon_is_gone_records_itself_and_runs_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", os.getppid)  # so the launcher finds another parent than it was told
        process = bench.start("touch", "ran")
    await until(lambda: process in bench.ended)
    assert bench.ended[process] == Exit(code=126)
    assert bench.runner.recorded(SLOT) == process
    assert not (bench.path / "ran").exists()
    assert bench.log() == ""


async def test_closing_ends_the_watch_and_not_the_process(bench: Bench) -> None:
    process = bench.start("sleep", "1000")
    bench.runner.close()
    assert bench.runner.group_alive(process)
    assert bench.runner.adopt(process, bench._note)
