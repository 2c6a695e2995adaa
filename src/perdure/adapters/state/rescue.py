"""The rows that going back would lose, in a file: what `reinsertion` reads to put them back.

The file is a changeset of SQLite's session extension (sqlite.org/session/c_changeset.html), several of them one after
the other, which is one as well: an INSERT for each row that the snapshot does not have, an UPDATE with the columns that
differ. Rows that were deleted since the snapshot are not in it: nothing of them is lost. A table without a primary key
has its rowid as a first column that is the key, as the extension's own option for such tables does it
(SQLITE_SESSION_OBJCONFIG_ROWID). Rows with NULL in their primary key, which the format does not allow, are written in
that way too, in a changeset of their own; so are rows of which the rowid is not known (`rows`): numbered below zero.
Generated columns are left out. Since a changeset knows columns by their number only, each one is preceded by one that
inserts a row into a table `perdure_columns`, the name of the table and, as JSON, those of its columns; tools that apply
the file skip it, for no database has such a table.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path

import apsw

from perdure.adapters.state import filesystem, rows, schema
from perdure.adapters.state.schema import Table, Value, quoted
from perdure.model.errors import CorruptionError

ROWS_A_CHANGESET = 20_000
"""All of a changeset is in memory while it is made."""
ROWID = "_rowid_"
COLUMNS = "perdure_columns"


class Same(Enum):
    """A column that the change does not speak of."""

    SAME = "same"


Field = Value | Same


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the file."""

    table: str
    names: tuple[str, ...]
    """Of the columns; the first one may be `ROWID`."""
    key: tuple[int, ...]
    """Positions of the columns of the key."""
    old: tuple[Field, ...] | None
    new: tuple[Field, ...]

    @classmethod
    def of(cls, change: apsw.TableChange, names: tuple[str, ...]) -> "Change":
        """Copied, for what iteration hands out is valid for one step only."""
        key = tuple(sorted(change.pk_columns))
        old = None if change.old is None else tuple(map(_field, change.old))
        return cls(change.name, names, key, old, tuple(map(_field, change.new or ())))

    @property
    def identity(self) -> tuple[Value, ...]:
        """The key's values."""
        values = self.new if self.old is None else self.old
        return tuple(value for position in self.key if not isinstance(value := values[position], Same))


def write(live: Path, aside: Path, file: Path, scratch: Path) -> int:
    """Write the rows that the live database has and the other one has not, or not like that; how many there are.

    The file is there as a whole or not at all. Tables that the snapshot has in another shape are in it with all their
    rows, so that nothing is lost that the snapshot cannot hold."""
    new = file.with_name(f"{file.name}-new")
    total = 0
    try:
        with schema.both(live, aside, scratch) as connection, new.open("wb") as output:
            new.chmod(0o600)
            for changeset, count in _changesets(connection):
                output.write(changeset)
                total += count
        filesystem.sync(new)
        new.rename(file)
        filesystem.sync(file.parent)
    finally:
        new.unlink(missing_ok=True)
    return total


def read(file: Path) -> list[Change]:
    """All changes in a rescue file; CorruptionError when it is damaged, or none."""
    columns: dict[str, tuple[str, ...]] = {}
    changes = []
    try:
        for one in apsw.Changeset.iter(file.read_bytes()):
            if one.name == COLUMNS and one.new is not None:
                columns[str(one.new[0])] = tuple(map(str, json.loads(str(one.new[1]))))
            else:
                changes.append(Change.of(one, columns[one.name]))
    except (apsw.Error, KeyError, ValueError) as error:
        raise CorruptionError(f"the rescue file {file} is damaged: {error}", "nothing was changed") from error
    return changes


def _changesets(connection: apsw.Connection) -> Iterator[tuple[bytes, int]]:
    now, old = schema.read(connection, schema.NOW), schema.read(connection, schema.OLD)
    by_content = rows.renumbered(connection)
    for name, table in sorted(now.tables.items()):
        other = old.tables.get(name)
        if other is not None and table.fits(other):
            found = rows.lost(connection, table, by_content)
        else:
            found = rows.every(connection, table)
        for keyed, group in groupby(found, key=lambda row: row[0]):
            yield from _packed(table, keyed, ((row, before) for _, row, before in group))


def _packed(
    table: Table, keyed: bool, changes: Iterator[tuple[rows.Row, rows.Row | None]]
) -> Iterator[tuple[bytes, int]]:
    names = table.names if keyed else (ROWID, *table.names)
    keys = [name in table.key for name in names] if keyed else [True] + [False] * len(table.names)
    yield _columns(table.name, names), 0
    finished = False
    unknown = 0
    while not finished:
        count = 0
        finished = True
        with _builder(table.name, keys) as builder:
            for row, before in changes:
                if not keyed and row[0] is None:
                    unknown -= 1
                    row = (unknown, *row[1:])
                _add(builder, table.name, keys, row, before)
                count += 1
                if count == ROWS_A_CHANGESET:
                    finished = False
                    break
            if count:
                yield builder.output(), count


def _columns(table: str, names: Sequence[str]) -> bytes:
    """The changeset that says which columns the next one has."""
    with _builder(COLUMNS, [True, False]) as builder:
        builder.add_insert(COLUMNS, False, (table, json.dumps(names)))
        return builder.output()


@contextmanager
def _builder(table: str, keys: Sequence[bool]) -> Iterator[apsw.ChangesetBuilder]:
    """For a table of this shape; a changeset knows its columns by their number."""
    columns = [f"c{number}" for number in range(len(keys))]
    key = ", ".join(column for column, is_key in zip(columns, keys, strict=True) if is_key)
    builder = apsw.ChangesetBuilder()  # type: ignore[no-untyped-call]
    try:
        with closing(apsw.Connection(":memory:")) as shape:
            shape.execute(f"CREATE TABLE {quoted(table)} ({', '.join(columns)}, PRIMARY KEY ({key}))").fetchall()
            builder.schema(shape, "main")
            yield builder
    finally:
        builder.close()


def _add(
    builder: apsw.ChangesetBuilder, table: str, keys: Sequence[bool], row: rows.Row, before: rows.Row | None
) -> None:
    if before is None:
        builder.add_insert(table, False, row)
        return
    pairs = list(zip(row, before, keys, strict=True))
    same = [key or (type(now) is type(was) and now == was) for now, was, key in pairs]
    if not all(same):
        old = tuple(
            apsw.no_change if alike and not key else was for (_, was, key), alike in zip(pairs, same, strict=True)
        )
        new = tuple(apsw.no_change if alike else now for (now, _, _), alike in zip(pairs, same, strict=True))
        builder.add_update(table, False, old, new)
        return
    # Only the key itself is written differently (by its collation it is the same): the row is given whole.
    builder.add_insert(table, False, row)


def _field(value: object) -> Field:
    if value is apsw.no_change:
        return Same.SAME
    assert value is None or isinstance(value, int | float | str | bytes), value
    return value
