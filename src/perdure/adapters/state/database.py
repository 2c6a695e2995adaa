"""State that is one SQLite database: a consistent copy while the service goes on writing, a check of what comes back.

In log mode (WAL) one step of the backup API reads one moment of the database, however long it takes, and delays no
writer. With a rollback journal a reader holds writers up: a small database is copied in one step all the same (64 MB
are read in a tenth of a second), a large one some pages at a time. Then a write in between makes SQLite start again
(sqlite.org/backup.html); after a few such starts, or some seconds, the rest is copied in one step, so that the copy
ends whatever the writers do. A busy program that waits for its lock less than that, 0.8 s for 400 MB, would
fail: such a program should use the log.

Restored databases are checked with `PRAGMA integrity_check`, which is as fast here as `quick_check` (400 MB in 0.4 s;
most of it is reading) and compares the indexes too. `following` brings passive replicas to a snapshot, `difference`
compares two databases.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from perdure.adapters.state import filesystem, tree
from perdure.adapters.state.place import Applied, Place, look
from perdure.adapters.state.vault import Content, Draft, Entry, EntryKind, Vault
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.snapshot import Manifest

OPEN_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
"""Never made; and what is attached may be told to be at rest."""
BUSY_TIMEOUT_MS = 5_000
AT_ONCE_BYTES = 64 << 20
PAGES_A_STEP = 2_048
RESTARTS_MAX = 3
PAGE_BY_PAGE_S = 10.0
CHUNK_BYTES = 4_096
SCHEMA_VERSION_AT = 40
CHECK_TIMEOUT_S = 60.0
OPERATIONS_A_LOOK = 100_000
"""Instructions of SQLite between two looks at the clock."""
PROBLEMS_MAX = 3


def take(vault: Vault, draft: Draft, live: Path, scratch: Path) -> Manifest:
    """Copy the database to `scratch` and put the copy into the vault; `draft.taken_at` is replaced."""
    began_at = time.monotonic()
    try:
        seen = live.stat()
    except FileNotFoundError:
        raise _absent(live) from None
    try:
        filesystem.require_room(scratch.parent, seen.st_size)
        taken_at = copy(live, scratch)
        entry = Entry(
            path="",
            kind=EntryKind.FILE,
            mode=seen.st_mode & 0o7777,
            uid=seen.st_uid,
            gid=seen.st_gid,
            mtime_ns=seen.st_mtime_ns,
            size=scratch.stat().st_size,
        )
        dated = Draft(draft.service, draft.slot, draft.kind, draft.epoch, draft.data_epoch, taken_at)
        with vault.begin(dated) as intake, scratch.open("rb") as file:
            intake.entry(entry, file, CHUNK_BYTES)
            return intake.commit(time.monotonic() - began_at)
    finally:
        scratch.unlink(missing_ok=True)


def copy(live: Path, target: Path) -> float:
    """Copy a database that may be written to meanwhile into a new file, not flushed; the Unix time, in seconds, up to
    which all that was committed is in it."""
    target.unlink(missing_ok=True)
    with (
        closing(connect(live)) as source,
        closing(_scratch(target)) as destination,
        destination.backup("main", source, "main") as backup,
    ):
        if not in_log_mode(source) and live.stat().st_size > AT_ONCE_BYTES:
            _some_pages_at_a_time(backup)
        taken_at = time.time()
        source.execute("BEGIN").fetchall()
        version = source.execute("PRAGMA schema_version").get
        while not backup.done:
            backup.step(-1)
    _number_schema(target, int(version))
    return taken_at


def _number_schema(path: Path, version: int) -> None:
    """Give the copy the version of the schema that it is a copy of, which the backup API counts anew: it says whether
    rowids may have changed (`rows`). Bytes 40 to 43, big-endian (sqlite.org/fileformat2.html, section 1.3)."""
    with path.open("r+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(SCHEMA_VERSION_AT)
            file.write(version.to_bytes(4, "big"))


def _some_pages_at_a_time(backup: apsw.Backup) -> None:
    """Copy until little is left, or until writers made it start again too often; the last step is the caller's."""
    restarts = 0
    copied = 0
    until_at = time.monotonic() + PAGE_BY_PAGE_S
    while restarts < RESTARTS_MAX and time.monotonic() < until_at:
        if copied and backup.remaining <= PAGES_A_STEP:
            return
        backup.step(PAGES_A_STEP)
        so_far = backup.page_count - backup.remaining
        restarts += so_far <= copied
        copied = so_far


