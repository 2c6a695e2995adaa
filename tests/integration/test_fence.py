"""Deadlines hold whatever has become of the daemon and the supervisor, and nothing but a deadline ends a replica."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fence_site
import pytest
from fence_site import COUNTING, LATE_S, STUBBORN, Site, pause_until, runs
from test_runner_start import SLOT, until

from perdure.adapters.fence import record
from perdure.model.errors import RefusedError, UnavailableError
from perdure.model.replica import Process, Slot
from perdure.ports.fence import Hold

bench = fence_site.bench
site = fence_site.site

DAEMON = """
import asyncio, sys
from pathlib import Path
from perdure.adapters.fence import record
from perdure.adapters.fence.client import ProcessFence
from perdure.model.replica import Process, Slot
from perdure.ports.fence import Hold

async def main():
    fence = ProcessFence(Path(sys.argv[1]))
    while True:
        now = record.now()
        fence.hold(Hold(Slot("web", 1), 1, Process(int(sys.argv[2]), int(sys.argv[3])), now + 0.4, now + 0.6))
        print(fence.pid, flush=True)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


async def test_a_renewal_in_time_always_counts_at_any_phase(site: Site) -> None:
    dice = random.Random(7)
    in_time = 0
    process = await site.replica("print(flush=True); import time; time.sleep(1000)")
    hold = site.hold(process, 0.3, 0.3)
    while in_time < 40:
        assert hold.term_at is not None
        await pause_until(hold.term_at - dice.uniform(0.002, 0.05))
        renewed = site.hold(process, dice.uniform(0.06, 0.3), 1)
        if record.now() >= hold.term_at:  # this test was too slow, so the replica may have been ended
            process = await site.replica("print(flush=True); import time; time.sleep(1000)")
            renewed = site.hold(process, 0.3, 0.3)
        else:
            in_time += 1
            assert site.fence.acted() == []
            assert runs(process.pid)
        hold = renewed


async def test_without_a_renewal_the_whole_group_is_gone_at_its_deadline(site: Site) -> None:
    process = await site.replica(STUBBORN, lines=3)
    children = [int(line) for line in site.bench.log().split()]
    hold = site.hold(process)
    term, kill = await site.gone(process)
    assert not any(runs(pid) for pid in [process.pid, *children])
    assert (term.signal, kill.signal) == ("SIGTERM", "SIGKILL")
    assert hold.term_at is not None and hold.kill_at is not None and kill.gone_at is not None
    assert hold.term_at <= term.at < hold.term_at + LATE_S
    assert hold.kill_at <= kill.at < kill.gone_at < hold.kill_at + LATE_S
    assert term.group_gone


async def test_what_ends_when_it_is_told_to_is_not_killed(site: Site) -> None:
    process = await site.replica("print(flush=True); import time; time.sleep(1000)")
    site.hold(process, 0.2, 5)
    (only,) = await site.gone(process)
    assert only.signal == "SIGTERM"
    assert only.gone_at is not None and only.gone_at < only.at + LATE_S


async def test_what_was_done_to_one_process_is_told_until_the_next_is_held(site: Site) -> None:
    process = await site.replica("print(flush=True); import time; time.sleep(1000)")
    site.hold(process, 0.1, 5)
    assert len(await site.gone(process)) == 1
    site.fence.release("web")
    assert len(site.fence.acted()) == 1
    site.hold(await site.replica(COUNTING), 500, 600, epoch=2)
    assert site.fence.acted() == []


async def test_nothing_is_done_before_the_deadline_and_only_once_at_it(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.3, 1)
    assert hold.term_at is not None and hold.kill_at is not None
    await until(lambda: record.now() > hold.kill_at - 0.1)
    _, *told = site.bench.log().split()
    assert len(told) == 1
    assert hold.term_at <= float(told[0]) < hold.term_at + LATE_S
    await site.gone(process)


