"""Reads the files of a release until nothing changes any more: then they are the ones of one moment.

The directory is walked, what is new is read, and it is walked again; what looks different from what was read (inode,
size, times), is read again. When a walk finds nothing different, everything read belongs together. A program that is
being written to the directory meanwhile is so waited for, for some rounds; what never holds still, such as a log among
the files, is an error that names it. Neighbours: `selecting` walks, `objects` keeps the contents, `files` calls it.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from perdure.adapters.bundle import failures, links, manifest, selecting
from perdure.adapters.bundle.objects import PIECE_BYTES, Intake
from perdure.adapters.bundle.rooms import Rooms
from perdure.adapters.bundle.selecting import Found, Look
from perdure.model.bundle import DIRECTORY_MODE, Entry, EntryKind
from perdure.model.deploy import Files
from perdure.model.errors import ConfigError

ROUNDS_MAX = 5
"""The first one reads everything, the last one must find that all of it is still the same."""
PERMISSIONS = 0o777
OWNER_READS = 0o400
_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL))
"""No such file, or no directory above it, or a link, a socket, or no link any more."""

Have = dict[str, tuple[Look, Entry]]
"""What was read: how it looked, and what it is."""


def pack(rooms: Rooms, files: Files) -> str:
    """Keep the files, and return the digest of their list. Errors are those of the port, and OSError for what is below
    `rooms`."""
    root = Path(files.source).resolve()
    if not root.is_dir():
        raise ConfigError(f"there is no directory {files.source}", "correct `directory`, or make it")
    with rooms.aside() as aside:
        intake = Intake(rooms, aside)
        entries = _entries(root, files, rooms.home, intake)
        links.check(root, entries)
        intake.commit({entry.digest for entry in entries.values() if entry.digest})
        return manifest.write(rooms, aside, list(entries.values()))


def _entries(root: Path, files: Files, home: Path, intake: Intake) -> dict[str, Entry]:
    have: Have = {}
    for last in (False,) * (ROUNDS_MAX - 1) + (True,):
        found = selecting.select(root, files, home)
        different = [one for one in found.values() if not _is_same(one, have)]
        if not different:
            return {path: _known(one, have) for path, one in found.items()}
        if last:
            raise failures.restless(root / different[0].path)
        for one in different:
            have.pop(one.path, None)
            read = _file(root / one.path, one, intake) if one.kind is EntryKind.FILE else _link(root / one.path, one)
            if read is not None:
                have[one.path] = read
    raise AssertionError("the last round returns or raises")


def _is_same(one: Found, have: Have) -> bool:
    if one.kind is EntryKind.DIRECTORY:
        return True
    known = have.get(one.path)
    return known is not None and known[0] == one.look and known[1].kind is one.kind


def _known(one: Found, have: Have) -> Entry:
    if one.kind is EntryKind.DIRECTORY:
        return Entry(one.path, EntryKind.DIRECTORY, DIRECTORY_MODE)
    return have[one.path][1]


def _file(path: Path, one: Found, intake: Intake) -> tuple[Look, Entry] | None:
    """Read a file; None when it is gone, or does not hold still. It looked as is returned before it was read: when the
    next walk finds that it still does, this is its content."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _raise_unless_gone(path, error)
        return None
    try:
        before = os.fstat(descriptor)
        digest = intake.add(lambda: _pieces(path, descriptor)) if stat.S_ISREG(before.st_mode) else None
        if digest is None:
            return None
        mode = before.st_mode & PERMISSIONS | OWNER_READS
        return selecting.look(before), Entry(one.path, EntryKind.FILE, mode, before.st_size, digest)
    finally:
        os.close(descriptor)


def _link(path: Path, one: Found) -> tuple[Look, Entry] | None:
    try:
        target = os.fspath(path.readlink())
    except OSError as error:
        _raise_unless_gone(path, error)
        return None
    return one.look, Entry(one.path, EntryKind.LINK, target=target)


def _raise_unless_gone(path: Path, error: OSError) -> None:
    """What is not there any more, or something else by now, is looked for in the next round."""
    if error.errno not in _GONE:
        raise failures.unreadable(path, error) from error


def _pieces(path: Path, descriptor: int) -> Iterator[bytes]:
    """The bytes of a file, from its beginning."""
    offset = 0
    while True:
        try:
            piece = os.pread(descriptor, PIECE_BYTES, offset)
        except OSError as error:
            raise failures.unreadable(path, error) from error
        if not piece:
            return
        offset += len(piece)
        yield piece
