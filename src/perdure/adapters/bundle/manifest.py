"""Lists: one file for each set of files that was packed, named by the SHA-256 of all its bytes.

    JSON, one line: an array for each entry, [path, kind, mode, size, digest, target], sorted by path

The same files give the same bytes, so the name says whether two releases differ, and whether the list is damaged. Bytes
of a path that are no UTF-8 are in it as Python has them (PEP 383), escaped. A list is written after all that it names:
what was packed counts from then on. Neighbours: `packing` writes it, `laying` and `retaining` read it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path

from perdure.adapters.bundle import failures
from perdure.adapters.bundle.rooms import Rooms
from perdure.adapters.state import disk, filesystem
from perdure.model.bundle import Entry, EntryKind


def encode(entries: Iterable[Entry]) -> bytes:
    """The bytes of a list."""
    rows = [list(astuple(entry)) for entry in sorted(entries, key=lambda entry: entry.path)]
    return json.dumps(rows, separators=(",", ":")).encode("ascii") + b"\n"


def decode(data: bytes) -> list[Entry]:
    """The reverse."""
    return [
        Entry(path, EntryKind(kind), mode, size, digest, target)
        for path, kind, mode, size, digest, target in json.loads(data)
    ]


def write(rooms: Rooms, aside: Path, entries: Sequence[Entry]) -> str:
    """Keep a list, durably, and return its digest; `aside` is a directory for what is not finished."""
    data = encode(entries)
    digest = hashlib.sha256(data).hexdigest()
    if not _is_kept(rooms.manifests / digest, data):
        new = aside / "manifest"
        disk.write_new(new, data)
        new.rename(rooms.manifests / digest)
    filesystem.sync(rooms.manifests)
    return digest


def read(rooms: Rooms, digest: str) -> list[Entry]:
    """The list with this digest; CorruptionError when it is damaged, or not there."""
    path = rooms.manifests / digest
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise failures.missing(path) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise failures.damaged(path, "its digest is not its name")
    return decode(data)


def _is_kept(path: Path, data: bytes) -> bool:
    """One that is there, and damaged, is written anew."""
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False
