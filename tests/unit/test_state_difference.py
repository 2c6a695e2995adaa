"""The preview of a loss says exactly what is lost, whatever was done to the live state since the snapshot."""

import os
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slots import FILES, SQLITE, database, place, run

from perdure.adapters.state import database as copying
from perdure.adapters.state import difference
from perdure.model.snapshot import Loss, TableLoss


class Pair:
    """A live database, and the one of the snapshot."""

    def __init__(self, directory: Path, *statements: str, wal: bool = True) -> None:
        self.now, self.then = place(directory / "1", SQLITE), place(directory / "aside", SQLITE)
        self.scratch = directory / "scratch"
        self.connection = database(self.now.live, *statements, wal=wal)
        self.then.directory.mkdir()
        copying.copy(self.now.live, self.then.live)

    def loss(self, *statements: str) -> Loss:
        run(self.connection, *statements)
        loss = difference.of_database(self.now, self.then, time.time() - 60, self.scratch)
        assert not self.scratch.exists()
        return loss

    def tables(self, *statements: str) -> tuple[TableLoss, ...]:
        return self.loss(*statements).tables


def test_rows_are_counted_table_by_table_with_the_newest_time_of_those_that_would_be_lost(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, amount, ordered_at TEXT, shipped_at TEXT)",
        "CREATE TABLE audit(id INTEGER PRIMARY KEY, ts INTEGER)",
        "CREATE TABLE same(id INTEGER PRIMARY KEY)",
        "INSERT INTO orders VALUES(1, 5, '2026-11-01 10:00', ''), (2, 5, '2026-11-02 10:00', ''), (3, 0, '2027', '')",
        "INSERT INTO same VALUES(1)",
    )
    loss = pair.loss(
        "UPDATE orders SET amount = 6 WHERE id = 2",
        "INSERT INTO orders VALUES(4, 1, '2026-11-01 09:00', '2030-01-01')",
        "DELETE FROM orders WHERE id = 1",
        "INSERT INTO audit VALUES(1, 1795000000), (2, 1795000001)",
    )
    assert loss.tables == (
        TableLoss("audit", 2, 0, 0, "2026-11-18 11:06:41"),
        TableLoss("orders", 1, 1, 1, "2026-11-02 10:00"),
    )
    assert 60 <= loss.seconds < 70
    assert loss.size_now == loss.size_then == pair.then.live.stat().st_size
    assert loss.remarks == ("not covered: calls to other services",)


def test_nothing_changed_is_no_loss(tmp_path: Path) -> None:
    assert Pair(tmp_path, "CREATE TABLE t(a, b)", "INSERT INTO t VALUES(1, NULL), (NULL, NULL)").tables() == ()


def test_values_that_only_look_the_same_are_different(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b TEXT COLLATE NOCASE, c BLOB)",
        "INSERT INTO t VALUES(1, 1, 'a', 'x'), (2, NULL, 'b', x'00'), (3, 'y', 'z ', 1)",
    )
    assert pair.tables("UPDATE t SET a = 1.0 WHERE id = 1") == (TableLoss("t", 0, 1, 0),)
    assert pair.tables("UPDATE t SET b = 'B' WHERE id = 2") == (TableLoss("t", 0, 2, 0),)
    assert pair.tables("UPDATE t SET c = x'0000' WHERE id = 2") == (TableLoss("t", 0, 2, 0),)
    assert pair.tables("UPDATE t SET c = '1' WHERE id = 3") == (TableLoss("t", 0, 3, 0),)


def test_a_key_that_is_compared_without_case_is_the_same_row(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID",
        "CREATE TABLE u(k TEXT COLLATE NOCASE, v, PRIMARY KEY(k COLLATE BINARY))",
        "INSERT INTO t VALUES('a', 1), ('b', 1)",
        "INSERT INTO u VALUES('a', 1), ('A', 2), ('b', 1)",
    )
    assert pair.tables(
        "UPDATE t SET k = 'A' WHERE k = 'a'",
        "UPDATE u SET v = 3 WHERE k = 'A' COLLATE BINARY",
        "DELETE FROM u WHERE k = 'b'",
    ) == (TableLoss("t", 0, 1, 0), TableLoss("u", 0, 1, 1))


