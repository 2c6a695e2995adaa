"""Start one process: compose its launch document and hand it to the `launcher` in a session of its own.

`posix_spawn` returns when the launcher is there, in about a third of a millisecond, whatever the daemon's size;
everything slower or riskier happens in the launcher, where it can neither block nor harm the daemon. `process` is the
caller.
"""

import marshal
import os
import signal
import sys
from pathlib import Path

from perdure.adapters.runner import environment
from perdure.model.errors import ConfigError, UnavailableError
from perdure.ports.runner import Launch

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
DEFAULTED = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""All that the bare interpreter may need of the daemon's environment."""


def boot_id() -> str:
    """The kernel's name for this boot, so that a record of an earlier one is never believed."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def spawn(launch: Launch, record: Path, log: Path) -> int:
    """Start the launcher and return its pid, which is its session's and its group's too. Raises UnavailableError."""
    try:
        document = os.memfd_create("launch", os.MFD_CLOEXEC)
    except OSError as error:
        raise _unavailable(launch, error) from error
    try:
        _write(document, marshal.dumps(_document(launch, record)))
        return _posix_spawn(document, log)
    except OSError as error:
        raise _unavailable(launch, error) from error
    finally:
        os.close(document)


def _posix_spawn(document: int, log: Path) -> int:
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", LAUNCHER],
        {name: os.environ[name] for name in LOADER if name in os.environ},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, document, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=DEFAULTED,
    )


def _document(launch: Launch, record: Path) -> dict[str, object]:
    service = launch.service
    refusal = ""
    identity = None
    try:
        identity = environment.resolve(service.user, service.group)
    except ConfigError as error:
        refusal = f"{error.sentence}: {error.hint}"
    given = {"PORT": str(launch.port), "PERDURE_SLOT": str(launch.slot), "PERDURE_RUN": str(launch.run)}
    variables = environment.compose(identity, given | dict(launch.environment), service.environment)
    return {
        "command": [os.fsencode(item) for item in environment.expand(service.command, variables)],
        "environment": {os.fsencode(name): os.fsencode(value) for name, value in variables.items()},
        "directory": os.fsencode(service.directory),
        "identity": None if identity is None else (identity.uid, identity.gid, identity.groups),
        "refusal": refusal,
        "open_files": service.limits.open_files,
        "record": os.fsencode(record),
        "run": launch.run,
        "port": launch.port,
        "boot_id": boot_id().encode("ascii"),
        "daemon_pid": os.getpid(),
    }


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)


def _unavailable(launch: Launch, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot start {launch.slot}: {error.strerror or error}",
        "look at the limits on processes and open files, and whether the log directory can be written",
    )
