"""Copies of a database that is written to, checks of what came back, and passive replicas that follow."""

import os
import threading
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from slots import SQLITE, ask, database, draft, place, run, vault

from perdure.adapters.state import database as state
from perdure.adapters.state import filesystem, following
from perdure.adapters.state.place import Place
from perdure.adapters.state.vault import Content, Vault
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.snapshot import Manifest

FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0})"
    " INSERT INTO t SELECT i, hex(randomblob(150)) FROM n"
)
TABLE = "CREATE TABLE t(id INTEGER PRIMARY KEY, text)"


def taken(kept: Vault, live: Path, scratch: Path) -> Manifest:
    return state.take(kept, draft(), live, scratch)


def opened(kept: Vault, live: Path, scratch: Path) -> Content:
    return kept.open(taken(kept, live, scratch).id)


@pytest.mark.parametrize("wal", [True, False])
def test_a_copy_holds_all_that_was_committed_before_and_comes_back_the_same(tmp_path: Path, wal: bool) -> None:
    live = tmp_path / "1" / "notes.db"
    with closing(database(live, TABLE, FILL.format(500), wal=wal)):
        before = time.time()
        content = opened(vault(tmp_path), live, tmp_path / "copy")
        assert before <= content.manifest.taken_at <= time.time()
        assert not (tmp_path / "copy").exists()
    aside = place(tmp_path / "aside", SQLITE)
    state.restore(content, aside, "SELECT count(*) = 500 FROM t")
    assert ask(aside.live, "SELECT * FROM t") == ask(live, "SELECT * FROM t")
    noted = aside.applied()
    assert noted is not None
    assert noted.manifest == content.manifest


@pytest.mark.parametrize("wal", [True, False])
def test_a_copy_is_whole_and_ends_while_somebody_writes_without_pause(
    tmp_path: Path, wal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(state, "PAGES_A_STEP", 20)
    live = tmp_path / "notes.db"
    begun, ended = threading.Event(), threading.Event()
    sums = ("CREATE TABLE a(n)", "CREATE TABLE b(n)", "INSERT INTO a VALUES(0)", "INSERT INTO b VALUES(0)")
    database(live, TABLE, FILL.format(3_000), *sums, wal=wal).close()

    def write() -> None:
        with closing(database(live, wal=wal)) as connection:
            run(connection, "PRAGMA synchronous = OFF")
            while not ended.is_set():
                # In two pages; a mix of two moments shows.
                run(connection, "BEGIN IMMEDIATE", "UPDATE a SET n = n + 1", "UPDATE b SET n = n - 1", "COMMIT")
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(10.0)
        for number in range(5):
            target = tmp_path / f"copy{number}"
            state.copy(live, target)
            state.check(target, "SELECT (SELECT n FROM a) + (SELECT n FROM b) = 0")
    finally:
        ended.set()
        thread.join()
    assert ask(live, "SELECT n > 0 FROM a") == [(1,)]


def test_writers_go_on_during_a_copy_in_log_mode(tmp_path: Path) -> None:
    live = tmp_path / "notes.db"
    with closing(database(live, TABLE, FILL.format(100))) as writer, closing(state.connect(live)) as reader:
        run(reader, "BEGIN", "SELECT count(*) FROM t")
        writer.set_busy_timeout(0)
        run(writer, "INSERT INTO t VALUES(1000, 'x')")


def test_what_is_only_in_the_log_is_in_the_copy_and_the_log_stays_as_it_is(tmp_path: Path) -> None:
    live = tmp_path / "notes.db"
    with closing(database(live, TABLE, "PRAGMA wal_autocheckpoint = 0", FILL.format(50))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    log = live.with_name("notes.db-wal")
    before = (live.read_bytes(), log.read_bytes())
    assert before[1]
    content = opened(vault(tmp_path), live, tmp_path / "copy")
    assert (live.read_bytes(), log.read_bytes()) == before
    aside = place(tmp_path / "aside", SQLITE)
    state.restore(content, aside, "SELECT count(*) = 50 FROM t")


def test_a_database_that_is_not_there_or_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="there is no database"):
        taken(vault(tmp_path), tmp_path / "notes.db", tmp_path / "copy")
    (tmp_path / "notes.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(CorruptionError, match="damaged"), filesystem.guarded("take of notes"):
        taken(vault(tmp_path), tmp_path / "notes.db", tmp_path / "copy")
    assert vault(tmp_path).kept() == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT count(*) > 100 FROM t", "fails its check"),
        ("SELECT NULL", "fails its check"),
        ("SELECT 1 FROM t WHERE 0", "fails its check"),
        ("SELECT 1 FROM nowhere", "does not answer its check"),
    ],
)
def test_a_restored_database_that_fails_the_users_query_is_refused(tmp_path: Path, query: str, says: str) -> None:
    database(tmp_path / "notes.db", TABLE, FILL.format(3)).close()
    state.check(tmp_path / "notes.db", "SELECT count(*) = 3 FROM t")
    state.check(tmp_path / "notes.db", "SELECT '7'")
    with pytest.raises(CorruptionError, match=says):
        state.check(tmp_path / "notes.db", query)


