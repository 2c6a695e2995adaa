"""Snapshots of simulated state, which is a list of words for each slot. Keeps `ports.keeper.Keeper`.

What is kept and what the slots hold survive the daemon, as files do; each call takes a moment in which the daemon may
die, and then either all of it has happened or nothing.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from perdure.model.errors import ConflictError, CorruptionError, RefusedError, UnavailableError
from perdure.model.snapshot import Kept, Loss, Manifest, Pin, Proof
from perdure.ports.clock import Clock
from perdure.ports.keeper import Source, aside_of

TAKES_S = 0.02


@dataclass(slots=True)
class SimulatedShelf:
    """The disk: what each slot holds, and all snapshots with their content, by service."""

    states: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    contents: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    applied: dict[str, Manifest] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    """Slots whose state cannot be read."""
    asides: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What lies beside the slots' own directories, by path."""
    stuck: set[str] = field(default_factory=set)
    """Slots whose state cannot be exchanged."""
    unrestorable: bool = False
    """What is restored does not pass its check."""

    def write(self, slot: str, word: str) -> None:
        """The replica in a slot writes something down."""
        self.states[slot] = (*self.states.get(slot, ()), word)


@dataclass(slots=True)
class SimulatedArchive:
    """What is kept, as one life of the daemon sees it; `act` says that the daemon lives, or ends the call."""

    shelf: SimulatedShelf
    clock: Clock
    act: Callable[[], None] = lambda: None

    async def kept(self, service: str) -> Sequence[Kept]:
        """See the port."""
        return tuple(self.shelf.kept.get(service, ()))

    async def verify(self, service: str, snapshot: str) -> None:
        """See the port."""
        self._find(service, snapshot)

    async def note(self, service: str, snapshot: str, pin: Pin | None, proof: Proof | None) -> None:
        """See the port."""
        one = self._find(service, snapshot)
        self._put(replace(one, pin=pin or one.pin, proof=proof or one.proof))

    async def unpin(self, service: str, snapshot: str) -> None:
        """See the port."""
        self._put(replace(self._find(service, snapshot), pin=None))

    async def mark(self, service: str, name: str, snapshot: str) -> None:
        """See the port."""
        await self.unmark(service, name)
        one = self._find(service, snapshot)
        self._put(replace(one, marks=(*one.marks, name)))

    async def unmark(self, service: str, name: str) -> None:
        """See the port."""
        for one in self.shelf.kept.get(service, []):
            self._put(replace(one, marks=tuple(mark for mark in one.marks if mark != name)))

    async def remove(self, service: str, snapshots: Sequence[str]) -> int:
        """See the port."""
        self.act()
        self.shelf.kept[service] = [one for one in self.shelf.kept[service] if one.manifest.id not in snapshots]
        return 0

    async def abandon(self, service: str) -> None:
        """A call here ends with its caller: nothing goes on that could be ended."""

    async def hurry(self, service: str) -> None:
        """See the port; all calls are short here."""

    async def transfer_out(self, service: str, snapshot: str, file: str) -> None:
        """See the port."""
        raise UnavailableError("there are no files here")

    async def transfer_in(self, service: str, file: str) -> Manifest:
        """See the port."""
        raise UnavailableError("there are no files here")

    async def close(self) -> None:
        """The shelf stays."""

    async def _work(self) -> None:
        self.act()
        await asyncio.sleep(TAKES_S)
        self.act()

    def _find(self, service: str, snapshot: str) -> Kept:
        for one in self.shelf.kept.get(service, []):
            if one.manifest.id == snapshot:
                return one
        raise UnavailableError(f"there is no snapshot {snapshot} of {service}", f"perdure snapshot list {service}")

    def _put(self, changed: Kept) -> None:
        known = self.shelf.kept[changed.manifest.service]
        known[[one.manifest.id for one in known].index(changed.manifest.id)] = changed


