"""The store's files beside each other, looked at without SQLite: some damage SQLite would repair by forgetting.

    perdure.db        the database; it gets this name only when it is complete, so that an empty one is always damage
    perdure.db-wal    SQLite's log; SQLite deletes it when the database is empty, and ignores its end when it is cut
    perdure.db-mark   the revision of the last durable transaction: how a cut or lost log is told from a crash

Everything here runs before the connection is opened: closing any other descriptor of a database drops SQLite's locks.
"""

import os
from pathlib import Path

from perdure.adapters.store import failures
from perdure.model.errors import CorruptionError

APPLICATION_ID = int.from_bytes(b"Perd")
PAGE_BYTES = 4096

_FIXED: tuple[tuple[int, bytes], ...] = (
    (0, b"SQLite format 3\x00"),
    (16, PAGE_BYTES.to_bytes(2)),
    (18, bytes((2, 2, 0, 64, 32, 32))),  # log mode, no reserved bytes, payload fractions
    (44, bytes((0, 0, 0, 4)) + bytes(8) + bytes((0, 0, 0, 1)) + bytes(8)),  # format 4, no vacuum, UTF-8
    (68, APPLICATION_ID.to_bytes(4) + bytes(20)),
)
"""Offset -> bytes of the header that never differ in a store (sqlite.org/fileformat2.html, section 1.3)."""


def verify(path: Path) -> bool:
    """Whether a store is there, and sound as far as can be told from outside; CorruptionError when it is not sound."""
    log = path.with_name(f"{path.name}-wal")
    if not path.exists():
        if log.exists() or Mark.read(path) > 0:
            raise failures.damaged(path, "the database is missing, but files that belong to it are there")
        return False
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        raise failures.damaged(path, "it is empty, and Perdure never leaves it so")
    if not header.startswith(_FIXED[0][1]):
        raise failures.damaged(path, "it is not an SQLite database")
    if any(header[offset : offset + len(fixed)] != fixed for offset, fixed in _FIXED):
        raise failures.damaged(path, "its header is not that of a store of Perdure")
    if path.stat().st_size % PAGE_BYTES and not (log.exists() and log.stat().st_size):
        # With a log, it may be one that a full disk cut while the log was written back; the log still has all of it.
        raise failures.damaged(path, "its last page is incomplete")
    for file_path in (path, log):
        _restrict(file_path)
    return True


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, whatever the umask; what an earlier attempt left is removed."""
    for leftover in (path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-journal", "-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Mark:
    """The revision of the last durable transaction, kept outside the database.

    It is written after the transaction is on disk and not synced itself, so it can be too low after a power cut, never
    too high: a database that is behind it has lost what was acknowledged.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(_mark_path(path), os.O_RDWR | os.O_CREAT, 0o600)

    @staticmethod
    def read(path: Path) -> int:
        """The mark of the store at `path`; 0 when there is none, or an unreadable one."""
        try:
            text = _mark_path(path).read_bytes()
        except FileNotFoundError:
            return 0
        return int(text) if text.strip().isdigit() else 0

    def advance(self, revision: int) -> None:
        """Note a durable transaction. A disk that refuses makes the mark too low, which is safe: the data is there."""
        try:
            os.pwrite(self._descriptor, b"%020d\n" % revision, 0)
        except OSError:
            return

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


def behind(path: Path, revision: int, mark: int) -> CorruptionError:
    """The error of a database whose newest transaction is older than one that was acknowledged."""
    return CorruptionError(
        f"the store {path} has lost its newest changes: it ends at revision {revision}, but {mark} was acknowledged",
        f"restore {path.name} and {path.name}-wal from a backup; to go on with what is left, remove {_mark_path(path)}",
    )


def _mark_path(path: Path) -> Path:
    return path.with_name(f"{path.name}-mark")


def _restrict(path: Path) -> None:
    """A store holds the secrets of environments; an administrator's copy may have come with a wider mode."""
    if path.exists() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
