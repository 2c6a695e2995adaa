"""There is always one supervisor for a directory: started, adopted, replaced, started again, until it may leave."""

import os
import signal
import time

import fence_site
import pytest
from fence_site import COUNTING, LATE_S, Site, kill, pause_until, runs, supervisors
from test_runner_start import SLOT, until

from perdure.adapters.fence import record, starting
from perdure.adapters.runner import stat
from perdure.model.errors import UnavailableError
from perdure.ports.fence import Hold

bench = fence_site.bench
site = fence_site.site


async def test_the_next_daemon_adopts_the_process_and_finds_what_is_held(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 500, 600, epoch=3)
    first = site.pid
    fence = site.next_fence()
    assert fence.pid == first
    assert fence.held() == [hold]
    os.kill(first, signal.SIGKILL)
    await until(lambda: fence.pid not in (None, first))
    site.pids.add(site.pid)
    assert fence.held() == [hold]


async def test_a_supervisor_of_another_version_is_replaced_and_no_deadline_is_lost(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.4, 0.5)
    first = site.pid
    lock = site.directory / record.LOCK
    lock.write_text(" ".join([*lock.read_text().split()[:3], "0.0.1"]))
    fence = site.next_fence()
    assert fence.pid != first
    await until(lambda: not runs(first))
    term, kill = await site.gone(process)
    assert hold.term_at is not None and hold.kill_at is not None
    assert hold.term_at <= term.at < hold.kill_at <= kill.at < hold.kill_at + LATE_S
    assert len(site.bench.log().split()) == 2


@pytest.mark.parametrize("text", ["", "rubbish", "1 2 3 4", "\xff"])
async def test_a_damaged_lock_file_leads_to_one_supervisor(site: Site, text: str) -> None:
    first = site.pid
    (site.directory / record.LOCK).write_bytes(text.encode("latin-1"))
    site.next_fence()
    await until(lambda: supervisors(site.directory) == [site.pid])
    assert site.pid != first


async def test_a_second_process_for_the_same_directory_does_not_stay(site: Site) -> None:
    reading, writing = os.pipe()
    second = starting._spawn(site.directory, writing)
    os.close(writing)
    await until(lambda: not runs(second))
    os.close(reading)
    kill(second)
    assert runs(site.pid)


async def test_it_ends_by_itself_when_its_directory_is_gone_and_nothing_is_held(site: Site) -> None:
    first = site.pid
    site.fence.close()
    for path in site.directory.iterdir():
        path.unlink()
    site.directory.rmdir()
    await until(lambda: not runs(first))


async def test_it_leaves_when_it_is_told_to_but_not_while_a_deadline_is_held(site: Site) -> None:
    process = await site.replica(COUNTING)
    hold = site.hold(process, 0.3, 0.5)
    first = site.pid
    site.fence.end()
    assert hold.term_at is not None
    await pause_until(hold.term_at - 0.05)
    assert runs(first)
    await until(lambda: not runs(first))
    assert not site.alive(process)
    assert site.told == []
    site.fence.ensure()
    site.pids.add(site.pid)


async def test_one_that_keeps_ending_is_started_ever_more_rarely_and_no_right_is_given(site: Site) -> None:
    process = await site.replica(COUNTING)
    starts = 0
    began_at = time.monotonic()
    with pytest.raises(UnavailableError, match="times in a row"):
        while time.monotonic() < began_at + 5:
            pid = site.fence.pid
            if pid is not None:
                starts += 1
                kill(pid)
            site.hold(process, 500, 600)
            site.pids.add(site.pid)
    assert starts < 6
    site.fence.hold(Hold(SLOT, 2, process, None, None))  # nobody has to enforce this one


async def test_one_that_cannot_start_gives_no_right(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    process = await site.replica(COUNTING)
    monkeypatch.setattr(starting, "PROGRAM", "/nowhere/at/all.py")
    kill(site.pid)
    with pytest.raises(UnavailableError, match="cannot be started") as caught:
        site.hold(process, 500, 600)
    assert "log" in caught.value.hint
    assert site.fence.held() == []


async def test_it_is_small_and_holds_nothing_of_the_daemons(site: Site) -> None:
    pid = site.pid
    pages = int(stat.read_file(pid, "statm").split()[1])
    assert pages * os.sysconf("SC_PAGE_SIZE") < 13_000_000
    assert os.getsid(pid) == pid
    assert stat.read_file(pid, "environ") == b""
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
        target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
        assert target == "/dev/null" or target.startswith(str(site.directory))
    assert site.directory.stat().st_mode & 0o777 == 0o700
    site.hold(await site.replica(COUNTING), 500, 600)
    assert {path.stat().st_mode & 0o777 for path in site.directory.iterdir()} == {0o600}