async def test_a_right_that_does_not_run_out_is_never_enforced(site: Site) -> None:
    process = await site.replica("print(flush=True); import time; time.sleep(1000)")
    site.fence.hold(Hold(SLOT, 1, process, None, None))
    other = await site.replica("print(flush=True); import time; time.sleep(1000)")
    now = record.now()
    site.fence.hold(Hold(Slot("api", 1), 1, other, now, now))
    await site.gone(other)
    assert runs(process.pid)


async def test_a_released_service_is_left_alone_and_the_epochs_before_are_over(site: Site) -> None:
    process = await site.replica("print(flush=True); import time; time.sleep(1000)")
    hold = site.hold(process, 0.2, 0.2, epoch=5)
    site.fence.release("web")
    assert site.fence.held() == []
    await pause_until((hold.kill_at or 0) + 0.2)
    assert runs(process.pid)
    with pytest.raises(RefusedError, match="epoch 4"):
        site.hold(process, epoch=4)
    with pytest.raises(RefusedError, match="epoch 5 was held since"):
        Site.next_fence(site)
        site.hold(process, epoch=4)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_daemon_that_stops_or_dies_leaves_the_deadline_in_force(site: Site, number: signal.Signals) -> None:
    process = await site.replica(STUBBORN, lines=3)
    site.fence.close()
    words = [sys.executable, "-c", DAEMON, str(site.directory), str(process.pid), str(process.started_ticks)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as daemon:  # noqa: ASYNC220
        try:
            assert daemon.stdout is not None
            # Renewed for longer than any of its terms, and by the supervisor that was there before.
            pids = {int(daemon.stdout.readline()) for _ in range(20)}
            assert pids == site.pids
            assert site.fence.acted() == []
            os.killpg(daemon.pid, number)
            term, kill = await site.gone(process)
            (hold,) = site.fence.held()
            assert hold.kill_at is not None
            assert term.at < kill.at
            assert kill.gone_at is not None and kill.gone_at < hold.kill_at + LATE_S
        finally:
            os.killpg(daemon.pid, signal.SIGKILL)


async def test_a_pid_that_is_another_process_by_now_is_never_signalled(site: Site) -> None:
    live = await site.replica(COUNTING)
    site.hold(Process(live.pid, live.started_ticks - 1), 0, 0.1)
    other = await site.replica(COUNTING)  # the same log, so a second "ready"
    now = record.now()
    site.fence.hold(Hold(Slot("api", 1), 1, other, now + 0.2, now + 0.2))
    await until(lambda: not site.alive(other))
    assert runs(live.pid)
    assert [one.process for one in site.fence.acted()] == [other]


async def test_a_supervisor_that_is_killed_between_the_deadlines_is_started_and_goes_on(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.1, 0.8)
    await until(lambda: bool(site.fence.acted()))
    first = site.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: site.fence.pid not in (None, first))
    site.pids.add(site.pid)
    term, kill = await site.gone(process)
    assert hold.kill_at is not None and kill.gone_at is not None
    assert kill.gone_at < hold.kill_at + LATE_S
    assert len(site.bench.log().split()) == 2, "told to end twice"
    assert site.told == ["the supervisor ended; it is started again"]
    assert term.group_gone


async def test_a_supervisor_that_was_stopped_beyond_a_deadline_acts_at_once(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.1, 0.2)
    os.kill(site.pid, signal.SIGSTOP)
    await pause_until((hold.kill_at or 0) + 0.3)
    assert runs(process.pid)
    continued_at = record.now()
    os.kill(site.pid, signal.SIGCONT)
    (kill,) = await site.gone(process)
    assert kill.signal == "SIGKILL"
    assert kill.gone_at is not None and kill.gone_at < continued_at + LATE_S


async def test_a_stopped_supervisor_is_continued_by_the_next_renewal(site: Site) -> None:
    process = await site.replica(COUNTING)
    os.kill(site.pid, signal.SIGSTOP)
    site.hold(process, 0.1, 0.2)
    _, kill = await site.gone(process)
    assert kill.signal == "SIGKILL"


