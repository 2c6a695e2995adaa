"""The store is locked, full or damaged: Perdure says so, and what runs goes on serving."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from bench import processes
from e2e import Site, gone, site, wait

LOCKED_S = 5.0


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as made:
        made.web()
        made.up()
        yield made


@pytest.fixture
def small_disk() -> Iterator[tuple[Path, bool]]:
    """A short-named directory, and whether it is a small file system of its own (which only root may mount)."""
    directory = Path(tempfile.mkdtemp(prefix="e2e-"))
    mount = shutil.which("mount") or "/bin/mount"
    command = [mount, "-t", "tmpfs", "-o", "size=8m,mode=750", "tmpfs", str(directory)]
    mounted = Path(mount).exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield directory, mounted
    if mounted:
        subprocess.run(["umount", str(directory)], check=True)
    shutil.rmtree(directory)


async def test_a_locked_store_is_reported_and_costs_neither_a_request_nor_a_replica(web: Site) -> None:
    web.whole()
    since, (victim, *others) = web.newest(), web.pids()
    async with web.load(rate=100.0) as clients:
        other = apsw.Connection(str(web.paths.database))
        other.execute("BEGIN IMMEDIATE")
        until_at = time.monotonic() + LOCKED_S
        os.kill(victim, signal.SIGKILL)
        wait(lambda: "locked" in web.status()["daemon"]["store"], "the lock is reported")
        refused = web.run("restart", "web/2")
        assert refused.returncode == 4
        assert f"the store {web.paths.database} is locked" in refused.stderr and "try: " in refused.stderr
        wait(lambda: time.monotonic() > until_at, "five seconds have passed")
        other.execute("COMMIT")
        other.close()
        wait(lambda: web.status()["daemon"]["store"] == "ok", "the store is used again")
        web.whole(victim)
    assert clients.result.failed == 0, clients.result.sentence()
    assert web.pids()[1:] == others
    assert {"A08", "A09", "R10", "P01", "P06"} <= set(web.rules(since)), "what happened meanwhile is recorded"


async def test_a_full_disk_is_reported_and_fails_no_request(small_disk: tuple[Path, bool]) -> None:
    home, mounted = small_disk
    with site(home) as web:
        web.web(replicas=2)
        web.up()
        web.whole()
        victim, other = web.pids()
        async with web.load(rate=100.0) as clients:
            full = "the disk is full" if mounted else "cannot be used"
            daemon = web.status()["daemon"]["pid"]
            _fill(home, daemon, mounted)
            web.run("drain", "web/2", "--no-wait")
            web.run("undrain", "web/2", "--no-wait")
            os.kill(victim, signal.SIGKILL)
            wait(lambda: full in web.status()["daemon"]["store"], "the full disk is reported")
            _free(home, daemon, mounted)
            wait(lambda: web.status()["daemon"]["store"] == "ok", "the store is used again")
            web.whole(victim)
        assert clients.result.failed == 0, clients.result.sentence()
        assert not gone(other)


async def test_a_damaged_store_at_the_start_is_refused_and_what_runs_goes_on(web: Site) -> None:
    web.whole()
    before = web.status()
    pids = web.pids()
    async with web.load(rate=100.0) as clients:
        os.kill(before["daemon"]["pid"], signal.SIGKILL)
        wait(lambda: gone(before["daemon"]["pid"]), "the daemon is dead")
        with web.paths.database.open("r+b") as database:
            database.write(b"not a database any more" * 4)
        refused = web.run("up", "-d")
        assert refused.returncode == 7, refused.stderr
        assert f"the store {web.paths.database} is damaged" in refused.stderr
        assert f"move {web.paths.database.name}* away" in refused.stderr
    assert clients.result.failed == 0, clients.result.sentence()
    assert not any(gone(pid) for pid in (*pids, before["balancer"]["pid"]))


def test_after_a_damaged_store_was_moved_away_there_is_one_process_in_each_slot(web: Site) -> None:
    """Goes on where the test before it ended: no daemon, three replicas and HAProxy that no store knows of."""
    assert not web.answers()
    for path in web.paths.state.glob(f"{web.paths.database.name}*"):
        path.unlink()
    web.up()
    web.whole()
    running = {pid for pid in processes.belonging_to(web.directory) if _runs(pid, "app.py")}
    assert running == set(web.pids())
    assert {pid for pid in processes.belonging_to(web.directory) if _runs(pid, "haproxy")} == {
        web.status()["balancer"]["pid"]
    }


def _fill(home: Path, daemon: int, mounted: bool) -> None:
    if mounted:
        space = os.statvfs(home)
        (home / "ballast").write_bytes(bytes(space.f_bavail * space.f_frsize))
    else:
        resource.prlimit(daemon, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


def _free(home: Path, daemon: int, mounted: bool) -> None:
    if mounted:
        (home / "ballast").unlink()
    else:
        resource.prlimit(daemon, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _runs(pid: int, program: str) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(word.decode().endswith(program) for word in words[:2])
