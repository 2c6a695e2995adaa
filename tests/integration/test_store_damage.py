"""A damaged store is reported, with the path and what to do, and its bytes stay as they are."""

# ruff: noqa: ASYNC240 (the tests look at small local files while nothing else runs)

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from perdure.adapters.store.sqlite import SQLiteStore
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.event import Event
from perdure.ports.store import Transaction

VARIABLE = frozenset((*range(24, 44), *range(92, 100)))
"""Bytes of the header that differ between sound stores: counters, sizes, the schema's cookie, SQLite's version."""
DOCUMENTS = {f"k/{n:03}": {"n": n, "text": "x" * 200} for n in range(100)}


@pytest.fixture
async def closed(tmp_path: Path) -> Path:
    """A store that was closed: everything is in the database, there is no log."""
    path = tmp_path / "closed" / "perdure.db"
    path.parent.mkdir()
    store = await SQLiteStore.open(path)
    await store.commit(Transaction(put=DOCUMENTS, events=[Event("R01", "web", "x")] * 50, durable=True))
    await store.close()
    return path


@pytest.fixture
async def killed(tmp_path: Path, closed: Path) -> Path:
    """A store whose daemon was killed: half of what was acknowledged is only in the log."""
    path = tmp_path / "killed" / "perdure.db"
    store = await SQLiteStore.open(closed)
    for n in range(20):
        await store.commit(Transaction(put={"late": {"n": n}}, durable=True))
    shutil.copytree(closed.parent, path.parent)
    await store.close()
    return path


def contents(path: Path) -> dict[str, bytes]:
    """The files that hold data; the index of the log (-shm) is rebuilt from it at will, and an empty log is none."""
    files = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    return {name: data for name, data in files.items() if data or not name.endswith("-wal")}


async def refused(path: Path) -> CorruptionError:
    """The error of opening a damaged store, which must not change it."""
    before = contents(path)
    with pytest.raises(CorruptionError) as caught:
        await SQLiteStore.open(path)
    assert contents(path) == before
    assert str(path) in caught.value.sentence
    assert path.name in caught.value.hint
    return caught.value


