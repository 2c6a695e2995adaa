"""An older store is migrated after a copy was made; a newer one is left alone."""

# ruff: noqa: ASYNC240 (the tests look at small local files while nothing else runs)

import stat
from pathlib import Path

import apsw
import pytest

from perdure.adapters.store import migrations
from perdure.adapters.store.sqlite import SQLiteStore
from perdure.model.errors import CorruptionError, PerdureError, UnavailableError
from perdure.ports.store import Transaction

NEXT = (*migrations.STEPS, "ALTER TABLE events ADD COLUMN host TEXT NOT NULL DEFAULT ''")
BROKEN = (*NEXT, "CREATE TABLE third (a INTEGER) STRICT; CREATE TABLE records (a INTEGER) STRICT")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    store = await SQLiteStore.open(tmp_path / "perdure.db")
    await store.commit(Transaction(put={"a": {"n": 1}}, durable=True))
    await store.close()
    return tmp_path / "perdure.db"


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(sql))
    finally:
        connection.close()


async def read_n(path: Path, steps: tuple[str, ...]) -> int:
    store = await SQLiteStore.open(path, steps)
    snapshot = await store.read("")
    await store.close()
    return int(snapshot.records["a"].value["n"])


async def test_an_older_store_is_migrated_and_a_private_copy_of_it_is_kept(path: Path) -> None:
    assert await read_n(path, NEXT) == 1
    copy = migrations.backup_path(path, 1)
    assert {file.name for file in path.parent.iterdir()} == {path.name, copy.name, f"{path.name}-mark"}
    assert query(path, "SELECT value FROM meta WHERE name = 'schema'") == [(2,)]
    assert query(path, "SELECT host FROM events") == []
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert query(copy, "SELECT value FROM meta WHERE name = 'schema'") == [(1,)]


async def test_the_copy_can_be_put_back_and_opened_by_the_older_version(path: Path) -> None:
    await read_n(path, NEXT)
    migrations.backup_path(path, 1).replace(path)
    assert await read_n(path, migrations.STEPS) == 1


async def test_a_store_that_is_up_to_date_is_not_copied(path: Path) -> None:
    await read_n(path, migrations.STEPS)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}-mark"}


async def test_a_new_store_takes_all_steps(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    await (await SQLiteStore.open(path, NEXT)).close()
    assert query(path, "SELECT value FROM meta WHERE name = 'schema'") == [(2,)]


async def test_a_step_that_fails_leaves_the_store_as_it_was(path: Path) -> None:
    with pytest.raises(PerdureError):
        await SQLiteStore.open(path, BROKEN)
    assert query(path, "SELECT name FROM sqlite_schema WHERE name = 'third'") == []
    assert await read_n(path, migrations.STEPS) == 1


async def test_a_step_that_fails_leaves_no_new_store(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with pytest.raises(PerdureError):
        await SQLiteStore.open(path, BROKEN)
    assert not path.exists()
    await (await SQLiteStore.open(path)).close()
    assert {file.name for file in tmp_path.iterdir()} == {"new.db", "new.db-mark"}


async def test_a_store_of_a_newer_version_is_refused_unchanged_and_the_copy_is_named(path: Path) -> None:
    await read_n(path, NEXT)
    before = path.read_bytes()
    with pytest.raises(UnavailableError, match=r"newer Perdure \(schema 2, this one knows 1\)") as caught:
        await SQLiteStore.open(path)
    assert str(migrations.backup_path(path, 1)) in caught.value.hint
    assert path.read_bytes() == before


async def test_a_half_made_store_of_a_killed_start_is_made_again(tmp_path: Path) -> None:
    for end in ("", "-journal", "-wal"):
        (tmp_path / f"perdure.db-new{end}").write_bytes(b"half")
    store = await SQLiteStore.open(tmp_path / "perdure.db")
    assert await store.commit(Transaction(durable=True)) == 1
    await store.close()
    assert {file.name for file in tmp_path.iterdir()} == {"perdure.db", "perdure.db-mark"}


async def test_a_start_that_was_killed_after_naming_the_store_is_tidied_up(path: Path) -> None:
    path.with_name("perdure.db-new").hardlink_to(path)
    assert await read_n(path, migrations.STEPS) == 1
    assert path.stat().st_nlink == 1


async def test_a_schema_below_the_first_is_damage(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE meta SET value = 0 WHERE name = 'schema'")
    connection.close()
    with pytest.raises(CorruptionError):
        await SQLiteStore.open(path)
