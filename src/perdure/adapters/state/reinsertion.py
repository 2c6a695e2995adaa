"""Lost rows are put back into the live database, as far as nothing contradicts.

That is done row by row and by hand, not by the session extension, which knows no generated columns: a row that is there
already is left, another row with the same key is a conflict, and so is one that a rule of the schema refuses. Triggers
do not run, for what they wrote is in the file too, in its own table; full-text indexes over such tables are built anew.
References that would lead nowhere take the referring rows out again. A row without a key whose rowid is taken by then
gets another one; so such rows are put back each time that they are asked for. `rescue` wrote the file.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from perdure.adapters.state import database, rescue, schema
from perdure.adapters.state.rescue import ROWID, Change, Field, Same
from perdure.adapters.state.schema import Table, Value, quoted
from perdure.model.errors import UnavailableError

CONFLICTS_MAX = 1_000
ROUNDS_MAX = 20

Reference = tuple[str, int | None, str, str]
"""As `PRAGMA foreign_key_check` says it: table, rowid, parent, number of the rule."""


def reinsert(live: Path, file: Path, tables: Sequence[str]) -> tuple[int, list[str]]:
    """Put rows of these tables back (none named: of all), in one transaction: how many, and what conflicts."""
    changes = rescue.read(file)
    unknown = set(tables) - {change.table for change in changes}
    if unknown:
        raise UnavailableError(
            f"the rescue file has no rows of {', '.join(sorted(unknown))}",
            f"it has rows of: {', '.join(sorted({change.table for change in changes})) or 'no table'}",
        )
    chosen = [change for change in changes if not tables or change.table in tables]
    with closing(database.connect(live)) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.execute("PRAGMA foreign_keys = OFF").fetchall()
        connection.execute("BEGIN IMMEDIATE").fetchall()
        try:
            result = _Reinsertion(connection).run(chosen)
        except BaseException:
            connection.execute("ROLLBACK").fetchall()
            raise
        connection.execute("COMMIT").fetchall()
    return result


@dataclass
class _Reinsertion:
    """One attempt after the other, each without the rows that refer to nothing."""

    connection: apsw.Connection
    conflicts: list[str] = field(default_factory=list)
    more: int = 0
    _moved: set[tuple[str, Field]] = field(default_factory=set)
    """Rowids that rows without a key were given here: what is there was not there before."""

    def run(self, changes: Sequence[Change]) -> tuple[int, list[str]]:
        """Write what can be written; how many rows, and the sentences."""
        shapes = schema.read(self.connection, schema.NOW)
        before = set(self._dangling())
        refused: dict[int, str] = {}
        for _ in range(ROUNDS_MAX):
            self.conflicts, self.more, self._moved = [], 0, set()
            self.connection.execute("SAVEPOINT attempt").fetchall()
            written = {}
            for number, change in enumerate(changes):
                if number in refused:
                    self._say(refused[number])
                elif (place := self._put(change, shapes.tables.get(change.table))) is not None:
                    written[number] = place
            fresh = [one for one in self._dangling() if one not in before]
            blamed = {
                n: _nowhere(changes[n], one) for one in fresh for n in written if _is(changes[n], written[n], one)
            }
            if not blamed:
                break
            refused |= blamed
            self.connection.execute("ROLLBACK TO attempt").fetchall()
            self.connection.execute("RELEASE attempt").fetchall()
        else:
            raise UnavailableError(
                "rows refer to rows that are not there, again and again", "choose the tables that they refer to as well"
            )
        self.connection.execute("RELEASE attempt").fetchall()
        self._index({changes[number].table for number in written}, shapes)
        if self.more:
            self.conflicts.append(f"and {self.more} more conflicts")
        return len(written), self.conflicts

    def _put(self, change: Change, table: Table | None) -> int | None:
        """Write one row; its rowid (0 when it has none), or None when it was not written."""
        if table is None:
            self._say(f"{change.table}: there is no such table")
            return None
        by_rowid = change.names != table.names
        if by_rowid and (change.names != (ROWID, *table.names) or table.rowid is None):
            self._say(f"{change.table}: its columns are not those of the file")
            return None
        names = (table.rowid or ROWID, *table.names) if by_rowid else table.names
        try:
            if change.old is None:
                return self._insert(change, table, names, by_rowid)
            return self._update(change, table, names)
        except (apsw.ConstraintError, apsw.SQLError, apsw.MismatchError) as error:
            self._say(f"{_shown(change)} is refused: {error}")
            return None

    def _insert(self, change: Change, table: Table, names: Sequence[str], by_rowid: bool) -> int | None:
        found = self._find(change, table, names)
        moved_here = by_rowid and (table.name, change.new[0]) in self._moved
        if found is not None and not moved_here and _equal(found, change.new):
            return None
        if found is not None and not by_rowid:
            self._say(f"{_shown(change)} is there with other values")
            return None
        values = dict(zip(names, change.new, strict=True))
        if by_rowid and (found is not None or _unknown(change)):
            del values[names[0]]
        listed = ", ".join(quoted(name) for name in values)
        marks = ", ".join("?" * len(values))
        self.connection.execute(
            f"INSERT INTO {quoted(table.name)} ({listed}) VALUES ({marks})", tuple(values.values())
        ).fetchall()
        rowid = self.connection.last_insert_rowid() if table.rowid else 0
        if by_rowid:
            self._moved.add((table.name, rowid))
        return rowid

    def _update(self, change: Change, table: Table, names: Sequence[str]) -> int | None:
        found = self._find(change, table, names)
        if found is None:
            self._say(f"{_shown(change)} is not there any more")
            return None
        if _equal(found, change.new):
            return None
        assert change.old is not None
        if not _equal(found, change.old):
            self._say(f"{_shown(change)} was changed in another way since")
            return None
        set_ = {name: value for name, value in zip(names, change.new, strict=True) if not isinstance(value, Same)}
        condition = _condition(change, table, names)
        self.connection.execute(
            f"UPDATE {quoted(table.name)} SET {', '.join(f'{quoted(name)} = ?' for name in set_)} WHERE {condition}",
            (*set_.values(), *change.identity),
        ).fetchall()
        if not table.rowid:
            return 0
        (row,) = self.connection.execute(
            f"SELECT {table.rowid} FROM {quoted(table.name)} WHERE {condition}", change.identity
        )
        return int(row[0])

    def _find(self, change: Change, table: Table, names: Sequence[str]) -> tuple[Value, ...] | None:
        listed = ", ".join(quoted(name) for name in names)
        query = f"SELECT {listed} FROM {quoted(table.name)} WHERE {_condition(change, table, names)}"
        return self.connection.execute(query, change.identity).fetchone()

    def _dangling(self) -> list[Reference]:
        try:
            rows_ = self.connection.execute("PRAGMA foreign_key_check").fetchall()
        except apsw.SQLError:
            return []  # A rule of the schema itself is wrong, and SQLite does not apply it either.
        return [
            (str(table), rowid if isinstance(rowid, int) else None, str(parent), str(rule))
            for table, rowid, parent, rule in rows_
        ]

    def _index(self, tables: set[str], shapes: schema.Schema) -> None:
        """Full-text indexes over the content of one of these tables (`content=...`) are built anew."""
        for virtual in shapes.virtual.values():
            if virtual.content.lower() in {name.lower() for name in tables}:
                name = quoted(virtual.name)
                self.connection.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')").fetchall()

    def _say(self, sentence: str) -> None:
        if len(self.conflicts) < CONFLICTS_MAX:
            self.conflicts.append(sentence)
        else:
            self.more += 1


def _condition(change: Change, table: Table, names: Sequence[str]) -> str:
    by_rowid = len(names) > len(table.names)
    collations = iter(("BINARY",) if by_rowid else table.collations)
    return " AND ".join(f"{quoted(names[position])} = ? COLLATE {quoted(next(collations))}" for position in change.key)


def _equal(found: Sequence[Value], wanted: Sequence[Field]) -> bool:
    pairs = [(is_, was) for is_, was in zip(found, wanted, strict=True) if not isinstance(was, Same)]
    return all(type(is_) is type(was) and is_ == was for is_, was in pairs)


def _unknown(change: Change) -> bool:
    """Whether its number is one that `_packed` made up."""
    return isinstance(change.new[0], int) and change.new[0] < 0


def _is(change: Change, rowid: int, reference: Reference) -> bool:
    """Whether that is the row; of a table without rowids, all rows are taken out."""
    return change.table.lower() == reference[0].lower() and reference[1] in (None, rowid)


def _nowhere(change: Change, reference: Reference) -> str:
    return f"{_shown(change)} refers to a row of {reference[2]} that is not there"


def _shown(change: Change) -> str:
    key = ", ".join(f"{len(one)} bytes" if isinstance(one, bytes) else str(one) for one in change.identity)
    return f"{change.table} {key}"
