"""Real damage and real full disks: an error that says what is wrong, and live data that is as it was, byte for byte."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import pytest

from perdure.adapters.state.client import Keepers
from perdure.model.errors import CorruptionError, PerdureError, UnavailableError
from perdure.model.snapshot import Keeping, Manifest, StateKind
from perdure.ports.keeper import Source

SQLITE = Keeping(StateKind.SQLITE, path="notes.db")
FILES = Keeping(StateKind.FILES, path="data")
TABLE = "CREATE TABLE t(id INTEGER PRIMARY KEY, text)"
ROWS = (
    "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1})"
    " INSERT INTO t SELECT i, hex(randomblob(500)) FROM n"
)


@dataclass
class Slots:
    """An active and a passive slot below a directory, with a database and a tree in each."""

    root: Path

    def source(self, keeping: Keeping, number: int = 1) -> Source:
        directory = self.root / str(number)
        (directory / "data").mkdir(parents=True, exist_ok=True)
        return Source("notes", f"notes/{number}", str(directory), keeping)

    def fill(self, first: int, last: int) -> None:
        directory = Path(self.source(SQLITE).directory)
        with closing(apsw.Connection(str(directory / "notes.db"))) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = OFF").fetchall()
            connection.execute(TABLE.replace("TABLE", "TABLE IF NOT EXISTS")).fetchall()
            connection.execute(ROWS.format(first, last)).fetchall()
        (directory / "data" / f"file{first}").write_bytes(os.urandom(1_000 * (last - first)))

    def picture(self, number: int = 1) -> dict[str, bytes]:
        directory = self.root / str(number)
        return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
async def keepers(tmp_path: Path) -> AsyncIterator[Keepers]:
    keepers = Keepers(tmp_path / "snapshots", lambda service: "")
    yield keepers
    await keepers.close()


def damages(store: Path) -> Iterator[Path]:
    """Each file of the store, removed, cut and changed in one bit, one after the other; whole again after each."""
    for path in sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size):
        whole = path.read_bytes()
        path.unlink()
        yield path
        path.write_bytes(whole[: len(whole) // 2])
        yield path
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        path.write_bytes(flipped)
        yield path
        path.write_bytes(whole)


@pytest.mark.parametrize("keeping", [SQLITE, FILES], ids=["sqlite", "files"])
async def test_whatever_file_of_the_store_is_damaged_the_state_is_restored_whole_or_nothing_is_changed(
    keepers: Keepers, tmp_path: Path, keeping: Keeping
) -> None:
    slots = Slots(tmp_path)
    slots.fill(0, 100)
    of, passive = slots.source(keeping), slots.source(keeping, 2)
    first = await keepers.take(of, 1, 1)
    await keepers.apply(passive, first.id, False)
    slots.fill(1_000, 1_050)
    second = await keepers.take(of, 1, 1)
    live, followed = slots.picture(), slots.picture(2)
    aside = tmp_path / "aside"
    await keepers.restore(of, second.id, str(aside))
    wanted = {path.name: path.read_bytes() for path in aside.rglob("*") if path.is_file()}
    shutil.rmtree(aside)
    refused = 0
    for damaged in damages(tmp_path / "snapshots" / "notes" / "vault"):
        try:
            await keepers.restore(of, second.id, str(aside))
        except (CorruptionError, UnavailableError) as error:
            refused += 1
            assert str(damaged) in error.sentence or "snapshot" in error.sentence
            assert not aside.exists()
        else:
            found = {path.name: path.read_bytes() for path in aside.rglob("*") if path.is_file()}
            assert {name for name in found if found[name] != wanted[name]} <= {".perdure-applied"}
            shutil.rmtree(aside)
        assert slots.picture() == live
        assert slots.picture(2) == followed
    assert refused > 5


async def test_a_passive_replica_is_brought_to_a_snapshot_or_stays_as_it_was_when_the_store_is_damaged(
    keepers: Keepers, tmp_path: Path
) -> None:
    slots = Slots(tmp_path)
    slots.fill(0, 100)
    of, passive = slots.source(SQLITE), slots.source(SQLITE, 2)
    first = await keepers.take(of, 1, 1)
    slots.fill(1_000, 1_050)
    second = await keepers.take(of, 1, 1)
    await keepers.apply(passive, second.id, False)
    there = (tmp_path / "2" / "notes.db").read_bytes()
    for _ in damages(tmp_path / "snapshots" / "notes" / "vault"):
        await keepers.close()
        keepers = Keepers(tmp_path / "snapshots", lambda service: "")
        await apply_quietly(keepers, passive, first)
        before = (tmp_path / "2" / "notes.db").read_bytes()
        manifest = await keepers.applied(passive)
        try:
            await keepers.apply(passive, second.id, False)
        except PerdureError:
            assert (tmp_path / "2" / "notes.db").read_bytes() == before
            assert await keepers.applied(passive) == manifest
        else:
            assert (tmp_path / "2" / "notes.db").read_bytes() == there
    await keepers.close()


async def apply_quietly(keepers: Keepers, passive: Source, manifest: Manifest) -> None:
    try:
        await keepers.apply(passive, manifest.id, False)
    except PerdureError:
        return


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("keeping", [SQLITE, FILES], ids=["sqlite", "files"])
async def test_a_disk_that_is_full_fails_what_needs_room_and_nothing_else(small_disk: Path, keeping: Keeping) -> None:
    slots = Slots(small_disk)
    keepers = Keepers(small_disk / "snapshots", lambda service: "")
    try:
        slots.fill(0, 1_000)
        of, passive = slots.source(keeping), slots.source(keeping, 2)
        first = await keepers.take(of, 1, 1)
        slots.fill(10_000, 12_000)
        live = slots.picture()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            fill_up(file.fileno())
        for work in (
            keepers.take(of, 1, 1),
            keepers.restore(of, first.id, str(small_disk / "aside")),
            keepers.apply(passive, first.id, False),
        ):
            with pytest.raises(UnavailableError, match=r"room|disk is full"):
                await work
            assert not (small_disk / "aside").exists()
            assert slots.picture() == live
        ballast.unlink()
        second = await keepers.take(of, 1, 1)
        assert [one.manifest for one in await keepers.kept("notes")] == [first, second]
        await keepers.apply(passive, first.id, False)
        await keepers.restore(of, first.id, str(small_disk / "aside"))
        with ballast.open("wb", buffering=0) as file:
            fill_up(file.fileno())
        # Names need no room here; where they do, what happens is in `test_state_switch`.
        await keepers.switch(of, str(small_disk / "aside"), str(small_disk / "before"))
        await keepers.switch(of, str(small_disk / "before"), str(small_disk / "aside"))
        assert without_marks(slots.picture()) == without_marks(live)
    except UnavailableError as error:
        assert "disk is full" in error.sentence
        assert await keepers.recover(of) in (None, False)
        assert without_marks(slots.picture()) == without_marks(live)
    finally:
        await keepers.close()


def fill_up(descriptor: int) -> None:
    """Write until nothing more goes."""
    while True:
        try:
            os.write(descriptor, bytes(4_096))
        except OSError:
            return


def without_marks(picture: dict[str, bytes]) -> dict[str, bytes]:
    """What is the service's."""
    return {name: content for name, content in picture.items() if ".perdure-" not in name}


async def test_room_is_asked_for_before_anything_is_written(small_disk: Path, keepers: Keepers, tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    slots.fill(0, 100)
    with closing(apsw.Connection(str(tmp_path / "1" / "notes.db"))) as connection:
        connection.execute("INSERT INTO t VALUES(-1, zeroblob(40000000))").fetchall()
    of = slots.source(SQLITE)
    manifest = await keepers.take(of, 1, 1)
    with pytest.raises(UnavailableError, match=r"there is no room in .*: 40,\d+,\d+ bytes are needed, \d+,\d+,\d+ are"):
        await keepers.restore(of, manifest.id, str(small_disk / "aside"))
    full = replace(of, directory=str(small_disk / "2"))
    with pytest.raises(UnavailableError, match="there is no room"):
        await keepers.apply(full, manifest.id, False)
