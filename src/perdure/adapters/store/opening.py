"""Makes or opens the database file: looks first, touches nothing that is damaged, migrates what is older.

`sqlite` calls `open_database` in its worker thread and gets `Tables` on a verified connection.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import apsw

from perdure.adapters.store import failures, files, migrations, tables

BUSY_TIMEOUT_MS = 1500


def open_database(path: Path, steps: Sequence[str]) -> tables.Tables:
    """The tables of the store at `path`, made when there is none; errors of `apsw` and `OSError` pass as they come."""
    if not files.verify(path):
        _make(path, steps)
    acknowledged = files.Mark.read(path)
    connection = _connect(path)
    try:
        if connection.readonly("main"):
            raise failures.unusable(path, "it is read-only")
        opened = tables.Tables(connection, path)
        opened.check()
        migrations.migrate(connection, path, steps)
        if opened.revision() < acknowledged:
            raise files.behind(path, opened.revision(), acknowledged)
        opened.keep_mark(files.Mark(path))
    except BaseException:
        connection.close()
        raise
    _new(path).unlink(missing_ok=True)
    return opened


def _make(path: Path, steps: Sequence[str]) -> None:
    """Build the database under another name and link it into place, so that a crash leaves none or a whole one."""
    new = _new(path)
    files.make_private(new)
    connection = apsw.Connection(str(new), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute(f"PRAGMA page_size = {files.PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {files.APPLICATION_ID}")
        connection.execute("PRAGMA synchronous = FULL")
        migrations.apply(connection, steps, 0)
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    os.link(new, path)
    new.unlink()
    files.sync_directory(path.parent)


def _connect(path: Path) -> apsw.Connection:
    """A connection that changes nothing until it is told to; closed without that, it leaves the log as it is."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}-new")
