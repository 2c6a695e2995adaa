"""What the disk is asked for, one system call a method, so that a test can let the process die between any two.

`Disk` is what a switch is made of; the functions are for copies, which count only once a name points to them. Errors of
the system and of SQLite become those of `model.errors` in one place, `guarded`.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from perdure.model.errors import CorruptionError, PerdureError, UnavailableError

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""renameat2(2), Linux 3.15."""
ROOM_BYTES = 8 << 20
"""Left free beside what is to be written."""
COPY_BYTES = 1 << 20

_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_EXCHANGE = frozenset((errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP))
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_BUGS = (apsw.MisuseError, apsw.BindingsError, apsw.ThreadingViolationError, apsw.ConnectionClosedError)
_DAMAGED_READS = frozenset((apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA))


class Disk:
    """Names and small files; all methods raise OSError."""

    def create(self, path: Path, content: bytes) -> None:
        """Write a new file that only its owner may read, or write an old one anew; death in it leaves a part."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)

    def rename(self, old: Path, new: Path) -> None:
        """Give it another name; what has that name is replaced."""
        old.rename(new)

    def exchange(self, one: Path, other: Path) -> bool:
        """Exchange two names in one step; False, and no change, where the system cannot."""
        try:
            renameat2 = _LIBC.renameat2
        except AttributeError:
            return False
        if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
            return True
        number = ctypes.get_errno()
        if number in _NO_EXCHANGE:
            return False
        raise OSError(number, os.strerror(number), str(one))

    def unlink(self, path: Path) -> None:
        """Remove a file; nothing happens when there is none."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """Make a directory that only its owner can enter, parents too; one that exists is fine."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def sync(self, path: Path) -> None:
        """Make the content of a file, or the names in a directory, survive a power cut."""
        sync(path)


def sync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Flush the file system that `path` is on: one call instead of one for each of many files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        syncfs = getattr(_LIBC, "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes) -> None:
    """Write a small file so that it is there as a whole or not at all, also after a power cut."""
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    sync(path.parent)


def require_room(directory: Path, size_bytes: int) -> None:
    """UnavailableError when less than `size_bytes` and a margin are free where `directory` is."""
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if free < size_bytes + ROOM_BYTES:
        raise UnavailableError(
            f"there is no room in {directory}: {size_bytes:,} bytes are needed, {max(0, free - ROOM_BYTES):,} are free",
            "free some space on that disk; nothing was changed",
        )


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Errors of the system and of SQLite leave it as those of `model.errors`; `what` begins the sentence."""
    try:
        yield
    except (OSError, apsw.Error) as error:
        operating = translated(error, what)
        if operating is None:
            raise
        raise operating from error


def translated(error: OSError | apsw.Error, what: str) -> PerdureError | None:
    """What an error amounts to for the user; None when it is a bug."""
    if isinstance(error, _BUGS):
        return None
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in _FULL):
        return UnavailableError(f"{what}: the disk is full", "free some space; nothing live was changed")
    if isinstance(error, OSError):
        named = f" ({error.filename})" if error.filename else ""
        return UnavailableError(
            f"{what}: {error.strerror or error}{named}", "check that it exists, may be used, and that its disk works"
        )
    code = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError) or code in _DAMAGED_READS:
        return CorruptionError(f"{what}: the database is damaged: {error}", "go back to a snapshot: `perdure restore`")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return UnavailableError(
            f"{what}: another process holds its lock", "try again; end a transaction that never ends"
        )
    return UnavailableError(f"{what}: {error}", "check that the file may be used, and that its disk works")