@dataclass(slots=True)
class SimulatedKeeper(SimulatedArchive):
    """The keeper as one life of the daemon has it."""

    async def take(self, source: Source, epoch: int, data_epoch: int) -> Manifest:
        """See the port."""
        await self._work()
        if source.slot in self.shelf.damaged:
            raise CorruptionError(f"the state of {source.slot} cannot be read")
        known = self.shelf.kept.setdefault(source.service, [])
        if any(one.manifest.epoch > epoch for one in known):
            raise RefusedError(f"epoch {epoch} is over")
        content = self.shelf.states.get(source.slot, ())
        number = max((int(one.manifest.id.removeprefix("s-")) for one in known), default=0) + 1
        manifest = Manifest(
            f"s-{number:04d}",
            source.service,
            source.slot,
            source.keeping.kind,
            None,
            epoch,
            data_epoch,
            self.clock.wall(),
            TAKES_S,
            len(content),
            len(content),
            hashlib.sha256("\n".join(content).encode()).hexdigest(),
        )
        known.append(Kept(manifest))
        self.shelf.contents[source.service, manifest.id] = content
        return manifest

    async def apply(self, source: Source, snapshot: str, running: bool) -> None:
        """See the port."""
        await self._work()
        manifest = self._find(source.service, snapshot).manifest
        self.shelf.states[source.slot] = self.shelf.contents[source.service, snapshot]
        self.shelf.applied[source.slot] = manifest

    async def applied(self, source: Source) -> Manifest | None:
        """See the port."""
        return self.shelf.applied.get(source.slot)

    async def restore(self, source: Source, snapshot: str, aside: str) -> Manifest:
        """See the port."""
        await self._work()
        manifest = self._find(source.service, snapshot).manifest
        if aside in self.shelf.asides:
            raise UnavailableError(f"{aside} exists")
        if self.shelf.unrestorable:
            raise CorruptionError(f"{snapshot} is damaged")
        self.shelf.asides[aside] = self.shelf.contents[source.service, snapshot]
        return manifest

    async def prove(self, source: Source, snapshot: str) -> Proof:
        """See the port."""
        await self._work()
        proof = Proof(self.clock.wall(), TAKES_S, "the check fails" if self.shelf.unrestorable else "")
        await self.note(source.service, snapshot, None, proof)
        return proof

    async def compare(self, source: Source, aside: str, taken_at: float) -> Loss:
        """See the port; words are files here."""
        await self._work()
        now, then = self._state(source), self.shelf.asides[aside]
        added, removed = tuple(sorted({*now} - {*then})), tuple(sorted({*then} - {*now}))
        return Loss(
            self.clock.wall() - taken_at,
            added=added,
            removed=removed,
            added_count=len(added),
            removed_count=len(removed),
            size_now=len(now),
            size_then=len(then),
        )

    async def rescue(self, source: Source, aside: str, file: str) -> int:
        """See the port."""
        await self._work()
        lost = tuple(word for word in self._state(source) if word not in self.shelf.asides[aside])
        self.shelf.asides[file] = lost
        return len(lost)

    async def reinsert(self, source: Source, file: str, tables: Sequence[str]) -> tuple[int, Sequence[str]]:
        """See the port."""
        await self._work()
        lost = self.shelf.asides[file]
        present = self.shelf.states.get(source.slot, ())
        self.shelf.states[source.slot] = (*present, *(word for word in lost if word not in present))
        return len(lost), [f"{word} is there" for word in lost if word in present]

    async def switchable(self, source: Source, incoming: str, outgoing: str) -> None:
        """See the port."""
        self.act()
        asides = self.shelf.asides
        if incoming not in asides and outgoing not in asides:
            raise UnavailableError(f"there is nothing to switch to: {incoming}", "restore a snapshot aside first")
        if incoming in asides and outgoing in asides:
            raise UnavailableError(f"what was live cannot be kept: {outgoing} exists", "name another directory")

    async def switch(self, source: Source, incoming: str, outgoing: str) -> None:
        """See the port; in the middle of it the daemon may die, and the keeper with it."""
        await self._work()
        asides = self.shelf.asides
        if incoming not in asides and outgoing in asides:
            return
        if source.slot in self.shelf.stuck:
            raise ConflictError(f"a process has the state of {source.slot} open")
        asides[outgoing] = self.shelf.states.get(source.slot, ())
        self.shelf.states[source.slot] = asides.pop(incoming)
        self.act()

    async def tidy(self, source: Source, kept: Sequence[str]) -> None:
        """See the port."""
        self.act()
        directory = f"{aside_of(source)}/"
        for name in [one for one in self.shelf.asides if one.startswith(directory) and one not in kept]:
            del self.shelf.asides[name]

    def _state(self, source: Source) -> tuple[str, ...]:
        """What is in the directory of a source: a slot's own, or one beside it."""
        if source.directory in self.shelf.asides:
            return self.shelf.asides[source.directory]
        if source.slot in self.shelf.damaged:
            raise CorruptionError(f"the state of {source.slot} cannot be read")
        return self.shelf.states.get(source.slot, ())

    async def recover(self, source: Source) -> bool | None:
        """See the port."""
        return None
