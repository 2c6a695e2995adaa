"""The daemon's hand on the file of one service: opened once, and overwritten in place at each renewal.

`client` keeps one for each service; what is in the file is told in `record`.
"""

import os
from pathlib import Path

from perdure.adapters.fence import record
from perdure.model.errors import UnavailableError


class Statement:
    """An open file; `last` is what it states, None: nothing. All raise UnavailableError."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise _unavailable(path, error) from error
        try:
            self.last = self._prepare()
        except OSError as error:
            os.close(self._descriptor)
            raise _unavailable(path, error) from error

    def _prepare(self) -> record.Held | None:
        content = os.pread(self._descriptor, record.FILE_BYTES, 0)
        if len(content) < record.FILE_BYTES:
            # All the room that it will ever need, so that a disk that is full later refuses no renewal.
            rest = record.BLANK * (record.FILE_BYTES // record.RECORD_BYTES)
            os.pwrite(self._descriptor, rest[len(content) :], len(content))
            content += rest[len(content) :]
        return record.newest(content, self._boot)

    @property
    def deleted(self) -> bool:
        """Whether somebody removed the file: what is written to it reaches nobody."""
        return os.fstat(self._descriptor).st_nlink == 0

    def write(self, held: record.Held) -> None:
        """State this from now on. The one before stays in the file, and counts if this one is damaged."""
        before = self.last
        held.sequence = _sequence(before)
        try:
            if held.pid and before is not None and before.name != held.name:
                self._clear_acts()
            os.pwrite(self._descriptor, held.encode(self._boot), held.offset)
        except OSError as error:
            raise _unavailable(self._path, error) from error
        self.last = held

    def _clear_acts(self) -> None:
        """What was done to one process must not be taken for what was done to the next."""
        for offset in record.ACTED_AT.values():
            os.pwrite(self._descriptor, record.BLANK, offset)

    def close(self) -> None:
        """Close the file; what it states holds on."""
        os.close(self._descriptor)


def _sequence(before: record.Held | None) -> int:
    """A number above all before it, also those in a file of this name that is gone; of the other parity than the last
    one, since that is whose place it must not take."""
    at_least = int(record.now() * 1e6)
    if before is None:
        return at_least
    at_least = max(at_least, before.sequence + 1)
    return at_least + (at_least - before.sequence + 1) % 2


def _unavailable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the deadline in {path} cannot be written: {error.strerror}",
        "make room on that disk, and check its permissions",
    )
