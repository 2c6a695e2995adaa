"""The tables of two SQLite databases side by side, as far as comparing and reinserting rows needs them.

`difference` counts rows that differ, `rescue` writes them down, `reinsertion` puts them back. The live database is
`main`, the one that was restored aside is attached as `old`.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from perdure.adapters.state import database

NOW = "main"
OLD = "old"
CACHE_KIB = 64_000
Value = int | float | str | bytes | None
"""What SQLite keeps."""
ROWID_NAMES = ("_rowid_", "rowid", "oid")

_TIME_WORDS = frozenset(
    ("at", "changed", "created", "date", "day", "modified", "stamp", "time", "timestamp", "ts", "updated", "when")
)
_NO_TIME_WORDS = frozenset(("by", "id", "ids", "user", "zone"))
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MODULE = re.compile(r"\bUSING\s+[\"'`\[]?(\w+)", re.IGNORECASE)
_CONTENT = re.compile(r"\bcontent\s*=\s*[\"'`\[]?([^\"'`\],)]+)", re.IGNORECASE)
_CONVERTING = re.compile(r"INT|CHAR|CLOB|TEXT|REAL|FLOA|DOUB", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Column:
    """One stored column; `loose`: it keeps 1 and 1.0 apart (no affinity, sqlite.org/datatype3.html section 3.1)."""

    name: str
    loose: bool
    like_time: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table: generated columns are not listed, for they follow from the others."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """The columns of the primary key; none: a row is known by its rowid."""
    collations: tuple[str, ...]
    """By which the columns of the key are compared."""
    rowid: str | None
    """A name for the rowid that no column has; None: there is none."""
    sql: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)

    def fits(self, other: "Table") -> bool:
        """Whether rows of both can be compared one by one."""
        mine, others = ((table.names, table.key, table.collations, table.rowid is None) for table in (self, other))
        return mine == others


@dataclass(frozen=True, slots=True)
class Virtual:
    """A virtual table, the module that keeps it, and the tables in which that does so."""

    name: str
    module: str
    shadows: tuple[str, ...]
    content: str
    """The table that a full-text index is over (`content=...`); empty: none, or its own."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What one database has; SQLite's own tables are left out."""

    tables: dict[str, Table]
    virtual: dict[str, Virtual]
    shadows: dict[str, Table]
    others: dict[str, str]
    """Indexes, views and triggers: `index by_day` -> its definition."""


@contextmanager
def both(live: Path, aside: Path, scratch: Path) -> Iterator[apsw.Connection]:
    """A connection to one moment of the live database, with the other one attached.

    Readers of a database with a rollback journal hold writers up, so a large one is copied to `scratch` first."""
    with closing(_live(live, scratch)) as connection:
        try:
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}").fetchall()
            connection.execute(f"ATTACH ? AS {OLD}", (database.frozen_address(aside),)).fetchall()
            connection.execute(f"PRAGMA {OLD}.cache_size = -{CACHE_KIB}").fetchall()
            connection.execute("BEGIN").fetchall()
            connection.execute(f"SELECT 1 FROM {NOW}.sqlite_schema").fetchall()
            yield connection
        finally:
            scratch.unlink(missing_ok=True)


def _live(live: Path, scratch: Path) -> apsw.Connection:
    if not live.exists():
        return apsw.Connection(":memory:", flags=database.OPEN_FLAGS)
    connection = database.connect(live)
    if database.in_log_mode(connection) or live.stat().st_size <= database.AT_ONCE_BYTES:
        return connection
    connection.close()
    database.copy(live, scratch)
    return database.frozen(scratch)


def read(connection: apsw.Connection, schema: str) -> Schema:
    """The tables of `main` or `old`."""
    rows = connection.execute(
        f"SELECT type, name, coalesce(sql, '') FROM {schema}.sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    definitions = {str(name): str(sql) for type_, name, sql in rows if type_ == "table"}
    others = {f"{type_} {name}": str(sql) for type_, name, sql in rows if type_ != "table"}
    listed = connection.execute("SELECT name, type, wr FROM pragma_table_list WHERE schema = ?", (schema,)).fetchall()
    kinds = {str(name): (str(kind), bool(without)) for name, kind, without in listed if name in definitions}
    found: dict[str, dict[str, Table]] = {"table": {}, "shadow": {}}
    for name, (kind, without) in kinds.items():
        if kind in found:
            found[kind][name] = _table(connection, schema, name, without, definitions[name])
    virtual = {
        name: Virtual(
            name,
            _module(definitions[name]),
            tuple(one for one in found["shadow"] if _keeps(one, name)),
            _content(definitions[name]),
        )
        for name, (kind, _) in kinds.items()
        if kind == "virtual"
    }
    return Schema(found["table"], virtual, found["shadow"], others)


def _table(connection: apsw.Connection, schema: str, name: str, without_rowid: bool, sql: str) -> Table:
    rows = connection.execute(
        "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, ?) ORDER BY cid", (name, schema)
    ).fetchall()
    columns = tuple(
        Column(str(row[0]), _loose(str(row[1])), _like_time(str(row[0]), str(row[1]))) for row in rows if not row[3]
    )
    key = tuple(str(row[0]) for row in sorted(rows, key=lambda row: _number(row[2])) if row[2])
    taken = {str(row[0]).lower() for row in rows}
    rowid = None if without_rowid else next((one for one in ROWID_NAMES if one not in taken), None)
    return Table(name, columns, key, _collations(connection, schema, name, len(key)), rowid, sql)


def _collations(connection: apsw.Connection, schema: str, table: str, count: int) -> tuple[str, ...]:
    """Of the index that keeps the primary key; an integer that is the rowid has none."""
    rows = connection.execute(
        "SELECT x.coll FROM pragma_index_list(?, ?) AS i, pragma_index_xinfo(i.name, ?) AS x"
        " WHERE i.origin = 'pk' AND x.key ORDER BY x.seqno",
        (table, schema, schema),
    ).fetchall()
    found = tuple(str(row[0]) for row in rows)
    return found[:count] if len(found) >= count else ("BINARY",) * count


def _loose(declared: str) -> bool:
    return not declared or (
        not _CONVERTING.search(declared) and ("BLOB" in declared.upper() or declared.upper() == "ANY")
    )


def _like_time(name: str, declared: str) -> bool:
    words = {word.lower() for word in _WORD.findall(name)}
    if words & _NO_TIME_WORDS:
        return False
    return bool(words & _TIME_WORDS) or any(word in declared.upper() for word in ("DATE", "TIME"))


def _module(sql: str) -> str:
    found = _MODULE.search(sql)
    return found.group(1).lower() if found else "unknown"


def _content(sql: str) -> str:
    found = _CONTENT.search(sql)
    return found.group(1) if found else ""


def _keeps(shadow: str, virtual: str) -> bool:
    return shadow.lower().startswith(f"{virtual.lower()}_")


def _number(value: Value) -> int:
    assert isinstance(value, int), value
    return value


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
