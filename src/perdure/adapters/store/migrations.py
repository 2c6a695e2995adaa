"""The schema of the store, as numbered steps that are never edited once released, only added to.

A new file takes all steps; an older one takes those that it lacks, in one transaction, after a copy was made beside it.
A file with more steps than are known here was written by a newer Perdure, and is refused untouched.
"""

from collections.abc import Sequence
from pathlib import Path

import apsw

from perdure.adapters.store import failures, files
from perdure.model.errors import UnavailableError

STEPS: tuple[str, ...] = (
    # 1: `meta` counts; a change has the revision of its transaction and its place in it; `service` is for the index.
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('schema', 0), ('revision', 0), ('changes_floor', 0);
    CREATE TABLE records (
        key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE changes (
        revision INTEGER NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,
        PRIMARY KEY (revision, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        number INTEGER PRIMARY KEY, wall_at REAL NOT NULL, rule TEXT NOT NULL, subject TEXT NOT NULL,
        service TEXT NOT NULL, severity TEXT NOT NULL, sentence TEXT NOT NULL, facts TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_of_service ON events (service, number);
    """,
)
"""Step N, counted from 1, leads from schema N-1 to schema N."""

_PROBES = (
    "SELECT name, value FROM meta LIMIT 0",
    "SELECT key, value, revision FROM records LIMIT 0",
    "SELECT revision, number, key, value FROM changes LIMIT 0",
    "SELECT number, wall_at, rule, subject, service, severity, sentence, facts FROM events LIMIT 0",
)


def migrate(connection: apsw.Connection, path: Path, steps: Sequence[str] = STEPS) -> None:
    """Bring an existing database up to date; UnavailableError when it is newer than `steps`, CorruptionError when
    tables are missing. Copies the file to `backup_path` before the first change."""
    schema = _schema(connection, path)
    if schema > len(steps):
        raise UnavailableError(
            f"the store {path} was written by a newer Perdure (schema {schema}, this one knows {len(steps)})",
            _way_back(path, len(steps)),
        )
    if schema < len(steps):
        back_up(connection, backup_path(path, schema))
        apply(connection, steps, schema)
    for probe in _PROBES:
        connection.execute(probe)


def apply(connection: apsw.Connection, steps: Sequence[str], schema: int) -> None:
    """Run the steps after `schema` in one transaction."""
    with connection:
        for step in steps[schema:]:
            connection.execute(step)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (len(steps),))


def backup_path(path: Path, schema: int) -> Path:
    """Where the copy is kept that was made before the schema was left."""
    return path.with_name(f"{path.name}-schema{schema}")


def back_up(connection: apsw.Connection, target: Path) -> None:
    """Copy the live database to `target` (mode 0600); it has that name only when it is complete."""
    partial = target.with_name(f"{target.name}-partial")
    files.make_private(partial)
    copy = apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with copy.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step()
    finally:
        copy.close()
    partial.replace(target)
    files.sync_directory(target.parent)


def _schema(connection: apsw.Connection, path: Path) -> int:
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    if row is None or row[0] < 1:
        raise failures.damaged(path, "it does not say which schema it has")
    return int(row[0])


def _way_back(path: Path, known: int) -> str:
    copy = backup_path(path, known)
    hint = "start the newer Perdure again"
    return f"{hint}, or go back to the copy it made: {copy}" if copy.exists() else hint
