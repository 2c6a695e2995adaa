"""What a pack holds, and where in it: the small file beside each pack, so that no pack is read to know what there is.

The index is never needed to have the data back: it is made anew from the pack when it is lost or damaged. `shelf` reads
the indexes of all packs, and `packs` writes one for each.

    payload   <32sQI: name of the pack, its size, number of blocks;
              <QII for each block: where it begins, its bytes, its chunks;
              32 bytes for each chunk: its address, in the order in which the chunks lie
"""

import functools
import struct
from dataclasses import dataclass, field
from itertools import accumulate

from perdure.adapters.state import seal
from perdure.adapters.state.seal import DIGEST_BYTES, Seal

_HEAD = struct.Struct("<32sQI")
_BLOCK = struct.Struct("<QII")
_DIGEST = struct.Struct(f"{DIGEST_BYTES}s")


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a pack that is compressed as a whole."""

    offset: int
    """From the beginning of the pack."""
    stored: int
    """Bytes in the pack."""
    count: int
    """Chunks in it."""


@dataclass(frozen=True)
class Index:
    """The content of one pack. `name` is the SHA-256 of the pack, in hexadecimal."""

    name: str
    size: int
    blocks: tuple[Block, ...]
    digests: bytes = field(repr=False)
    """The addresses of all chunks, joined."""

    @functools.cached_property
    def _firsts(self) -> tuple[int, ...]:
        """How many chunks lie before each block, and in all."""
        return tuple(accumulate((one.count for one in self.blocks), initial=0))

    @property
    def pack_name(self) -> str:
        """The name of the pack's file."""
        return f"{self.name}.pack"

    @property
    def index_name(self) -> str:
        """The name of the file of this index."""
        return f"{self.name}.index"

    def digests_of(self, number: int) -> tuple[bytes, ...]:
        """The addresses of the chunks in a block."""
        first, end = self._firsts[number], self._firsts[number + 1]
        return split(memoryview(self.digests)[first * DIGEST_BYTES : end * DIGEST_BYTES])

    def encode(self, sealed: Seal) -> bytes:
        """The bytes of its file."""
        parts = [_HEAD.pack(bytes.fromhex(self.name), self.size, len(self.blocks))]
        parts += [_BLOCK.pack(one.offset, one.stored, one.count) for one in self.blocks]
        return sealed.wrap(seal.INDEX, b"".join([*parts, self.digests]))


def decode(data: bytes, sealed: Seal) -> Index:
    """The index that was written; ValueError says what is wrong with the file."""
    payload = sealed.unwrap(seal.INDEX, data)
    name, size, count = _HEAD.unpack_from(payload)
    end = _HEAD.size + count * _BLOCK.size
    blocks = tuple(Block(*one) for one in _BLOCK.iter_unpack(payload[_HEAD.size : end]))
    index = Index(name.hex(), size, blocks, payload[end:])
    if len(index.digests) != DIGEST_BYTES * sum(block.count for block in blocks):
        raise ValueError("it does not have as many addresses as chunks")
    return index


def split(joined: bytes | memoryview) -> tuple[bytes, ...]:
    """The addresses in a joined list of them."""
    return tuple(one for (one,) in _DIGEST.iter_unpack(joined))