def test_a_query_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CHECK_TIMEOUT_S", 0.05)
    database(tmp_path / "notes.db", TABLE).close()
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(UnavailableError, match="longer than"):
        state.check(tmp_path / "notes.db", forever)


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    database(path, TABLE, "CREATE INDEX i ON t(text)", FILL.format(200), wal=False).close()
    raw = bytearray(path.read_bytes())
    raw[3 * 4096 : 3 * 4096 + 64] = os.urandom(64)
    path.write_bytes(raw)
    with pytest.raises(CorruptionError, match="is damaged"), filesystem.guarded("check"):
        state.check(path, "")


def test_an_index_that_lacks_a_row_is_found(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with closing(database(path, TABLE, "CREATE INDEX i ON t(text)", "INSERT INTO t VALUES(1, 'a')")) as connection:
        run(connection, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE name = 'i'")
        sql = "INSERT INTO sqlite_schema SELECT 'index', 'i', 't', 3, 'CREATE INDEX i ON t(text)'"
    with closing(database(path)) as connection:
        run(connection, "INSERT INTO t VALUES(2, 'b')", "PRAGMA writable_schema = ON", sql)
    with pytest.raises(CorruptionError, match="row 2 missing from index i"):
        state.check(path, "")


def test_a_collation_that_only_the_program_knows_does_not_fail_the_check(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with closing(database(path)) as connection:
        connection.create_collation("own", lambda a, b: (a > b) - (a < b))
        run(connection, "CREATE TABLE t(a TEXT COLLATE own PRIMARY KEY)", "INSERT INTO t VALUES('x')")
    state.check(path, "")


class Follower:
    """An active database, snapshots of it, and a passive replica."""

    def __init__(self, tmp_path: Path) -> None:
        self.kept = vault(tmp_path)
        self.active = tmp_path / "1" / "notes.db"
        self.place = place(tmp_path / "2", SQLITE)
        self.place.directory.mkdir()
        self.image = Place(tmp_path / "image", tmp_path / "image" / "database")
        self.scratch = tmp_path / "copy"
        self.connection = database(self.active, TABLE, FILL.format(2_000))

    def content(self, *statements: str) -> Content:
        run(self.connection, *statements)
        return opened(self.kept, self.active, self.scratch)

    def since(self, where: Place) -> Content | None:
        applied = where.applied()
        return None if applied is None else self.kept.open(applied.manifest.id)

    def cold(self, content: Content) -> None:
        following.cold(content, self.since(self.place), self.place)
        self.verify(content)

    def warm(self, content: Content) -> None:
        following.warm(content, self.since(self.image), self.place, self.image)
        self.verify(content)

    def verify(self, content: Content) -> None:
        applied = self.place.applied()
        assert applied is not None
        assert applied.manifest == content.manifest
        assert not self.place.beside("incoming").exists()
        assert ask(self.place.live, "SELECT * FROM t") == ask(self.active, "SELECT * FROM t")
        assert ask(self.place.live, "PRAGMA integrity_check") == [("ok",)]

    def inode(self) -> int:
        return self.place.live.stat().st_ino


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path)


def as_left(follower: Follower) -> None:
    """What looking at it in `verify` did is no change; a passive replica that nobody touched looks as it was left."""
    applied = follower.place.applied()
    assert applied is not None
    assert applied.looks == following._looks(follower.place)


def test_a_cold_replica_gets_only_what_differs(follower: Follower) -> None:
    follower.cold(follower.content())
    as_left(follower)
    inode = follower.inode()
    follower.cold(follower.content("UPDATE t SET text = 'new' WHERE id % 100 = 0"))
    assert follower.inode() == inode
    follower.cold(follower.content("DELETE FROM t WHERE id > 100", "VACUUM"))
    assert follower.inode() == inode
    assert follower.place.live.stat().st_size < 100_000
    follower.cold(follower.content(FILL.format(2_000).replace("INSERT", "INSERT OR IGNORE")))
    assert follower.inode() == inode


def test_a_cold_replica_that_somebody_wrote_to_is_written_anew(follower: Follower) -> None:
    follower.cold(follower.content())
    inode = follower.inode()
    content = follower.content("UPDATE t SET text = 'new' WHERE id = 5")
    with closing(database(follower.place.live)) as connection:
        run(connection, "UPDATE t SET text = 'local' WHERE id = 1999")
    follower.cold(content)
    assert follower.inode() != inode


def test_side_files_of_the_state_before_never_meet_the_new_one(follower: Follower) -> None:
    first = follower.content()
    second = follower.content("UPDATE t SET text = 'second' WHERE id = 1")
    following.cold(first, None, follower.place)
    with closing(database(follower.place.live)) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        run(connection, "UPDATE t SET text = 'stale' WHERE id = 7")
    assert follower.place.live.with_name("notes.db-wal").stat().st_size
    follower.cold(second)


def test_an_interrupted_patch_leaves_a_mark_and_the_next_one_is_complete(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.cold(follower.content())
    content = follower.content("UPDATE t SET text = 'new'")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(following.tree, "adorn", die)
        with pytest.raises(KeyboardInterrupt):
            follower.cold(content)
    assert follower.place.applied() is None
    follower.cold(content)


def test_damage_in_the_store_leaves_a_passive_replica_as_it_was(follower: Follower, tmp_path: Path) -> None:
    follower.cold(follower.content())
    before = follower.place.live.read_bytes()
    content = follower.content("UPDATE t SET text = hex(randomblob(100))")
    newest = max((tmp_path / "vault" / "packs").glob("*.pack"), key=lambda path: path.stat().st_mtime_ns)
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    with pytest.raises(CorruptionError, match="pack"):
        follower.cold(content)
    assert follower.place.live.read_bytes() == before
    assert follower.place.applied() is not None


def test_a_warm_replica_shows_its_readers_the_old_or_the_new_state_and_never_a_mix(follower: Follower) -> None:
    follower.warm(follower.content("UPDATE t SET text = '0'"))
    ended = threading.Event()
    seen: list[set[object]] = []

    def read() -> None:
        with closing(database(follower.place.live)) as connection:
            while not ended.is_set():
                seen.append({row[0] for row in run(connection, "SELECT DISTINCT text FROM t")})

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for number in range(1, 6):
            follower.warm(follower.content(f"UPDATE t SET text = '{number}'"))
    finally:
        ended.set()
        thread.join()
    assert all(len(one) == 1 for one in seen)
    assert len({value for one in seen for value in one}) > 1


def test_a_warm_replica_with_a_rollback_journal_follows_too(follower: Follower) -> None:
    run(follower.connection, "PRAGMA journal_mode = DELETE")
    follower.warm(follower.content())
    with closing(database(follower.place.live, wal=False)) as reader:
        follower.warm(follower.content("UPDATE t SET text = 'new' WHERE id = 3"))
        assert run(reader, "SELECT text FROM t WHERE id = 3") == [("new",)]


def test_a_warm_replica_that_was_written_to_is_brought_back_to_the_same_snapshot(follower: Follower) -> None:
    content = follower.content()
    follower.warm(content)
    inode = follower.inode()
    with closing(database(follower.place.live)) as connection:
        run(connection, "DELETE FROM t WHERE id < 500")
        follower.warm(content)
    assert follower.inode() == inode


def test_a_warm_replica_that_is_as_it_was_left_is_not_written_again(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.warm(follower.content())
    again = follower.content()
    # Reading it with a connection of its own may move the log about; once more, and then nobody comes.
    following.warm(again, follower.since(follower.image), follower.place, follower.image)
    monkeypatch.setattr(following, "_replace", lambda *_: pytest.fail("it was written"))
    following.warm(again, follower.since(follower.image), follower.place, follower.image)


def test_a_reader_that_never_ends_is_not_waited_for_for_ever(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "BUSY_S", 0.1)
    monkeypatch.setattr(state, "BUSY_TIMEOUT_MS", 50)
    run(follower.connection, "PRAGMA journal_mode = DELETE")
    follower.warm(follower.content())
    content = follower.content("UPDATE t SET text = 'new' WHERE id = 3")
    with closing(database(follower.place.live, wal=False)) as reader:
        run(reader, "BEGIN", "SELECT * FROM t")
        with pytest.raises(UnavailableError, match="another process holds its lock"), filesystem.guarded("apply"):
            follower.warm(content)
        assert follower.place.applied() is None
        run(reader, "ROLLBACK")
        assert run(reader, "SELECT count(*) FROM t WHERE text = 'new'") == [(0,)]
    follower.warm(content)
