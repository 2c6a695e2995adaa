"""Which rows of one table differ between two databases, as SQL that is exact.

A row with a primary key is the same row as the one with the same key, compared by the key's own collation; its other
columns are compared by their bytes, and where a column keeps 1 and 1.0 apart, by their type too. The live table is read
once, with one look-up in the old one for each row (1 M rows, 400 MB: a second); how many rows are only in the old one
follows from counting both.

A row without a key (no primary key, or NULL in one that allows it) is known by its rowid. VACUUM may number such rows
anew, and changes the schema's version as it does: when the versions differ, these rows are compared by their content
instead, as many times as they are there; one that was updated then counts as inserted and deleted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from perdure.adapters.state.schema import NOW, OLD, Table, Value, quoted

Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Rows of the live table that differ, and rows that only the old one has."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    newest: Value = None

    def __bool__(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)


def renumbered(connection: apsw.Connection) -> bool:
    """Whether rowids may mean other rows in the two databases."""
    versions = [connection.execute(f"PRAGMA {schema}.schema_version").get for schema in (NOW, OLD)]
    return bool(versions[0] != versions[1])


def count(connection: apsw.Connection, table: Table, by_content: bool) -> Count:
    """Compare two tables of the same shape."""
    parts = []
    if table.key:
        parts.append(_count_joined(connection, table, _keyed(table)))
    if not table.key or _may_lack_key(connection, table):
        joined = None if by_content else _unkeyed(table)
        parts.append(_count_joined(connection, table, joined) if joined else _count_by_content(connection, table))
    newest = [one.newest for one in parts if one.newest is not None]
    return Count(
        sum(one.inserted for one in parts),
        sum(one.updated for one in parts),
        sum(one.deleted for one in parts),
        max(newest, key=lambda value: (isinstance(value, str), value), default=None),
    )


def lost(connection: apsw.Connection, table: Table, by_content: bool) -> Iterator[tuple[bool, Row, Row | None]]:
    """Rows of the live table that the old one does not have like that: whether they have a key, the row, and what it
    was in the old table (None: nothing). Those without a key begin with their rowid."""
    if table.key:
        for row in _each_joined(connection, table, _keyed(table), table.names):
            yield True, *row
    if not table.key or _may_lack_key(connection, table):
        joined = None if by_content else _unkeyed(table)
        if joined is not None and table.rowid is not None:
            for row in _each_joined(connection, table, joined, (table.rowid, *table.names)):
                yield False, *row
        else:
            yield from _each_by_content(connection, table)


def every(connection: apsw.Connection, table: Table) -> Iterator[tuple[bool, Row, None]]:
    """All rows of the live table, as `lost` gives them."""
    name = quoted(table.name)
    lacks = _no_key(table).replace("?", "n")
    if table.key:
        columns = ", ".join(f"n.{quoted(one)}" for one in table.names)
        for row in connection.execute(f"SELECT {columns} FROM {NOW}.{name} AS n WHERE NOT {lacks}"):
            yield True, row, None
    rowid = f"n.{table.rowid}" if table.rowid else "NULL"
    columns = ", ".join((rowid, *(f"n.{quoted(one)}" for one in table.names)))
    for row in connection.execute(f"SELECT {columns} FROM {NOW}.{name} AS n WHERE {lacks}"):
        yield False, row, None


@dataclass(frozen=True, slots=True)
class _Join:
    """How a row `n` of the live table finds its counterpart `o`; both conditions speak of table `n` and `o`."""

    on: str
    """Beside, the counterpart's `present` is not NULL."""
    present: str
    which: str
    """A condition with `?` for the table: which rows take part."""

    def rows(self, letter: str) -> str:
        """The condition for one of the two tables."""
        return self.which.replace("?", letter)


def _keyed(table: Table) -> _Join:
    pairs = zip(table.key, table.collations, strict=True)
    on = " AND ".join(f"o.{quoted(name)} = n.{quoted(name)} COLLATE {quoted(collation)}" for name, collation in pairs)
    which = " AND ".join(f"?.{quoted(name)} IS NOT NULL" for name in table.key)
    return _Join(on, f"o.{quoted(table.key[0])}", which)


def _unkeyed(table: Table) -> _Join | None:
    if table.rowid is None:
        return None
    which = _no_key(table)
    on = f"o.{table.rowid} = n.{table.rowid} AND {which.replace('?', 'o')}"
    return _Join(on, f"o.{table.rowid}", which)


