"""What SQLite's and the system's errors mean for the user: try later, or stop and restore.

Everything that leaves `adapters.store` is an error of `model.errors`; this module holds the one table that decides
which. What is in no row is a bug (a violated constraint, a misused connection) and passes unchanged.
"""

from pathlib import Path

import apsw

from perdure.model.errors import CorruptionError, PerdureError, UnavailableError

_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError)
"""SQLError counts: the statements are constant, so what they miss (a table, a column) is missing in the file."""

_LOCKED = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)
_UNUSABLE = (apsw.CantOpenError, apsw.PermissionsError, apsw.ReadOnlyError, apsw.IOError, apsw.InterruptError)

_DAMAGED_READS = frozenset(
    (apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA),
)
"""Extended codes of IOError that say that bytes are missing or wrong, not that the disk refuses."""


def translated(error: apsw.Error | OSError, path: Path) -> PerdureError | None:
    """The operating error that `error` amounts to for the store at `path`; None when it is a bug."""
    if isinstance(error, OSError):
        return unusable(path, error.strerror or str(error))
    if isinstance(error, _DAMAGED) or (isinstance(error, apsw.IOError) and _code(error) in _DAMAGED_READS):
        return damaged(path, str(error))
    if isinstance(error, _LOCKED):
        return UnavailableError(
            f"the store {path} is locked by another process",
            f"end the program that has it open (`fuser {path}` names it), then try again",
        )
    if isinstance(error, apsw.FullError):
        return UnavailableError(
            f"the store {path} cannot grow: the disk is full",
            "free some space; nothing else needs to be done",
        )
    if isinstance(error, _UNUSABLE):
        return unusable(path, _reason(error))
    return None


def damaged(path: Path, reason: str) -> CorruptionError:
    """The file itself is wrong: nothing was changed, and a person must decide."""
    return CorruptionError(
        f"the store {path} is damaged: {reason}",
        f"what runs goes on meanwhile; put a backup in its place, or move {path.name}* away to start with an empty"
        " store, which restarts all replicas at once",
    )


def unusable(path: Path, reason: str) -> UnavailableError:
    """The file may be fine, but the system does not let it be used."""
    return UnavailableError(
        f"the store {path} cannot be used: {reason}",
        "check that the directory exists, is writable, and that its disk works",
    )


def _reason(error: apsw.Error) -> str:
    name = apsw.mapping_extended_result_codes.get(_code(error))
    return f"{error} ({name})" if name else str(error)


def _code(error: apsw.Error) -> int:
    """SQLite's extended result code, which the type stubs of apsw do not know."""
    return int(getattr(error, "extendedresult", apsw.SQLITE_ERROR))
