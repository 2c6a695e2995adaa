"""The contents of files, each kept once, whichever releases have it: `.objects/SHA256`, read-only, never changed.

A content is written aside, flushed, and renamed, so that what has a name here was whole once. Whether it still is, is
looked at each time that it is used, and also each time that a file with it is packed: the original is at hand then, and
a damaged one is replaced. So packing reads what it keeps twice. That takes a fraction of a second for a program of some
ten megabytes, and there need be no index of files that look unchanged, which could be wrong. Neighbours: `packing`
fills it, `laying` copies out of it, `retaining` removes.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from perdure.adapters.bundle import failures
from perdure.adapters.bundle.rooms import Rooms
from perdure.adapters.state import disk, filesystem

PIECE_BYTES = 1024 * 1024
HELD_BYTES = 4 * PIECE_BYTES
"""What is larger is read a second time to be stored."""
FLUSHED_EACH_MAX = 32
"""Flushing 2,000 small files one by one takes longer than writing them; but the file system is others' too."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ_ONLY = 0o400

Pieces = Callable[[], Iterator[bytes]]
"""Reads a file from its beginning, each time that it is called."""


class Intake:
    """New contents; nobody sees them before `commit`. `aside` is a directory for what is not finished."""

    def __init__(self, rooms: Rooms, aside: Path) -> None:
        self._rooms = rooms
        self._aside = aside
        self._sound: set[str] = set()
        self._new: dict[str, Path] = {}

    def add(self, pieces: Pieces) -> str | None:
        """The digest of a file, whose content is stored if it is not known; None when it is another one now than it was
        a moment ago."""
        sha256 = hashlib.sha256()
        held: list[bytes] = []
        held_bytes = 0
        for piece in pieces():
            sha256.update(piece)
            held_bytes += len(piece)
            if held_bytes <= HELD_BYTES:
                held.append(piece)
            else:
                held.clear()
        digest = sha256.hexdigest()
        if self._knows(digest):
            return digest
        return self._store(digest, held if held_bytes <= HELD_BYTES else pieces())

    def commit(self, needed: Collection[str]) -> None:
        """Keep the new contents among these, durably."""
        new = {digest: path for digest, path in self._new.items() if digest in needed}
        if len(new) > FLUSHED_EACH_MAX:
            filesystem.sync_tree(self._aside)
        else:
            for path in new.values():
                filesystem.sync(path)
        for digest, path in new.items():
            path.rename(self._rooms.objects / digest)
        filesystem.sync(self._rooms.objects)

    def _knows(self, digest: str) -> bool:
        if digest not in self._new and digest not in self._sound and is_sound(self._rooms.objects / digest):
            self._sound.add(digest)
        return digest in self._new or digest in self._sound

    def _store(self, digest: str, pieces: Iterable[bytes]) -> str | None:
        path = self._aside / digest
        sha256 = hashlib.sha256()
        descriptor = os.open(path, _CREATE, READ_ONLY)
        try:
            for piece in pieces:
                sha256.update(piece)
                disk.write_all(descriptor, piece)
        finally:
            os.close(descriptor)
        if sha256.hexdigest() != digest:
            path.unlink()
            return None
        self._new[digest] = path
        return digest


def is_sound(path: Path) -> bool:
    """Whether a content is there, and is what its name says; one that cannot be read is replaced like a damaged one."""
    try:
        return _digest(path) == path.name
    except OSError:
        return False


def read(rooms: Rooms, digest: str) -> bytes:
    """A whole content; CorruptionError when it is damaged, or not there."""
    path = rooms.objects / digest
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise failures.missing(path) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise failures.damaged(path, "its digest is not its name")
    return data


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
