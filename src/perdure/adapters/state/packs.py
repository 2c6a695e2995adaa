"""Packs: files of some megabytes that hold chunks, several of them compressed together in a block. They never change.

    pack    header, then blocks; its name is the SHA-256 of all its bytes
    block   <III: bytes that follow, bytes of the plain block, chunks in it; then the block, compressed, then encrypted
    plain   <I for each chunk: its length; then the chunks, one after the other

A pack can be read without anything else: whoever decompresses the blocks and hashes the chunks has them by their
addresses. The index beside it saves just that (`index`). Chunks of 4 KiB lie in blocks of 64, since one alone would
compress badly; a block is what must be read to have one of its chunks. Every chunk is hashed when its block is read,
so that no byte is handed out that was not checked. Neighbours: `intake` and `sweep` write packs, `content` reads them.
"""

import hashlib
import os
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import zstandard

from perdure.adapters.state import disk, seal
from perdure.adapters.state.index import Block, Index
from perdure.adapters.state.seal import Cipher, Readable, Seal

BLOCK_BYTES = 256 * 1024
PACK_BYTES = 8 * 1024 * 1024
CHUNK_BYTES_MAX = 4 * 1024 * 1024
_HEAD = struct.Struct("<III")
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Written:
    """A finished pack and its index, still where they were made."""

    index: Index
    pack: Path
    index_file: Path
    size_bytes: int
    """Of both."""


class PackWriter:
    """Puts chunks into packs in a directory in which nobody looks for them yet. What must not be kept is deleted by
    the owner of the directory."""

    def __init__(self, directory: Path, sealed: Seal) -> None:
        self._directory = directory
        self._seal = sealed
        self._zstd = zstandard.ZstdCompressor(level=seal.LEVEL)
        self._plain = bytearray()
        self._lengths = array("I")
        self._digests: list[bytes] = []
        self._pack: _OpenPack | None = None
        self.written: list[Written] = []

    @property
    def pending_bytes(self) -> int:
        """Of chunks that are in no block yet."""
        return len(self._plain)

    @property
    def size_bytes(self) -> int:
        """What was written so far."""
        return sum(one.size_bytes for one in self.written) + (self._pack.size if self._pack is not None else 0)

    def add(self, digest: bytes, chunk: Readable) -> None:
        """Take a chunk; it is copied."""
        self._plain += chunk
        self._lengths.append(len(chunk))
        self._digests.append(digest)
        if len(self._plain) >= BLOCK_BYTES:
            self._end_block()

    def finish(self) -> None:
        """Write what is still pending, and flush the last pack."""
        if self._digests:
            self._end_block()
        if self._pack is not None:
            self._end_pack(self._pack)

    def close(self) -> None:
        """Let go of an unfinished pack."""
        if self._pack is not None:
            os.close(self._pack.descriptor)
            self._pack = None

    def _end_block(self) -> None:
        if self._pack is None:
            self._pack = _OpenPack(self._directory / f"{len(self.written)}.part", self._seal.new_cipher(seal.PACK))
            self._pack.write(self._pack.cipher.header)
        plain = _little_endian(self._lengths) + self._plain
        self._pack.append(self._zstd.compress(plain), len(plain), self._digests)
        self._plain.clear()
        self._lengths = array("I")
        self._digests = []
        if self._pack.size >= PACK_BYTES:
            self._end_pack(self._pack)

    def _end_pack(self, pack: "_OpenPack") -> None:
        os.fsync(pack.descriptor)
        self.close()
        index = Index(pack.sha256.hexdigest(), pack.size, tuple(pack.blocks), b"".join(pack.digests))
        path = self._directory / index.pack_name
        pack.path.replace(path)
        encoded = index.encode(self._seal)
        index_file = self._directory / index.index_name
        disk.write_new(index_file, encoded)
        self.written.append(Written(index, path, index_file, pack.size + len(encoded)))


class _OpenPack:
    """A pack that is being written."""

    def __init__(self, path: Path, cipher: Cipher) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.cipher = cipher
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.blocks: list[Block] = []
        self.digests: list[bytes] = []

    def append(self, compressed: bytes, plain_bytes: int, digests: list[bytes]) -> None:
        number = len(self.blocks)
        size = len(compressed) + (self.cipher.overhead_bytes)
        head = _HEAD.pack(size, plain_bytes, len(digests))
        stored = self.cipher.encrypt(number, compressed, head)
        assert len(stored) == size
        self.blocks.append(Block(self.size, size + _HEAD.size, len(digests)))
        self.digests += digests
        self.write(head + stored)

    def write(self, data: bytes) -> None:
        disk.write_all(self.descriptor, data)
        self.sha256.update(data)
        self.size += len(data)


