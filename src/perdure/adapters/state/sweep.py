"""Packs that nobody needs any more are deleted, and those of which little is needed are rewritten.

A pack is deleted when no content list names one of its chunks. Where less than a third is still needed, that third goes
into a new pack together with that of others; so do small packs once there are many, or a database of which one page a
minute changes would end with a pack for each page. The new packs are in place and flushed before the old ones go, so a
crash leaves chunks twice, never not at all. Neighbours: `vault` calls it after a removal, and after a crash.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perdure.adapters.state import disk, packs
from perdure.adapters.state.intake import Rooms
from perdure.adapters.state.packs import Pack, PackWriter
from perdure.adapters.state.seal import Seal
from perdure.adapters.state.shelf import Place, Shelf, Shelved
from perdure.model.errors import CorruptionError, UnavailableError

THIN = 1 / 3
"""Rewriting costs a read and a write of what is needed, and frees at least twice as much."""
SMALL_BYTES = packs.PACK_BYTES // 4
SMALL_MAX = 32


@dataclass(frozen=True, slots=True)
class Broom:
    """What is swept: a store, and its packs as they were found."""

    rooms: Rooms
    seal: Seal
    shelf: Shelf


def unneeded(broom: Broom, needed: set[bytes]) -> int:
    """Delete the packs without a needed chunk; the bytes freed. The caller has the writer's lock."""
    places = broom.shelf.places(needed)
    used = {place.pack.index.name for place in places.values()}
    gone = [one.pack.index.name for one in broom.shelf.packs if one.pack.index.name not in used]
    if len(places) == len(needed):
        gone += broom.shelf.unreadable
    return _delete(broom.rooms, gone)


def thin(broom: Broom, needed: set[bytes]) -> int:
    """Rewrite the packs of which little is needed, and many small ones into one; the bytes freed. Without room, or when
    one of them turns out to be damaged, it stays as it is: nothing depends on the rewriting."""
    places = broom.shelf.places(needed)
    chosen = _chosen(broom.shelf.packs, Counter(place.pack.index.name for place in places.values()))
    if not chosen:
        return 0
    writer = PackWriter(broom.rooms.incoming, broom.seal)
    try:
        copied = [pack.index.name for pack in chosen if _copy(pack, places, writer)]
        with disk.writing(broom.rooms.packs, lambda: writer.size_bytes + writer.pending_bytes):
            writer.finish()
            for one in writer.written:
                disk.move(one.pack, broom.rooms.packs)
                disk.move(one.index_file, broom.rooms.packs)
            disk.sync_directory(broom.rooms.packs)
    except UnavailableError:
        return 0
    finally:
        writer.close()
        broom.rooms.empty_incoming()
    # One that was copied alone and whole has the same name again.
    written = {one.index.name for one in writer.written}
    freed = _delete(broom.rooms, [name for name in copied if name not in written])
    return max(0, freed - writer.size_bytes)


def _chosen(shelved: Iterable[Shelved], needed: Mapping[str, int]) -> list[Pack]:
    sound = [one.pack for one in shelved if one.sound and needed.get(one.pack.index.name)]
    small = [pack for pack in sound if pack.index.size < SMALL_BYTES]
    merged = small if len(small) > SMALL_MAX else []
    return [
        pack
        for pack in sound
        if needed[pack.index.name] < THIN * sum(block.count for block in pack.index.blocks) or pack in merged
    ]


def _copy(pack: Pack, places: Mapping[bytes, Place], writer: PackWriter) -> bool:
    """Put the chunks for which this pack is the place into another one; whether all could be read."""
    for number in range(len(pack.index.blocks)):
        mine = [one for one in pack.index.digests_of(number) if (place := places.get(one)) and place.pack is pack]
        if not mine:
            continue
        try:
            chunks = pack.block(number)
        except (CorruptionError, FileNotFoundError):
            return False
        for digest in dict.fromkeys(mine):
            with disk.writing(pack.path.parent, lambda: writer.size_bytes + writer.pending_bytes):
                writer.add(digest, chunks[digest])
    return True


def _delete(rooms: Rooms, names: Iterable[str]) -> int:
    """Packs first: an index without its pack is told from a pack that has lost its index, and costs nothing."""
    freed = 0
    with disk.writing(rooms.packs, lambda: 0):
        for name in names:
            freed += disk.remove(rooms.packs / f"{name}.pack")
            freed += disk.remove(rooms.packs / f"{name}.index")
        if freed:
            disk.sync_directory(rooms.packs)
    return freed
