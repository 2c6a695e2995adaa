"""A store on a disk that is full, or that may not be written: the reason is told, nothing is lost, and it goes on."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from store_children import ANSWER_TIMEOUT_S

from perdure.adapters.store.sqlite import SQLiteStore
from perdure.model.errors import UnavailableError
from perdure.ports.store import Transaction

FILLER = """
import asyncio, json, os, resource, sys
from pathlib import Path
from perdure.adapters.store.sqlite import SQLiteStore
from perdure.model.errors import UnavailableError
from perdure.ports.store import Transaction

path, how = Path(sys.argv[1]), sys.argv[2]
ballast = path.with_name("ballast")

def fill():
    if how == "limit":
        size = path.with_name(path.name + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
    else:
        space = os.statvfs(path.parent)
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 100_000))

def free():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        ballast.unlink()

async def write_until_refused(store, n):
    while n < 10_000:
        try:
            await store.commit(Transaction(put={f"k/{n}": {"text": "x" * 5000}}, durable=n % 3 == 0))
        except UnavailableError as error:
            return n, error
        n += 1
    return n, None

async def main():
    store = await SQLiteStore.open(path)
    await store.commit(Transaction(put={"first": {}}, durable=True))
    fill()
    n, error = await write_until_refused(store, 0)
    _, again = await write_until_refused(store, n)
    full = await store.read("k/")
    free()
    revision = await store.commit(Transaction(put={f"k/{n}": {"text": "y"}}, durable=True))
    await store.check()
    await store.close()
    print(json.dumps({
        "written": n, "sentence": error.sentence, "hint": error.hint, "again": again is not None,
        "read": len(full.records), "revision": revision}))

asyncio.run(main())
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory whose disk can be filled: a small file system of its own where this user may mount one, otherwise
    a limit on the size of files, which a process meets in the same places."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    mounted = mount is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield directory, "mounted" if mounted else "limit"
    if mounted:
        subprocess.run(["umount", str(directory)], check=True)


def fill(path: Path, how: str) -> None:
    """Let a process write until the disk is full and go on when it is not, and judge what it reports."""
    child = subprocess.run(
        [sys.executable, "-c", FILLER, str(path), how], capture_output=True, timeout=ANSWER_TIMEOUT_S, check=False
    )
    assert child.returncode == 0, child.stderr.decode()
    report = json.loads(child.stdout)
    assert 1 < report["written"] < 1000
    assert report["again"]
    assert report["read"] == report["written"]
    assert report["revision"] == report["written"] + 2
    assert str(path) in report["sentence"]
    assert report["hint"]
    assert how != "mounted" or "the disk is full" in report["sentence"]


async def test_a_full_disk_is_reported_loses_nothing_and_the_store_goes_on_when_there_is_space(
    small_disk: tuple[Path, str],
) -> None:
    directory, how = small_disk
    path = directory / "perdure.db"
    fill(path, how)
    store = await SQLiteStore.open(path)
    assert (await store.read("k/")).revision == len((await store.read("")).records)
    await store.close()


async def test_a_limit_on_the_size_of_files_is_met_like_a_full_disk(tmp_path: Path) -> None:
    fill(tmp_path / "perdure.db", "limit")


async def test_a_store_that_may_not_be_written_is_refused_unchanged(
    small_disk: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, how = small_disk
    path = directory / "perdure.db"
    store = await SQLiteStore.open(path)
    await store.commit(Transaction(put={"a": {}}, durable=True))
    await store.close()
    before = path.read_bytes()
    if how == "mounted":
        remounting = await asyncio.create_subprocess_exec("mount", "-o", "remount,ro", str(directory))
        assert await remounting.wait() == 0
    else:
        # A mode does not stop root; SQLite reports such a connection in the same way.
        monkeypatch.setattr(apsw, "SQLITE_OPEN_READWRITE", apsw.SQLITE_OPEN_READONLY)
    with pytest.raises(UnavailableError, match="cannot be used") as caught:
        await SQLiteStore.open(path)
    assert "writable" in caught.value.hint
    assert path.read_bytes() == before