def test_rows_without_a_key_are_known_by_their_rowid_and_after_a_vacuum_by_their_content(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE log(line, at TEXT)",
        "CREATE TABLE named(_rowid_, rowid, oid)",
        "INSERT INTO log VALUES('a', '2026-01-01'), ('b', '2026-01-02'), ('b', '2026-01-02'), ('c', '2026-01-03')",
        "INSERT INTO named VALUES(1, 1, 1), (1, 1, 1), (2, 2, 2)",
    )
    changed = ("DELETE FROM log WHERE line = 'a'", "UPDATE log SET line = 'd' WHERE line = 'c'")
    named = "UPDATE named SET oid = 7 WHERE _rowid_ = 2"
    more = "INSERT INTO log VALUES('b', '2026-01-02')"
    found = pair.tables(*changed, more, named)
    assert found == (TableLoss("log", 1, 1, 1, "2026-01-03"), TableLoss("named", 1, 0, 1))
    assert pair.tables("VACUUM") == (TableLoss("log", 2, 0, 2, "2026-01-03"), TableLoss("named", 1, 0, 1))


def test_rows_with_null_in_their_key_count_too(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE t(a TEXT, b INT, v, PRIMARY KEY(a, b))",
        "INSERT INTO t VALUES(NULL, 1, 1), (NULL, 1, 1), ('x', NULL, 1), ('x', 1, 1)",
    )
    assert pair.tables("INSERT INTO t VALUES(NULL, 1, 1)", "UPDATE t SET v = 2 WHERE b IS NULL") == (
        TableLoss("t", 1, 1, 0),
    )
    assert pair.tables("UPDATE t SET b = 9 WHERE b IS NULL") == (TableLoss("t", 2, 0, 1),)


def test_generated_columns_follow_from_the_others(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE t(k TEXT PRIMARY KEY, v INT, g AS (v * 2) VIRTUAL, s AS (v * 3) STORED)",
        "INSERT INTO t(k, v) VALUES('a', 1), ('b', 2)",
    )
    assert pair.tables("UPDATE t SET v = 5 WHERE k = 'a'", "INSERT INTO t(k, v) VALUES('c', 1)") == (
        TableLoss("t", 1, 1, 0),
    )


def test_another_schema_is_said_and_its_rows_are_counted_whole(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE TABLE gone(a INTEGER PRIMARY KEY)",
        "CREATE TABLE wider(a INTEGER PRIMARY KEY, old)",
        "CREATE TABLE plain(a INTEGER PRIMARY KEY, b)",
        "INSERT INTO gone VALUES(1), (2)",
        "INSERT INTO wider VALUES(1, 1), (2, 2)",
    )
    loss = pair.loss(
        "DROP TABLE gone",
        "CREATE TABLE fresh(a)",
        "INSERT INTO fresh VALUES(1)",
        "ALTER TABLE wider ADD COLUMN more",
        "ALTER TABLE wider DROP COLUMN old",
        "INSERT INTO wider VALUES(3, 3)",
        "CREATE INDEX by_b ON plain(b)",
        "CREATE VIEW v AS SELECT 1",
        "PRAGMA user_version = 7",
    )
    assert loss.tables == (TableLoss("fresh", 1, 0, 0), TableLoss("gone", 0, 0, 2), TableLoss("wider", 3, 0, 2))
    assert loss.remarks[:-1] == (
        "fresh: the table is not in the snapshot, all its rows are counted",
        "gone: the table is only in the snapshot, and comes back, all its rows are counted",
        "wider: new columns more, columns old come back, all its rows are counted",
        "defined in another way in the snapshot, or not at all: index by_b, view v",
        "user_version would be 0 again, and is 7",
    )


def test_a_full_text_index_counts_by_its_content_and_other_indexes_are_said_to_differ(tmp_path: Path) -> None:
    pair = Pair(
        tmp_path,
        "CREATE VIRTUAL TABLE notes USING fts5(body)",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, body)",
        "CREATE VIRTUAL TABLE outer USING fts5(body, content=t, content_rowid=id)",
        "CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)",
        "INSERT INTO notes VALUES('one'), ('two')",
        "INSERT INTO boxes VALUES(1, 0, 1)",
    )
    loss = pair.loss(
        "INSERT INTO notes VALUES('three')",
        "UPDATE notes SET body = 'zwei' WHERE rowid = 2",
        "INSERT INTO t VALUES(1, 'four')",
        "INSERT INTO outer(rowid, body) VALUES(1, 'four')",
        "UPDATE boxes SET high = 2",
    )
    assert loss.tables == (TableLoss("t", 1, 0, 0), TableLoss("notes", 1, 1, 0))
    assert loss.remarks[:-1] == (
        "boxes (rtree): what it holds differs, and its rows are not counted",
        "outer (fts5): what it holds differs, and its rows are not counted",
    )


