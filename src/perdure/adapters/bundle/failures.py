"""What the system refuses while files of releases are read or written, as errors of `model.errors`.

What cannot be read in the user's own directory is told where it is met; all that is left is about Perdure's own, and
becomes an operating error in one place, `guarded`. Neighbours: all modules of this package.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from perdure.adapters.state.disk import FULL
from perdure.model.errors import CorruptionError, UnavailableError

AGAIN = "`perdure deploy` stores it anew from a directory that still has it; until then use another release"


@contextlib.contextmanager
def guarded(root: Path) -> Iterator[None]:
    """Errors of the system leave it as UnavailableError: no room, or something below `root` cannot be used."""
    try:
        yield
    except OSError as error:
        raise _refused(root, error) from error


def unreadable(path: Path, error: OSError) -> UnavailableError:
    """A file of the user's that belongs to the release, and cannot be read."""
    return UnavailableError(
        f"{path} belongs to the release, and cannot be read: {error.strerror or error}",
        "let Perdure's user read it, or leave it out: `exclude`",
    )


def restless(path: Path) -> UnavailableError:
    """A file of the user's that does not hold still."""
    return UnavailableError(
        f"{path} changes while it is read",
        "end what writes to it and try again; if it is no part of the program, leave it out: `exclude`",
    )


def damaged(path: Path, why: str) -> CorruptionError:
    """Something that is kept is not what was written."""
    return CorruptionError(f"{path} is damaged: {why}", AGAIN)


def missing(path: Path) -> CorruptionError:
    """Something that must be kept is not there."""
    return CorruptionError(f"{path} is missing", AGAIN)


def _refused(root: Path, error: OSError) -> UnavailableError:
    if error.errno in FULL:
        with contextlib.suppress(OSError):
            space = os.statvfs(root)
            return UnavailableError(
                f"no room in {root} for the files of the release: {space.f_bavail * space.f_frsize:,} bytes are free",
                "free some space, or keep fewer releases (`keep`); nothing was changed",
            )
    named = error.filename or root
    return UnavailableError(
        f"the files of releases: cannot use {os.fsdecode(named)}: {error.strerror or error}",
        "check that it exists, that this user may read and write it, and that its disk works (`dmesg` shows errors)",
    )
