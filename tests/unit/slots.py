"""What the tests of the state keepers share: a slot's source, a vault, and pictures of what is on the disk."""

import hashlib
import os
import stat
from pathlib import Path

import apsw

from perdure.adapters.state.place import Place
from perdure.adapters.state.vault import Draft, Vault
from perdure.model.snapshot import Keeping, StateKind
from perdure.ports.keeper import Source

SQLITE = Keeping(StateKind.SQLITE, path="notes.db")
FILES = Keeping(StateKind.FILES)


def source(directory: Path, keeping: Keeping, pid: int | None = None) -> Source:
    """The state of a slot in a directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    return Source("notes", "notes/1", str(directory), keeping, pid=pid)


def place(directory: Path, keeping: Keeping) -> Place:
    """Where it is."""
    return Place.of(directory, keeping)


def vault(directory: Path) -> Vault:
    """An empty store."""
    return Vault(directory / "vault")


def draft(kind: StateKind = StateKind.SQLITE) -> Draft:
    """What is known before a snapshot."""
    return Draft("notes", "notes/1", kind, 1, 1, 0.0)


def database(path: Path, *statements: str, wal: bool = True) -> apsw.Connection:
    """A connection to a database, made when there is none; the statements are run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}").fetchall()
    connection.execute("PRAGMA synchronous = OFF").fetchall()
    connection.set_busy_timeout(5_000)
    run(connection, *statements)
    return connection


def run(connection: apsw.Connection, *statements: str) -> list[tuple[object, ...]]:
    """Run statements; the rows of the last one."""
    rows: list[tuple[object, ...]] = []
    for statement in statements:
        rows = list(connection.execute(statement))
    return rows


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    """The rows of a query, on a connection of its own."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return run(connection, query)
    finally:
        connection.close()


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """All that is in a directory: kind, mode, content or target, by path."""
    found: dict[str, tuple[object, ...]] = {}
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(parent, name)
            seen = path.lstat()
            kind = stat.S_IFMT(seen.st_mode)
            content = ""
            if stat.S_ISLNK(seen.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(seen.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            mtime = seen.st_mtime_ns if stat.S_ISREG(seen.st_mode) else 0
            found[str(path.relative_to(directory))] = (kind, stat.S_IMODE(seen.st_mode), content, mtime)
    return found
