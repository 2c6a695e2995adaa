"""Files of the snapshot store: written so that a crash leaves nothing half, and read with errors that name them.

A file is made whole under a name that nobody looks at, flushed, and renamed; the directory is flushed after that. What
the system refuses becomes an error of `model.errors` here: no room is UnavailableError with the bytes that are needed,
a file that is not there is CorruptionError, since the callers only ask for files that must be there. All of it goes
through `os`, call by call, so that tests can end the process between any two of them.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from perdure.adapters.store import files
from perdure.model.errors import ConflictError, CorruptionError, PerdureError, UnavailableError

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
LOCK_WAIT_S = 10.0
"""A short lock that is held for longer belongs to a process that is stopped."""
LOCK_POLL_S = 0.01

ELSEWHERE = "restore another snapshot (`perdure snapshot list`), or put the file back from a backup of the store"


def make_directory(directory: Path) -> None:
    """Make a directory that only its owner may enter, with its parents; one that exists gets that mode."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise unusable(directory, error) from error


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` where the descriptor stands."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_new(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, and flush it; its name is not flushed yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: Path, directory: Path) -> Path:
    """Rename a finished file into another directory, in place of one of that name; flush the directory afterwards."""
    target = directory / source.name
    return source.replace(target)


def remove(path: Path) -> int:
    """Delete a file; how many bytes that frees, 0 when it was not there."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def read(path: Path) -> bytes:
    """A whole file; CorruptionError when it is not there, UnavailableError when the system refuses."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise unusable(path, error) from error


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a file, fewer at its end; FileNotFoundError when it is not there, UnavailableError when refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable(path, error) from error


def names(directory: Path) -> list[str]:
    """Names in a directory, sorted; none when it is not there."""
    try:
        return sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unusable(directory, error) from error


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    files.sync_directory(directory)


@contextlib.contextmanager
def writing(directory: Path, needed: Callable[[], int]) -> Iterator[None]:
    """What the system refuses inside is UnavailableError. `needed`: how many bytes all of it takes at the most."""
    try:
        yield
    except OSError as error:
        raise refused(directory, error, needed) from error


def refused(directory: Path, error: OSError, needed: Callable[[], int]) -> PerdureError:
    """The operating error of a write that failed."""
    if error.errno not in FULL:
        return unusable(directory, error)
    with contextlib.suppress(OSError):
        space = os.statvfs(directory)
        free = f"{space.f_bavail * space.f_frsize:,} bytes are free"
        return UnavailableError(
            f"no room in {directory}: up to {needed():,} bytes are needed for this, and {free} now",
            "free some space, or keep fewer snapshots (`keep`); those that are there are whole",
        )
    return unusable(directory, error)


def unusable(path: Path, error: OSError) -> UnavailableError:
    """The file may be fine, but the system does not let it be used."""
    return UnavailableError(
        f"the snapshot store cannot use {path}: {error.strerror or error}",
        "check that it exists, that this user may read and write it, and that its disk works (`dmesg` shows errors)",
    )


def damaged(path: Path, reason: str, hint: str = ELSEWHERE) -> CorruptionError:
    """A file of the store is not what was written."""
    return CorruptionError(f"{path} is damaged: {reason}", hint)


def missing(path: Path, hint: str = ELSEWHERE) -> CorruptionError:
    """A file of the store that must be there is not."""
    return CorruptionError(f"{path} is missing", hint)


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of those who write packs; ConflictError at once when another process holds it, or this one does."""
    with _opened(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).strip()
            holder = f"process {int(pid)}" if pid.isdigit() else "another process"
            raise ConflictError(
                f"{holder} is writing to the snapshot store {path.parent}", "try again when it has finished"
            ) from None
        except OSError as error:
            raise unusable(path, error) from error
        with contextlib.suppress(OSError):  # On a full disk nobody is named, but something can still be removed.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)


@contextlib.contextmanager
def short_lock(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold a lock that everybody holds for milliseconds, waiting for it; ConflictError when that takes over 10 s."""
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    give_up_at = time.monotonic() + LOCK_WAIT_S
    with _opened(path) as descriptor:
        while True:
            try:
                fcntl.flock(descriptor, operation)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise ConflictError(
                        f"another process has held {path} for {LOCK_WAIT_S:g} s",
                        f"`fuser {path}` names it; it may be stopped",
                    ) from None
                time.sleep(LOCK_POLL_S)
            except OSError as error:
                raise unusable(path, error) from error
        yield


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A lock is released with its descriptor, however the process ends."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise refused(path.parent, error, lambda: 20) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