def _no_key(table: Table) -> str:
    """The condition for rows that have no key."""
    return "(" + " OR ".join(f"?.{quoted(name)} IS NULL" for name in table.key) + ")" if table.key else "1"


def _may_lack_key(connection: apsw.Connection, table: Table) -> bool:
    if table.rowid is None and "WITHOUT" in table.sql.upper():
        return False
    queries = [
        f"SELECT 1 FROM {schema}.{quoted(table.name)} AS n WHERE {_no_key(table).replace('?', 'n')} LIMIT 1"
        for schema in (NOW, OLD)
    ]
    return any(connection.execute(query).fetchone() is not None for query in queries)


def _differs(table: Table) -> str:
    """A condition: `n` and `o` are not the same, byte for byte."""
    parts = []
    for column in table.columns:
        name = quoted(column.name)
        parts.append(f"n.{name} IS NOT o.{name} COLLATE BINARY")
        if column.loose:
            parts.append(f"typeof(n.{name}) <> typeof(o.{name})")
    return " OR ".join(parts)


def _from(table: Table, join: _Join) -> str:
    name = quoted(table.name)
    return (
        f"FROM {NOW}.{name} AS n LEFT JOIN {OLD}.{name} AS o ON {join.on}"
        f" WHERE {join.rows('n')} AND ({join.present} IS NULL OR {_differs(table)})"
    )


def _count_joined(connection: apsw.Connection, table: Table, join: _Join) -> Count:
    query = f"SELECT count(*), count({join.present}), max({_time(table)}) {_from(table, join)}"
    (row,) = connection.execute(query)
    differing, updated, newest = int(row[0]), int(row[1]), row[2]
    totals = [
        int(connection.execute(f"SELECT count(*) FROM {schema}.{quoted(table.name)} AS n WHERE {join.rows('n')}").get)
        for schema in (NOW, OLD)
    ]
    inserted = differing - updated
    return Count(inserted, updated, totals[1] - (totals[0] - inserted), newest)


def _each_joined(
    connection: apsw.Connection, table: Table, join: _Join, names: tuple[str, ...]
) -> Iterator[tuple[Row, Row | None]]:
    columns = [", ".join(f"{letter}.{quoted(name)}" for name in names) for letter in "no"]
    query = f"SELECT {join.present} IS NULL, {', '.join(columns)} {_from(table, join)}"
    for row in connection.execute(query):
        yield row[1 : 1 + len(names)], None if row[0] else row[1 + len(names) :]


def _grouped(table: Table) -> str:
    """Every content with how many more times the live table has it; rows without a key only."""
    columns = [f"n.{quoted(name)} AS c{i}" for i, name in enumerate(table.names)]
    sides = [
        f"SELECT {sign} AS d, {', '.join(columns)} FROM {schema}.{quoted(table.name)} AS n"
        f" WHERE {_no_key(table).replace('?', 'n')}"
        for sign, schema in ((1, NOW), (-1, OLD))
    ]
    groups = [f"c{i} COLLATE BINARY" for i in range(len(columns))]
    groups += [f"typeof(c{i})" for i, column in enumerate(table.columns) if column.loose]
    listed = ", ".join(f"c{i}" for i in range(len(columns)))
    return f"SELECT sum(d) AS d, {listed} FROM ({' UNION ALL '.join(sides)}) GROUP BY {', '.join(groups)}"


def _count_by_content(connection: apsw.Connection, table: Table) -> Count:
    at = next((f"c{i}" for i, column in enumerate(table.columns) if column.like_time), "NULL")
    (row,) = connection.execute(
        f"SELECT coalesce(sum(max(d, 0)), 0), coalesce(sum(max(-d, 0)), 0), max(CASE WHEN d > 0 THEN {at} END)"
        f" FROM ({_grouped(table)})"
    )
    return Count(int(row[0]), 0, int(row[1]), row[2])


def _each_by_content(connection: apsw.Connection, table: Table) -> Iterator[tuple[bool, Row, None]]:
    """The rowid is not known here, and None."""
    for row in connection.execute(f"{_grouped(table)} HAVING sum(d) > 0"):
        for _ in range(int(row[0])):
            yield False, (None, *row[1:]), None


def _time(table: Table) -> str:
    """The first column that looks like a time, in the live table."""
    return next((f"n.{quoted(column.name)}" for column in table.columns if column.like_time), "NULL")