@pytest.mark.parametrize("damage", ["newest", "all", "cut", "deleted", "directory"])
async def test_damage_to_what_is_held_neither_ends_a_right_nor_extends_it(site: Site, damage: str) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.6, 0.7)
    await asyncio.sleep(0.05)
    content = bytearray(site.file.read_bytes())
    match damage:
        case "newest":
            content[20] ^= 1
            content[record.RECORD_BYTES + 20] ^= 1
            site.file.write_bytes(content)
        case "all":
            site.file.write_bytes(b"\xff" * len(content))
        case "cut":
            os.truncate(site.file, 0)
        case "deleted":
            site.file.unlink()
        case "directory":
            for path in site.directory.iterdir():
                path.unlink()
            site.directory.rmdir()
    await until(lambda: not site.alive(process))
    assert hold.term_at is not None and hold.kill_at is not None
    assert record.now() < hold.kill_at + LATE_S + 0.1
    _, told = site.bench.log().split()
    assert hold.term_at <= float(told) < hold.term_at + LATE_S


async def test_damage_to_a_renewal_that_was_seen_does_not_bring_the_earlier_deadline_back(site: Site) -> None:
    process = await site.replica(COUNTING)
    site.hold(process, 0.4, 0.4)
    earlier = site.file.read_bytes()
    site.hold(process, 500, 600)
    await asyncio.sleep(0.05)
    site.file.write_bytes(earlier)
    await asyncio.sleep(0.6)
    assert runs(process.pid)
    site.file.unlink()
    site.hold(process, 0.1, 0.2)  # in a new file
    assert len(await site.gone(process)) == 2


async def test_a_file_that_cannot_be_read_changes_nothing(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.3, 0.4)
    await asyncio.sleep(0.05)
    site.file.unlink()
    site.file.symlink_to(site.file)
    await until(lambda: not site.alive(process))
    assert hold.kill_at is not None and hold.kill_at <= record.now() < hold.kill_at + 2 * LATE_S


async def test_a_supervisor_that_starts_on_a_damaged_statement_enforces_the_one_before(site: Site) -> None:
    process = await site.replica(COUNTING)
    before = site.hold(process, 0.5, 0.7)
    site.hold(process, 500, 500)
    os.kill(site.pid, signal.SIGSTOP)
    content = bytearray(site.file.read_bytes())
    second = record.newest(bytes(content), record.boot_id())
    assert second is not None
    content[second.offset + 10] ^= 1
    site.file.write_bytes(content)
    os.kill(site.pid, signal.SIGKILL)
    term, kill = await site.gone(process)
    site.pids.add(site.pid)
    assert before.term_at is not None and before.kill_at is not None
    assert before.term_at <= term.at < before.kill_at <= kill.at < before.kill_at + LATE_S


async def test_many_deadlines_at_once_are_all_kept(site: Site) -> None:
    slots = [Slot(f"web{number}", 1) for number in range(12)]
    processes = [await site.replica(STUBBORN, lines=3) for _ in slots]
    kill_at = record.now() + 0.5
    for slot, process in zip(slots, processes, strict=True):
        site.fence.hold(Hold(slot, 1, process, kill_at, kill_at))
    await until(lambda: len(site.fence.acted()) == 12 and all(one.group_gone for one in site.fence.acted()))
    assert not any(site.alive(process) for process in processes)
    acted = site.fence.acted()
    assert all(kill_at <= one.at < kill_at + LATE_S for one in acted)
    assert all(one.gone_at is not None and one.gone_at < kill_at + 3 * LATE_S for one in acted)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Where the supervisor's directory will be: a file system of its own that can be filled."""
    directory = tmp_path / "fence"
    directory.mkdir()
    words = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


async def test_a_full_disk_refuses_a_new_hold_and_no_renewal(small_disk: Path, site: Site) -> None:
    process = await site.replica(COUNTING)
    site.hold(process, 1, 1)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for _ in range(4):
        await asyncio.sleep(0.05)
        site.hold(process, 0.2, 0.3)
    with pytest.raises(UnavailableError, match="No space left") as caught:
        site.fence.hold(Hold(Slot("api", 1), 1, process, 1e9, 1e9))
    assert "room" in caught.value.hint
    assert len(await site.gone(process)) == 2  # what was done can be told, too