def restore(content: Content, place: Place, query: str) -> None:
    """Write the database into a directory that does not exist yet, flush it, and check it."""
    (entry,) = content.entries
    place.directory.mkdir(mode=0o700)
    filesystem.require_room(place.directory, entry.size)
    place.live.parent.mkdir(parents=True, exist_ok=True)
    tree.write_file(place.live, entry, content.read(entry.path))
    check(place.live, query)
    seen = look(place.live)
    assert seen is not None, "it was just written"
    place.note(Applied(content.manifest, {"": seen}))


def check(path: Path, query: str) -> None:
    """Read all of a database at rest and ask the user's query; CorruptionError when either says that it is wrong."""
    with closing(frozen(path)) as connection:
        problems = _problems(connection)
        if problems:
            shown = "; ".join(problems[:PROBLEMS_MAX])
            raise CorruptionError(f"the restored database is damaged: {shown}", "go back to another snapshot")
        if not query:
            return
        with time_limit(connection, CHECK_TIMEOUT_S, "the check of the restored database"):
            try:
                row = connection.execute(query).fetchone()
            except apsw.SQLError as error:
                raise CorruptionError(
                    f"the restored database does not answer its check: {error}",
                    "correct `state.check`, or go back to another snapshot",
                ) from error
            true = row is not None and connection.execute("SELECT CASE WHEN ? THEN 1 ELSE 0 END", (row[0],)).get
        if not true:
            raise CorruptionError(
                "the restored database fails its check: the first value of `state.check` is not true",
                "go back to another snapshot, or correct the query",
            )


def _problems(connection: apsw.Connection) -> list[str]:
    try:
        return _reported(connection, str(PROBLEMS_MAX))
    except apsw.SQLError:
        # A table needs what only the program itself defines (a collation, a function): the others are checked.
        names = connection.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
        return [problem for (name,) in names.fetchall() for problem in _problems_of(connection, str(name))]


def _problems_of(connection: apsw.Connection, table: str) -> list[str]:
    quoted = '"' + table.replace('"', '""') + '"'
    try:
        return _reported(connection, quoted)
    except apsw.SQLError:
        for _ in connection.execute(f"SELECT * FROM {quoted} NOT INDEXED"):
            pass  # That all its rows can be read is what can be known.
        return []


def _reported(connection: apsw.Connection, argument: str) -> list[str]:
    rows = connection.execute(f"PRAGMA integrity_check({argument})").fetchall()
    return [str(row[0]) for row in rows if row[0] != "ok"]


def connect(path: Path) -> apsw.Connection:
    """A connection to a database that others may use; it is never made, and closing it leaves a log as it is."""
    if not path.exists():
        raise _absent(path)
    connection = apsw.Connection(str(path), flags=OPEN_FLAGS)
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def frozen(path: Path) -> apsw.Connection:
    """A connection to a database that nobody else uses: only its file is read, and no file is made beside it."""
    return apsw.Connection(frozen_address(path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def frozen_address(path: Path) -> str:
    """The same for ATTACH."""
    return f"file:{quote(os.fsencode(path.absolute()))}?immutable=1"


def in_log_mode(connection: apsw.Connection) -> bool:
    """Whether readers see one moment without holding writers up."""
    return bool(connection.execute("PRAGMA main.journal_mode").get == "wal")


@contextmanager
def time_limit(connection: apsw.Connection, limit_s: float, what: str) -> Iterator[None]:
    """Interrupt what takes longer; UnavailableError then."""
    until_at = time.monotonic() + limit_s
    connection.set_progress_handler(lambda: time.monotonic() > until_at, OPERATIONS_A_LOOK)
    try:
        yield
    except apsw.InterruptError as error:
        raise UnavailableError(f"{what} took longer than {limit_s:g} s", "make the query cheaper") from error
    finally:
        connection.set_progress_handler(None)


def _scratch(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
    connection.execute("PRAGMA journal_mode = OFF").fetchall()
    connection.execute("PRAGMA synchronous = OFF").fetchall()
    return connection


def _absent(path: Path) -> UnavailableError:
    return UnavailableError(
        f"there is no database {path}", "start the service once so that it makes it, or correct `state.path`"
    )
