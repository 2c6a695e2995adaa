"""The content list of a snapshot: its entries, and of each file the addresses of its chunks, in order.

    payload   <I: bytes of the first part; JSON: an array for each entry,
                  [path, kind, mode, uid, gid, mtime_ns, size, target, chunk_bytes, chunks];
              then 32 bytes for each chunk of each entry, in the order of the entries

Its address is its name and the digest of the snapshot, so that two snapshots of the same state share one list. It does
not say where a chunk lies: packs may be rewritten, lists never are. Neighbours: `intake` writes it, `content` reads it.
"""

import json
import struct
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from perdure.adapters.state import disk, seal
from perdure.adapters.state.index import split
from perdure.adapters.state.seal import DIGEST_BYTES, Seal

_HEAD = struct.Struct("<I")


class EntryKind(StrEnum):
    """What an entry is in a directory."""

    FILE = "file"
    """Also a database, or a stream of bytes."""
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True)
class Entry:
    """One file, directory or link of the state, and what it takes to make it again."""

    path: str
    """Relative, with `/`; empty for the single database or stream."""
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    """Bytes of the content; what was read counts, not what was said before."""
    target: str = ""
    """Of a link."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry with its chunks. All have `chunk_bytes`, the last may have fewer."""

    entry: Entry
    chunk_bytes: int = 0
    digests: bytes = field(default=b"", repr=False)
    """Their addresses, joined."""

    def addresses(self) -> tuple[bytes, ...]:
        """The address of each chunk."""
        return split(self.digests)


def encode(listed: list[Listed]) -> bytes:
    """The payload of the list."""
    rows = [
        [*astuple(one.entry), one.chunk_bytes, len(one.digests) // DIGEST_BYTES]
        for one in listed
    ]  # fmt: skip
    head = json.dumps(rows, separators=(",", ":")).encode()
    return b"".join([_HEAD.pack(len(head)), head, *(one.digests for one in listed)])


def decode(payload: bytes) -> list[Listed]:
    """The reverse; ValueError when it is no list, or names a path outside of the directory it will be restored to."""
    (head_bytes,) = _HEAD.unpack_from(payload)
    offset = _HEAD.size + head_bytes
    head = payload[_HEAD.size : offset]
    listed = []
    for path, kind, mode, uid, gid, mtime_ns, size, target, chunk_bytes, count in json.loads(head):
        if not inside(path):
            raise ValueError(f"it names a path that is not inside of a directory: {path!r}")
        end = offset + count * DIGEST_BYTES
        entry = Entry(path, EntryKind(kind), mode, uid, gid, mtime_ns, size, target)
        listed.append(Listed(entry, chunk_bytes, payload[offset:end]))
        offset = end
    if offset != len(payload):
        raise ValueError("it has more addresses than chunks")
    return listed


def inside(path: str) -> bool:
    """Whether a path stays in the directory to which it is relative."""
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\0" not in path


def read(path: Path, sealed: Seal) -> list[Listed]:
    """The list in a file; CorruptionError when it is damaged, or has another name than its address."""
    try:
        payload = sealed.unwrap(seal.LIST, disk.read(path))
        if sealed.address(payload).hex() != path.stem:
            raise ValueError("its content has another address than its name")
        return decode(payload)
    except ValueError as error:
        raise disk.damaged(path, str(error)) from None
