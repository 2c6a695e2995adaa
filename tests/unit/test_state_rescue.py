"""Lost rows are written down, and come back into a database that went back, unless something contradicts."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slots import ask, database, run
from test_state_difference import KEYED, STEP, Pair, by_key, work

from perdure.adapters.state import database as copying
from perdure.adapters.state import reinsertion, rescue
from perdure.model.errors import CorruptionError, UnavailableError

FOLDERS = "CREATE TABLE folders(id INTEGER PRIMARY KEY, name TEXT UNIQUE)"
NOTES = "CREATE TABLE notes(id INTEGER PRIMARY KEY, folder INT REFERENCES folders(id), body, at TEXT)"


class Lost(Pair):
    """A pair of databases whose live one goes back."""

    def rescued(self, *statements: str) -> int:
        run(self.connection, *statements)
        self.file = self.scratch.with_name("rescue")
        count = rescue.write(self.now.live, self.then.live, self.file, self.scratch)
        assert not self.file.with_name("rescue-new").exists()
        return count

    def back(self, *statements: str) -> None:
        """The database of the snapshot is live, and used."""
        self.connection.close()
        self.connection = database(self.then.live, *statements)

    def reinsert(self, *tables: str) -> tuple[int, list[str]]:
        return reinsertion.reinsert(self.then.live, self.file, tables)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return ask(self.then.live, query)


def test_lost_rows_come_back(tmp_path: Path) -> None:
    lost = Lost(
        tmp_path, FOLDERS, NOTES, "INSERT INTO folders VALUES(1, 'a')", "INSERT INTO notes VALUES(1, 1, 'x', '')"
    )
    assert lost.rescued("INSERT INTO notes VALUES(2, 1, x'00ff', '')", "UPDATE notes SET body = 'y' WHERE id = 1") == 2
    lost.back()
    assert lost.reinsert() == (2, [])
    assert lost.rows("SELECT id, folder, body FROM notes") == [(1, 1, "y"), (2, 1, b"\x00\xff")]
    assert lost.reinsert() == (0, [])


def test_only_chosen_tables_come_back(tmp_path: Path) -> None:
    lost = Lost(tmp_path, "CREATE TABLE a(id INTEGER PRIMARY KEY)", "CREATE TABLE b(id INTEGER PRIMARY KEY)")
    lost.rescued("INSERT INTO a VALUES(1)", "INSERT INTO b VALUES(1)")
    lost.back()
    assert lost.reinsert("b") == (1, [])
    assert lost.rows("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(0, 1)]
    with pytest.raises(UnavailableError, match="no rows of c"):
        lost.reinsert("c")


def test_rows_that_were_deleted_since_are_not_deleted_again(tmp_path: Path) -> None:
    lost = Lost(tmp_path, "CREATE TABLE a(id INTEGER PRIMARY KEY)", "INSERT INTO a VALUES(1)")
    assert lost.rescued("DELETE FROM a") == 0
    lost.back()
    assert lost.reinsert() == (0, [])
    assert lost.rows("SELECT * FROM a") == [(1,)]


def test_each_conflict_is_a_sentence_and_the_other_rows_come_back(tmp_path: Path) -> None:
    start = ("INSERT INTO folders VALUES(1, 'a'), (2, 'b')", "INSERT INTO notes VALUES(1, 1, 'x', ''), (2, 1, 'x', '')")
    lost = Lost(tmp_path, FOLDERS, NOTES, *start)
    lost.rescued(
        "INSERT INTO folders VALUES(3, 'c'), (4, 'd')",
        "INSERT INTO notes VALUES(3, 1, 'x', ''), (4, 1, 'x', ''), (5, 2, 'x', ''), (6, 3, 'x', '')",
        "UPDATE notes SET body = 'y' WHERE id < 3",
    )
    lost.back(
        "INSERT INTO folders VALUES(7, 'c')",
        "INSERT INTO notes VALUES(3, 1, 'other', '')",
        "UPDATE notes SET body = 'other' WHERE id = 1",
        "DELETE FROM notes WHERE id = 2",
        "DELETE FROM folders WHERE id = 2",
    )
    assert lost.reinsert() == (
        2,
        [
            "folders 3 is refused: UNIQUE constraint failed: folders.name",
            "notes 1 was changed in another way since",
            "notes 2 is not there any more",
            "notes 3 is there with other values",
            "notes 5 refers to a row of folders that is not there",
            "notes 6 refers to a row of folders that is not there",
        ],
    )
    assert lost.rows("SELECT id, body FROM notes") == [(1, "other"), (3, "other"), (4, "x")]
    assert lost.rows("SELECT id FROM folders") == [(1,), (4,), (7,)]


def test_references_that_led_nowhere_before_are_no_conflict(tmp_path: Path) -> None:
    lost = Lost(tmp_path, FOLDERS, NOTES, "INSERT INTO notes VALUES(1, 77, 'x', '')")
    lost.rescued("INSERT INTO notes VALUES(2, NULL, 'x', '')")
    lost.back()
    assert lost.reinsert() == (1, [])


def test_rows_without_a_key_get_another_number_when_theirs_is_taken(tmp_path: Path) -> None:
    lost = Lost(
        tmp_path, "CREATE TABLE log(line)", "CREATE TABLE t(k TEXT PRIMARY KEY, v)", "INSERT INTO log VALUES('a')"
    )
    assert lost.rescued("INSERT INTO log VALUES('b'), ('c')", "INSERT INTO t VALUES(NULL, 1), (NULL, 1), ('k', 2)") == 5
    lost.back("INSERT INTO log VALUES('new')")
    assert lost.reinsert() == (5, [])
    assert lost.rows("SELECT line FROM log ORDER BY rowid") == [("a",), ("new",), ("b",), ("c",)]
    assert lost.rows("SELECT k, v FROM t ORDER BY rowid") == [("k", 2), (None, 1), (None, 1)]


def test_generated_columns_and_an_own_key_order_are_no_obstacle(tmp_path: Path) -> None:
    lost = Lost(
        tmp_path,
        "CREATE TABLE t(v, k TEXT COLLATE NOCASE, g AS (v || k) STORED, n INT, PRIMARY KEY(n, k)) WITHOUT ROWID",
        "INSERT INTO t(v, k, n) VALUES(1, 'a', 1)",
    )
    assert lost.rescued("UPDATE t SET v = 2", "INSERT INTO t(v, k, n) VALUES(3, 'b', 1)") == 2
    lost.back()
    assert lost.reinsert() == (2, [])
    assert lost.rows("SELECT k, g FROM t") == [("a", "2a"), ("b", "3b")]


def test_triggers_do_not_run_and_the_rows_that_they_wrote_come_back_themselves(tmp_path: Path) -> None:
    lost = Lost(
        tmp_path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY)",
        "CREATE TABLE audit(id INTEGER PRIMARY KEY, of)",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO audit(of) VALUES(new.id); END",
    )
    assert lost.rescued("INSERT INTO t VALUES(5)") == 2
    lost.back()
    assert lost.reinsert() == (2, [])
    assert lost.rows("SELECT * FROM audit") == [(1, 5)]


def test_a_full_text_index_over_a_table_finds_what_came_back(tmp_path: Path) -> None:
    lost = Lost(
        tmp_path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, body)",
        "CREATE VIRTUAL TABLE found USING fts5(body, content='t', content_rowid='id')",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO found(rowid, body) VALUES(new.id, new.body); END",
    )
    assert lost.rescued("INSERT INTO t VALUES(1, 'hello world')") == 1
    lost.back()
    assert lost.reinsert() == (1, [])
    assert lost.rows("SELECT rowid FROM found WHERE found MATCH 'world'") == [(1,)]


def test_a_table_that_the_snapshot_has_not_is_rescued_and_its_absence_is_a_conflict(tmp_path: Path) -> None:
    lost = Lost(tmp_path, "CREATE TABLE wider(a INTEGER PRIMARY KEY)", "INSERT INTO wider VALUES(1)")
    fresh = ("CREATE TABLE fresh(a INTEGER PRIMARY KEY)", "INSERT INTO fresh VALUES(1)")
    assert lost.rescued(*fresh, "ALTER TABLE wider ADD COLUMN b") == 2
    lost.back()
    assert lost.reinsert() == (0, ["fresh: there is no such table", "wider: its columns are not those of the file"])


def test_a_large_rescue_is_several_changesets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "ROWS_A_CHANGESET", 10)
    lost = Lost(tmp_path, "CREATE TABLE t(id INTEGER PRIMARY KEY)", "CREATE TABLE u(a)")
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {1}) INSERT INTO {0} SELECT i FROM n"
    )
    assert lost.rescued(many.format("t", 30), many.format("u", 25)) == 55
    lost.back()
    assert lost.reinsert() == (55, [])
    assert lost.rows("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)") == [(30, 25)]


def test_sqlites_own_tools_can_apply_the_file(tmp_path: Path) -> None:
    lost = Lost(
        tmp_path, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE u(a)", "INSERT INTO t VALUES(1, 1)"
    )
    lost.rescued("UPDATE t SET v = 2", "INSERT INTO t VALUES(2, 2)", "INSERT INTO u VALUES(9)")
    lost.back()
    apsw.Changeset.apply(lost.file.read_bytes(), lost.connection)
    assert lost.rows("SELECT * FROM t") == [(1, 2), (2, 2)]
    assert lost.rows("SELECT rowid, a FROM u") == [(1, 9)]


def test_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    lost = Lost(tmp_path, "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    lost.rescued("INSERT INTO t VALUES(1), (2), (3)")
    lost.back()
    whole = lost.file.read_bytes()
    lost.file.write_bytes(whole[:-3])
    with pytest.raises(CorruptionError, match="rescue file"):
        lost.reinsert()
    assert lost.rows("SELECT * FROM t") == []


@settings(max_examples=60)
@given(st.lists(STEP, max_size=25), st.lists(STEP, max_size=25))
def test_what_was_lost_and_put_back_is_what_was_live_but_for_what_had_been_deleted(
    first: list[object], since: list[object]
) -> None:
    with TemporaryDirectory() as name:
        lost = Lost(Path(name), *KEYED.values())
        work(lost.connection, first)  # type: ignore[arg-type]
        copying.copy(lost.now.live, lost.then.live)
        old = {table: by_key(lost.then.live, table) for table in KEYED}
        work(lost.connection, since)  # type: ignore[arg-type]
        now = {table: by_key(lost.now.live, table) for table in KEYED}
        lost.rescued()
        lost.back()
        _, conflicts = lost.reinsert()
        lost.connection.close()
        assert conflicts == []
        for table in KEYED:
            keyed, unkeyed = by_key(lost.then.live, table)
            assert keyed == {**old[table][0], **now[table][0]}, table
            if table == "bare":
                assert unkeyed == {**old[table][1], **now[table][1]}


def test_writing_needs_no_more_than_reading_the_live_database(tmp_path: Path) -> None:
    lost = Lost(tmp_path, "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    run(lost.connection, "INSERT INTO t VALUES(1)")
    with closing(database(lost.now.live)) as other:
        run(other, "BEGIN IMMEDIATE", "INSERT INTO t VALUES(2)")
        assert lost.rescued() == 1
        run(other, "ROLLBACK")
