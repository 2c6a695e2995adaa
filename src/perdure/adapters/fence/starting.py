"""Start the supervisor's process, or find the one that runs; `client` asks.

It gets a session of its own, an empty environment and none of the daemon's descriptors, so it lives on when the daemon,
its terminal or its process group does not. One with another version is replaced by taking its lock file away: the new
one makes another, and the old one leaves as soon as it sees that; there is no moment without one.
"""

import fcntl
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

from perdure import __version__
from perdure.adapters.balancer import launch
from perdure.adapters.fence import record
from perdure.adapters.runner import spawn
from perdure.model.errors import UnavailableError
from perdure.model.replica import Process

PROGRAM = str(Path(__file__).with_name("__main__.py"))
LOG = "log"
START_TIMEOUT_S = 2.0
READY = 3
"""The descriptor on which it says that it is ready."""


def make_private(directory: Path) -> None:
    """Make the directory if there is none. Only its owner may use it: who can write to it can have processes killed."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        owner = directory.stat().st_uid
    except OSError as error:
        raise _unavailable(f"its directory {directory}: {error.strerror}", directory) from error
    if owner != os.geteuid():
        raise _unavailable(f"its directory {directory} belongs to another user", directory)


def running(directory: Path) -> Process | None:
    """The supervisor that holds the lock. None when there is none, or one of another version or that cannot be told:
    that one leaves when the next has started."""
    path = directory / record.LOCK
    if not _locked(path):
        return None
    process, version = _holder(path)
    if process is not None and version == __version__:
        return process
    path.unlink(missing_ok=True)
    return None


def _locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unavailable(f"{path}: {error.strerror}", path.parent) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _holder(path: Path) -> tuple[Process | None, str]:
    """Who wrote that it holds the lock, if it still runs, and its version."""
    try:
        pid, ticks, boot, version = path.read_text(encoding="ascii").split()
        process = Process(int(pid), int(ticks))
    except (OSError, ValueError):
        return None, ""
    runs = boot == record.boot_id() and launch.started_ticks(process.pid) == process.started_ticks
    return (process if runs else None), version


def start(directory: Path) -> Process:
    """Start it and wait until it enforces what is held. UnavailableError when it does not within 2 s."""
    launch.bound_log(directory / LOG)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _spawn(directory, writing)
    except OSError as error:
        os.close(reading)
        raise _unavailable(error.strerror or str(error), directory) from error
    finally:
        os.close(writing)
    process = Process(pid, launch.started_ticks(pid) or 0)
    try:
        ready = select.select([reading], [], [], START_TIMEOUT_S)[0] and os.read(reading, 1)
    finally:
        os.close(reading)
    if not ready:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise _unavailable(f"it was not ready within {START_TIMEOUT_S:g} s, or ended", directory)
    return process


def _spawn(directory: Path, ready: int) -> int:
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", PROGRAM, str(directory), str(READY)],
        {name: os.environ[name] for name in spawn.LOADER if name in os.environ},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(directory / LOG), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, ready, READY),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=spawn.DEFAULTED,
    )


def _unavailable(why: str, directory: Path) -> UnavailableError:
    return UnavailableError(
        f"the supervisor cannot be started: {why}", f"read {directory / LOG}, then `perdure doctor`"
    )