def test_a_collation_that_only_the_program_knows_is_said(tmp_path: Path) -> None:
    def own(a: str, b: str) -> int:
        return (a > b) - (a < b)

    directory = tmp_path / "1"
    with closing(database(directory / "notes.db")) as connection:
        connection.create_collation("own", own)
        run(connection, "CREATE TABLE t(a TEXT COLLATE own PRIMARY KEY)", "INSERT INTO t VALUES('x'), ('y')")
    pair = Pair(tmp_path)
    loss = pair.loss()
    assert loss.tables == (TableLoss("t", 2, 0, 2),)
    assert "cannot be compared (no such collation sequence: own)" in loss.remarks[0]


def test_a_live_database_that_is_gone_or_damaged_does_not_keep_anybody_from_going_back(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", "INSERT INTO t VALUES(1, 1), (2, 2)")
    pair.connection.close()
    pair.now.live.write_bytes(b"not a database" * 1000)
    loss = difference.of_database(pair.now, pair.then, time.time(), pair.scratch)
    assert "what would be lost is not known" in loss.remarks[0]
    pair.now.live.unlink()
    loss = difference.of_database(pair.now, pair.then, time.time(), pair.scratch)
    assert loss.remarks[0].endswith("all its rows are counted")
    assert any("there is no live database" in remark for remark in loss.remarks)
    assert loss.tables == (TableLoss("t", 0, 0, 2),)


def test_a_large_database_with_a_rollback_journal_is_compared_without_holding_writers_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "AT_ONCE_BYTES", 0)
    pair = Pair(tmp_path, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", "INSERT INTO t VALUES(1, 1)", wal=False)
    assert pair.tables("UPDATE t SET b = 2") == (TableLoss("t", 0, 1, 0),)


def test_looking_changes_no_byte_of_the_live_database(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    run(pair.connection, "INSERT INTO t VALUES(1, 1)")
    files = [pair.now.live, pair.now.live.with_name("notes.db-wal")]
    before = [path.read_bytes() for path in files]
    assert pair.tables() == (TableLoss("t", 1, 0, 0),)
    assert [path.read_bytes() for path in files] == before


KEYED = {
    "number": "CREATE TABLE number(k INTEGER PRIMARY KEY, v, w TEXT)",
    "text": "CREATE TABLE text(k TEXT PRIMARY KEY, v, w TEXT)",
    "pair": "CREATE TABLE pair(k, v, w TEXT, PRIMARY KEY(w, k)) WITHOUT ROWID",
    "made": "CREATE TABLE made(k TEXT PRIMARY KEY, v, g AS (v || 'x') STORED, w TEXT)",
    "bare": "CREATE TABLE bare(k, v, w TEXT)",
}
VALUES = st.sampled_from([None, 0, 1, 1.0, -3, "", "a", "A", "1", b"", b"a", 2**53, 2.0**53])
WORDS = st.sampled_from(["", "a", "A", "ä", "b"])
STEP = st.tuples(
    st.sampled_from(["insert", "replace", "update", "rekey", "delete"]),
    st.sampled_from(sorted(KEYED)),
    st.integers(0, 6),
    VALUES,
    WORDS,
)
STATEMENTS = {
    "insert": "INSERT OR IGNORE INTO {0}(k, v, w) VALUES(:k, :v, :w)",
    "replace": "INSERT OR REPLACE INTO {0}(k, v, w) VALUES(:k, :v, :w)",
    "update": "UPDATE {0} SET v = :v WHERE k = :k",
    "rekey": "UPDATE OR IGNORE {0} SET k = :k + 1, w = :w WHERE k = :k",
    "delete": "DELETE FROM {0} WHERE k = :k OR (k IS NULL AND :k = 0)",
}


def work(connection: apsw.Connection, steps: list[tuple[str, str, int, object, str]]) -> None:
    for verb, table, key, value, word in steps:
        k = None if key == 6 and table in ("text", "made", "bare") else key
        connection.execute(STATEMENTS[verb].format(table), {"k": k, "v": value, "w": word}).fetchall()


def by_key(path: Path, table: str) -> tuple[dict[object, object], Counter[object]]:
    """Rows by their key, and those without one by their rowid: the plainest way to say what a row is."""
    keyed: dict[object, object] = {}
    unkeyed: dict[object, object] = {}
    columns = {"number": "k", "text": "k", "made": "k", "pair": "w, k", "bare": "NULL"}[table]
    rowid = "NULL" if table == "pair" else "rowid"
    with closing(apsw.Connection(str(path))) as connection:
        for row in connection.execute(f"SELECT {rowid}, k, v, w, {columns} FROM {table}"):
            # Python takes 1 and 1.0 for the same; SQLite's keys do too, its values do not.
            content = repr(row[1:4])
            key = row[4:]
            (unkeyed if None in key else keyed)[row[0] if None in key else key] = content
    return keyed, unkeyed  # type: ignore[return-value]


def counted(now: dict[object, object], old: dict[object, object]) -> tuple[int, int, int]:
    both = now.keys() & old.keys()
    changed = sum(now[key] != old[key] for key in both)
    return len(now.keys() - old.keys()), changed, len(old.keys() - now.keys())


@settings(max_examples=100)
@given(st.lists(STEP, max_size=25), st.lists(STEP, max_size=25))
def test_the_preview_equals_the_actual_loss(first: list[object], since: list[object]) -> None:
    with TemporaryDirectory() as name:
        pair = Pair(Path(name), *KEYED.values())
        work(pair.connection, first)  # type: ignore[arg-type]
        copying.copy(pair.now.live, pair.then.live)
        work(pair.connection, since)  # type: ignore[arg-type]
        found = {loss.table: (loss.inserted, loss.updated, loss.deleted) for loss in pair.tables()}
        for table in KEYED:
            (now, now_bare), (old, old_bare) = by_key(pair.now.live, table), by_key(pair.then.live, table)
            parts = counted(now, old), counted(now_bare, old_bare)
            expected = tuple(map(sum, zip(*parts, strict=True)))
            assert found.get(table, (0, 0, 0)) == expected, table
        pair.connection.close()


def test_files_are_compared_by_what_is_in_them(tmp_path: Path) -> None:
    now, then = place(tmp_path / "1", FILES), place(tmp_path / "aside", FILES)
    for one in (now, then):
        (one.live / "kept" / "empty").mkdir(parents=True)
        (one.live / "kept" / "same").write_text("same")
        (one.live / "kept" / "changed").write_text("one")
        (one.live / "link").symlink_to("kept")
        (one.live / ".perdure-applied").write_text("{}")
    os.utime(now.live / "kept" / "same", (1, 1))
    (now.live / "kept" / "changed").write_text("two")
    os.utime(now.live / "kept" / "changed", ns=((then.live / "kept" / "changed").stat().st_mtime_ns,) * 2)
    (now.live / "added").write_text("x" * 10)
    (now.live / "link").unlink()
    (now.live / "link").symlink_to("elsewhere")
    (then.live / "removed").write_text("y")
    os.mkfifo(now.live / "pipe")
    loss = difference.of_directory(now, then, time.time() - 5)
    assert (loss.added, loss.changed, loss.removed) == (("added",), ("kept/changed", "link"), ("removed",))
    assert (loss.added_count, loss.changed_count, loss.removed_count) == (1, 2, 1)
    assert (loss.size_now, loss.size_then) == (17, 8)
    assert loss.remarks[0] == "in no snapshot, for sockets, fifos and devices are no state: pipe"


def test_of_many_files_only_some_names_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "NAMES_MAX", 3)
    now, then = place(tmp_path / "1", FILES), place(tmp_path / "aside", FILES)
    now.live.mkdir()
    for number in range(5):
        (now.live / str(number)).touch()
    loss = difference.of_directory(now, then, time.time())
    assert (loss.added, loss.added_count) == (("0", "1", "2"), 5)