class Pack:
    """A pack to be read: a file, or a part of one that begins at `start`."""

    def __init__(self, path: Path, index: Index, sealed: Seal, start: int = 0) -> None:
        self.path = path
        self.index = index
        self._seal = sealed
        self._start = start
        self._cipher: Cipher | None = None

    def check(self) -> None:
        """Read all of it; CorruptionError when one bit differs. FileNotFoundError when it is not there."""
        sha256 = hashlib.sha256()
        end = self._start + self.index.size
        for offset in range(self._start, end, _READ_BYTES):
            sha256.update(disk.read_at(self.path, offset, min(_READ_BYTES, end - offset)))
        if sha256.hexdigest() != self.index.name:
            raise disk.damaged(self.path, "its digest is not its name")

    def block(self, number: int) -> Mapping[bytes, memoryview]:
        """The chunks of a block by their addresses, each of them checked; CorruptionError, FileNotFoundError."""
        block = self.index.blocks[number]
        data = disk.read_at(self.path, self._start + block.offset, block.stored)
        try:
            chunks = _chunks(data, number, self._cipher or self._opened())
            digests = self.index.digests_of(number)
            if self._seal.addresses(chunks) != list(digests):
                raise ValueError(f"block {number} holds other bytes than were written")
        except ValueError as error:
            raise disk.damaged(self.path, str(error)) from None
        return dict(zip(digests, chunks, strict=True))

    def _opened(self) -> Cipher:
        self._cipher = self._seal.cipher(seal.PACK, disk.read_at(self.path, self._start, seal.HEADER_BYTES))
        return self._cipher


def scan(path: Path, sealed: Seal, name: str, start: int = 0, size: int | None = None) -> Index:
    """The index of a pack, made from the pack alone; CorruptionError when it is not whole."""
    if size is None:
        size = path.stat().st_size
    pack = Pack(path, Index(name, size, (), b""), sealed, start)
    pack.check()
    blocks: list[Block] = []
    digests: list[bytes] = []
    try:
        cipher = sealed.cipher(seal.PACK, disk.read_at(path, start, seal.HEADER_BYTES))
        for block, data in _stored_blocks(path, start, size):
            digests += sealed.addresses(_chunks(data, len(blocks), cipher))
            blocks.append(block)
    except ValueError as error:
        raise disk.damaged(path, str(error)) from None
    return Index(name, size, tuple(blocks), b"".join(digests))


def _stored_blocks(path: Path, start: int, size: int) -> Iterator[tuple[Block, bytes]]:
    offset = seal.HEADER_BYTES
    while offset < size:
        head = disk.read_at(path, start + offset, _HEAD.size)
        if len(head) < _HEAD.size:
            raise ValueError("it ends within a block")
        stored, _, count = _HEAD.unpack(head)
        block = Block(offset, _HEAD.size + stored, count)
        yield block, disk.read_at(path, start + offset, block.stored)
        offset += block.stored


def _chunks(data: bytes, number: int, cipher: Cipher) -> list[memoryview]:
    """The chunks of a stored block; ValueError when it is not one."""
    if len(data) < _HEAD.size:
        raise ValueError("it is cut off")
    stored, plain_bytes, count = _HEAD.unpack(data[: _HEAD.size])
    if len(data) != _HEAD.size + stored:
        raise ValueError(f"it is cut off in block {number}")
    compressed = cipher.decrypt(number, memoryview(data)[_HEAD.size :], data[: _HEAD.size])
    plain = memoryview(seal.decompressed(compressed))
    lengths = struct.unpack_from(f"<{count}I", plain) if len(plain) >= 4 * count else ()
    ends = list(accumulate(lengths, initial=4 * count))
    if len(plain) != plain_bytes or ends[-1] != plain_bytes:
        raise ValueError(f"the lengths in block {number} do not match")
    return [plain[begin:end] for begin, end in pairwise(ends)]


def _little_endian(lengths: "array[int]") -> bytes:
    return struct.pack(f"<{len(lengths)}I", *lengths)
