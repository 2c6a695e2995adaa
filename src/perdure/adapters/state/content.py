"""The content of one snapshot, to be read: every byte is checked before it is handed out.

Chunks lie in blocks, and a block is read, decompressed and hashed as a whole. The chunks of one database come from few
packs, each of which holds them in the order of the database, so that some dozen blocks in memory are enough to read
each block once. `read` also checks each pack as a whole that it needs, once, so that a restore finds any damage in it;
`changed` reads only what differs. Packs may be rewritten meanwhile: who finds one gone looks once more where its chunks
lie now. Neighbours: `vault` opens it, `shelf` knows the places.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perdure.adapters.state import disk
from perdure.adapters.state.listing import Entry, Listed
from perdure.adapters.state.packs import Pack
from perdure.adapters.state.shelf import Place
from perdure.model.errors import CorruptionError
from perdure.model.snapshot import Manifest

PIECE_BYTES = 1024 * 1024
"""What `read` hands out at a time."""
CACHE_BYTES = 48 * 1024 * 1024
"""Of blocks: 192 when chunks are small."""
LOOKS = 4
"""At the place of a chunk, each time that its pack was rewritten meanwhile."""

Places = Mapping[bytes, Place]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the chunks are found. `places` is asked again when a pack is gone; `condemn` is told of a
    pack with damage in it."""

    places: Callable[[], Places]
    condemn: Callable[[str], None]


class Content:
    """See `Vault.open`. `entries` are in the order in which they were added."""

    def __init__(self, manifest: Manifest, listed: Sequence[Listed], sources: Sources) -> None:
        self.manifest = manifest
        self.entries: Sequence[Entry] = [one.entry for one in listed]
        self._listed = {one.entry.path: one for one in listed}
        self._sources = sources
        self._places = sources.places()
        self._blocks: OrderedDict[tuple[str, int], Mapping[bytes, memoryview]] = OrderedDict()
        self._blocks_bytes = 0
        self._current: Mapping[bytes, memoryview] = {}
        self._checked: set[str] = set()

    def chunk_bytes(self, path: str) -> int:
        """Into how large chunks the file was cut."""
        return self._listed[path].chunk_bytes

    def read(self, path: str) -> Iterator[bytes]:
        """The bytes of a file, in order, in pieces of about 1 MiB. CorruptionError names the damaged file."""
        listed = self._listed[path]
        addresses = listed.addresses()
        at_a_time = _at_a_time(listed)
        for begin in range(0, len(addresses), at_a_time):
            yield self._joined(addresses[begin : begin + at_a_time], whole_packs=True)

    def changed(self, path: str, since: "Content") -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of all that differs from the file of that path in another snapshot: what must be written
        over it after it was cut to the size of this one. All of it when the other one has no such file."""
        listed = self._listed[path]
        addresses = listed.addresses()
        other = since._listed.get(path)
        before: Sequence[bytes] = ()
        if other is not None and other.chunk_bytes == listed.chunk_bytes:
            before = other.addresses()
        for begin, end in _differing(addresses, before, _at_a_time(listed)):
            yield begin * listed.chunk_bytes, self._joined(addresses[begin:end], whole_packs=False)

    def distinct(self) -> Iterator[tuple[bytes, memoryview]]:
        """Each chunk once, with its address, in the order in which they are first needed."""
        seen: set[bytes] = set()
        for listed in self._listed.values():
            for address in listed.addresses():
                if address not in seen:
                    seen.add(address)
                    yield address, self._block_of(address, whole_packs=True)[address]

    def _joined(self, addresses: Sequence[bytes], whole_packs: bool) -> bytes:
        chunks = []
        current = self._current
        for address in addresses:
            chunk = current.get(address)
            if chunk is None:
                current = self._block_of(address, whole_packs)
                chunk = current[address]
            chunks.append(chunk)
        self._current = current
        return b"".join(chunks)

    def _block_of(self, address: bytes, whole_packs: bool) -> Mapping[bytes, memoryview]:
        """The block that holds a chunk, checked."""
        for _ in range(LOOKS):
            place = self._places[address]
            name = (place.pack.index.name, place.block)
            found = self._blocks.get(name)
            if found is not None:
                self._blocks.move_to_end(name)
                return found
            try:
                found = self._read(place, whole_packs)
                break
            except FileNotFoundError:
                self._places = self._sources.places()
        else:
            raise disk.missing(place.pack.path)
        self._blocks[name] = found
        self._blocks_bytes += _size(found)
        while self._blocks_bytes > CACHE_BYTES and len(self._blocks) > 1:
            self._blocks_bytes -= _size(self._blocks.popitem(last=False)[1])
        return found

    def _read(self, place: Place, whole_pack: bool) -> Mapping[bytes, memoryview]:
        pack: Pack = place.pack
        try:
            if whole_pack and pack.index.name not in self._checked:
                pack.check()
                self._checked.add(pack.index.name)
            return pack.block(place.block)
        except CorruptionError:
            self._sources.condemn(pack.index.name)
            raise


def _size(block: Mapping[bytes, memoryview]) -> int:
    return sum(map(len, block.values()))


def _at_a_time(listed: Listed) -> int:
    return max(1, PIECE_BYTES // max(1, listed.chunk_bytes))


def _differing(now: Sequence[bytes], before: Sequence[bytes], length_max: int) -> Iterator[tuple[int, int]]:
    """Where two lists differ: begin and end of each stretch, at most so long."""
    shared = min(len(now), len(before))
    begin: int | None = None
    for number in range(len(now)):
        same = number < shared and now[number] == before[number]
        if begin is not None and (same or number - begin >= length_max):
            yield begin, number
            begin = None
        if not same and begin is None:
            begin = number
    if begin is not None:
        yield begin, len(now)