def change(path: Path, edit: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


async def test_what_a_killed_daemon_left_is_whole(killed: Path) -> None:
    store = await SQLiteStore.open(killed)
    assert (await store.read("late")).records["late"].value == {"n": 19}
    assert (await store.read("")).revision == 21
    await store.close()


async def test_a_flipped_bit_in_a_fixed_byte_of_the_header_is_found(closed: Path) -> None:
    sound = closed.read_bytes()
    for offset in sorted(set(range(100)) - VARIABLE):
        closed.write_bytes(sound[:offset] + bytes((sound[offset] ^ 1 << offset % 8,)) + sound[offset + 1 :])
        await refused(closed)


@pytest.mark.parametrize("offset", sorted(VARIABLE))
async def test_a_flipped_bit_in_a_counter_of_the_header_is_found_or_harmless(closed: Path, offset: int) -> None:
    def flip(data: bytearray) -> None:
        data[offset] ^= 1 << offset % 8

    change(closed, flip)
    before = contents(closed)
    try:
        store = await SQLiteStore.open(closed)
    except CorruptionError:
        assert contents(closed) == before
        return
    assert {key: record.value for key, record in (await store.read("k/")).records.items()} == DOCUMENTS
    await store.close()


@pytest.mark.parametrize("size", [1, 15, 16, 99, 100, 4095, 4096, 8192, -4096, -1])
async def test_a_cut_database_is_found(closed: Path, size: int) -> None:
    whole = closed.read_bytes()
    closed.write_bytes(whole[:size])
    await refused(closed)


async def test_an_empty_database_is_found_whether_or_not_there_is_a_log(killed: Path, closed: Path) -> None:
    for path in (killed, closed):
        path.write_bytes(b"")
        assert "it is empty" in (await refused(path)).sentence


async def test_a_missing_database_beside_its_log_or_its_mark_is_found(killed: Path, closed: Path) -> None:
    for path in (killed, closed):
        path.unlink()
        assert "the database is missing" in (await refused(path)).sentence
        assert not path.exists()


async def test_an_overwritten_page_is_found(closed: Path) -> None:
    sound = closed.read_bytes()
    for page in range(1, len(sound) // 4096):
        closed.write_bytes(sound[: page * 4096] + random.Random(page).randbytes(4096) + sound[(page + 1) * 4096 :])
        await refused(closed)


@pytest.mark.parametrize("size", [1, 100, 5000, 1_000_000])
async def test_a_file_of_something_else_is_found(tmp_path: Path, size: int) -> None:
    path = tmp_path / "perdure.db"
    path.write_bytes(random.Random(size).randbytes(size))
    assert "not an SQLite database" in (await refused(path)).sentence


async def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL; CREATE TABLE records (key, value, revision)")
    connection.close()
    assert "not that of a store of Perdure" in (await refused(path)).sentence


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
async def test_a_cut_log_that_held_acknowledged_changes_is_found(killed: Path, share: float) -> None:
    log = log_of(killed)
    log.write_bytes(log.read_bytes()[: int(log.stat().st_size * share)])
    error = await refused(killed)
    assert "but 21 was acknowledged" in error.sentence
    assert "perdure.db-mark" in error.hint


async def test_a_flipped_bit_in_the_log_is_found(killed: Path) -> None:
    log = log_of(killed)
    sound = log.read_bytes()
    for offset in (0, 17, 40, 2000, len(sound) // 2, len(sound) - 5):
        log.write_bytes(sound[:offset] + bytes((sound[offset] ^ 4,)) + sound[offset + 1 :])
        await refused(killed)


async def test_a_missing_log_is_found_and_the_hint_gets_the_store_going_again(killed: Path) -> None:
    log_of(killed).unlink()
    await refused(killed)
    killed.with_name("perdure.db-mark").unlink()
    store = await SQLiteStore.open(killed)
    assert (await store.read("")).revision == 1
    await store.close()


async def test_losing_what_was_never_promised_to_survive_a_power_cut_is_no_damage(closed: Path, tmp_path: Path) -> None:
    store = await SQLiteStore.open(closed)
    await store.commit(Transaction(put={"late": {"n": 1}}))
    shutil.copytree(closed.parent, tmp_path / "cut")
    await store.close()
    path = tmp_path / "cut" / "perdure.db"
    log_of(path).write_bytes(log_of(path).read_bytes()[:-100])
    store = await SQLiteStore.open(path)
    assert (await store.read("")).revision == 1
    await store.close()


@pytest.mark.parametrize("mark", [b"", b"garbage", b"\xff" * 30])
async def test_a_damaged_mark_stops_nothing(closed: Path, mark: bytes) -> None:
    closed.with_name("perdure.db-mark").write_bytes(mark)
    store = await SQLiteStore.open(closed)
    assert await store.commit(Transaction(durable=True)) == 2
    await store.close()
    assert int(closed.with_name("perdure.db-mark").read_bytes()[:21]) == 2


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE meta",
        "DROP TABLE records",
        "DROP TABLE changes",
        "DROP TABLE events",
        "ALTER TABLE events DROP COLUMN facts",
        "DELETE FROM meta WHERE name = 'schema'",
        "DELETE FROM meta WHERE name = 'revision'",
    ],
)
async def test_a_missing_table_column_or_counter_is_found(closed: Path, damage: str) -> None:
    connection = apsw.Connection(str(closed))
    connection.execute(damage)
    connection.close()
    await refused(closed)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE records SET value = '{\"n\": ' WHERE key = 'k/050'",
        "UPDATE changes SET value = 'x' WHERE key = 'k/050'",
        "UPDATE events SET facts = '{' WHERE number = 7",
        "UPDATE events SET severity = 'loud' WHERE number = 7",
        "DROP TABLE records",
    ],
)
async def test_damage_that_shows_only_in_use_is_an_error_of_the_call_and_not_of_the_store(
    closed: Path, damage: str
) -> None:
    store = await SQLiteStore.open(closed)
    await store._call(lambda tables: tables.connection.execute(damage))
    with pytest.raises(CorruptionError, match="damaged"):
        await store.read("")
        await store.events(0, 100)
        await anext(store.watch("", 0))
    assert len(await store.events(0, 3)) == 3
    await store.close()


async def test_the_check_of_an_open_store_finds_damage_on_the_disk(closed: Path) -> None:
    store = await SQLiteStore.open(closed)
    await store.check()

    def spoil(data: bytearray) -> None:
        data[4096:] = random.Random(1).randbytes(len(data) - 4096)

    # Written in place by another process, as a failing disk would; the pages in memory are given up first.
    change(closed, spoil)
    await store._call(lambda tables: tables.connection.execute("PRAGMA shrink_memory"))
    with pytest.raises(CorruptionError):
        await store.check()
    with pytest.raises(CorruptionError):
        await store.read("")
    await store.close()


async def test_a_directory_in_the_place_of_the_store_and_a_missing_directory_are_reported(tmp_path: Path) -> None:
    (tmp_path / "perdure.db").mkdir()
    for path in (tmp_path / "perdure.db", tmp_path / "missing" / "perdure.db"):
        with pytest.raises(UnavailableError, match="cannot be used") as caught:
            await SQLiteStore.open(path)
        assert str(path) in caught.value.sentence
        assert caught.value.hint
