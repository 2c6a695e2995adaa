"""All packs of a store: which chunks there are, and in which block of which pack each one lies.

Only the indexes are read, and take about 100 bytes of memory for each chunk: 25 MB for each GB in chunks of 4 KiB. A
pack that is missing, cut off, or known to be damaged is not counted on: the next snapshot stores its chunks again, and
so also heals the earlier ones, which find them there. Neighbours: `vault` opens it, `intake` asks what is known,
`content` where it lies, `sweep` what is still needed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.state import disk, index, packs
from perdure.adapters.state.index import Index
from perdure.adapters.state.packs import Pack
from perdure.adapters.state.seal import Seal
from perdure.model.errors import CorruptionError

LOOKS = 10
"""Others put packs there a few times an hour; this is for tests that do so all the time."""
REBUILT = "the next snapshot makes it anew from its pack; nothing is lost"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies; all chunks of a block share one."""

    pack: Pack
    block: int


@dataclass(frozen=True, slots=True)
class Shelved:
    """A pack of the store. `fault`: why it cannot be counted on; None as far as is known without reading it."""

    pack: Pack
    fault: CorruptionError | None = None
    condemned: bool = False
    """Damage was found in it before; parts of it may be whole."""

    @property
    def sound(self) -> bool:
        """Whether new snapshots may rely on its chunks."""
        return self.fault is None and not self.condemned


@dataclass(frozen=True, slots=True)
class Shelf:
    """The packs, those that are to be preferred last; and what is wrong with files that say nothing at all."""

    packs: Sequence[Shelved]
    unreadable: Mapping[str, CorruptionError]
    """By the name of the pack."""

    def known(self) -> set[bytes]:
        """The chunks that need not be stored again."""
        found: set[bytes] = set()
        for one in self.packs:
            if one.sound:
                found.update(index.split(one.pack.index.digests))
        return found

    def places(self, needed: Collection[bytes]) -> dict[bytes, Place]:
        """Where these chunks lie; those that no pack has are left out."""
        wanted = set(needed)
        found: dict[bytes, Place] = {}
        for one in self.packs:
            for number in range(len(one.pack.index.blocks)):
                here = wanted.intersection(one.pack.index.digests_of(number))
                if here:
                    found.update(dict.fromkeys(here, Place(one.pack, number)))
        return found

    def faults(self) -> dict[str, CorruptionError]:
        """By the name of the pack."""
        return {one.pack.index.name: one.fault for one in self.packs if one.fault is not None}


def load(directory: Path, sealed: Seal, condemned: Collection[str] = (), repair: Path | None = None) -> Shelf:
    """The packs in a directory. `repair`: where lost indexes are made before they are put beside their packs; None for
    those who only read. `condemned`: names of packs in which damage was found."""
    for _ in range(LOOKS):
        names = disk.names(directory)
        found = _loaded(directory, names, sealed, condemned, repair)
        if disk.names(directory) == names:
            break  # Nobody put packs there or took some away meanwhile.
    return found


def check_index(pack: Pack, sealed: Seal) -> None:
    """CorruptionError unless the index beside a pack is whole and says what the pack holds."""
    path = pack.path.with_name(pack.index.index_name)
    try:
        entry = index.decode(disk.read(path), sealed)
    except ValueError as error:
        raise disk.damaged(path, str(error), REBUILT) from None
    except CorruptionError:
        raise disk.missing(path, REBUILT) from None
    if entry != packs.scan(pack.path, sealed, pack.index.name):
        raise disk.damaged(path, "it does not say what its pack holds", f"remove it; {REBUILT}")


def _loaded(
    directory: Path, names: Sequence[str], sealed: Seal, condemned: Collection[str], repair: Path | None
) -> Shelf:
    stems = sorted({name.partition(".")[0] for name in names if name.endswith((".pack", ".index"))})
    found: list[Shelved] = []
    unreadable: dict[str, CorruptionError] = {}
    for stem in stems:
        try:
            entry = _index(directory, stem, sealed, repair)
        except CorruptionError as error:
            unreadable[stem] = error
            continue
        pack = Pack(directory / entry.pack_name, entry, sealed)
        found.append(Shelved(pack, _fault(pack), stem in condemned))
    return Shelf(sorted(found, key=lambda one: one.sound), unreadable)


def _index(directory: Path, stem: str, sealed: Seal, repair: Path | None) -> Index:
    path = directory / f"{stem}.index"
    try:
        entry = index.decode(disk.read(path), sealed)
        if entry.name == stem:
            return entry
    except (CorruptionError, ValueError):
        pass
    try:
        entry = packs.scan(directory / f"{stem}.pack", sealed, stem)
    except FileNotFoundError:
        raise disk.missing(directory / f"{stem}.pack") from None
    if repair is not None:
        with disk.writing(directory, lambda: 2 * len(entry.digests)):
            made = repair / path.name
            disk.write_new(made, entry.encode(sealed))
            disk.move(made, directory)
            disk.sync_directory(directory)
    return entry


def _fault(pack: Pack) -> CorruptionError | None:
    try:
        size = pack.path.stat().st_size
    except FileNotFoundError:
        return disk.missing(pack.path)
    except OSError as error:
        raise disk.unusable(pack.path, error) from error
    if size != pack.index.size:
        return disk.damaged(pack.path, f"it has {size:,} bytes instead of {pack.index.size:,}")
    return None
