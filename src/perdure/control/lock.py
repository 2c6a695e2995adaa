"""One daemon for each state directory: an advisory lock (flock) on a file that holds the daemon's pid.

The kernel releases it when the daemon dies, however it dies, so there is nothing to clean up and no pid to guess about.
The file itself stays: removing it would let two daemons lock two files of the same name. `daemon` takes the lock before
it opens the store or adopts a process; the descriptor is closed in every program that is started (close-on-exec).
"""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from perdure.model.errors import ConflictError, UnavailableError


class DirectoryLock:
    """The lock in the file at `path`, made with mode 0600 when there is none; also a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and note this process's pid, without waiting. ConflictError when another daemon holds it,
        UnavailableError when the file cannot be locked at all."""
        assert self._descriptor is None, "the lock is held already"
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self._path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise ConflictError(f"a daemon{holder} already runs for this directory", "perdure status") from None
        except OSError as error:
            os.close(descriptor)
            raise _unusable(self._path, error) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let another daemon take the lock; nothing happens when it is not held. The file then names nobody."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "DirectoryLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(descriptor: int) -> str:
    """` with pid N`, or nothing while the other daemon has locked the file but not yet written to it."""
    pid = os.pread(descriptor, 20, 0).strip()
    return f" with pid {int(pid)}" if pid.isdigit() else ""


def _unusable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the lock {path} cannot be used: {error.strerror}",
        "check that the directory exists, is writable, and is on a local file system",
    )
