"""The snapshot store of one service: immutable packs of chunks, a content list and a manifest for each snapshot.

    lock, ledger.lock           who writes packs; who reads or changes the ledger, for milliseconds
    ledger.a, ledger.b          epochs, pins, proofs, marks, twice         `ledger`
    snapshots/s-0193.json       a manifest: the snapshot exists            `ledger`
    contents/DIGEST.list        entries and the addresses of their chunks  `listing`
    packs/SHA256.pack, .index   the chunks, each once; where they lie      `packs`, `index`, `shelf`
    incoming/                   what is being made                         `intake`

Nothing that counts is ever changed: a snapshot adds files, a removal deletes some. So any number may read while one
writes. `docs/internals/snapshots.md` describes every byte. Keepers (`adapters.state`) fill it and put snapshots back.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from perdure.adapters.state import disk, ledger, listing, shelf, sweep, transfer
from perdure.adapters.state.content import Content, Places, Sources
from perdure.adapters.state.intake import Draft, Intake, Rooms, check_epochs
from perdure.adapters.state.ledger import Ledger, Page, Record
from perdure.adapters.state.listing import Entry, EntryKind, Listed
from perdure.adapters.state.seal import Seal
from perdure.adapters.state.shelf import Shelf
from perdure.model.errors import ConflictError, CorruptionError, PerdureError, RefusedError, UnavailableError
from perdure.model.snapshot import Kept, Manifest, Pin, Proof

__all__ = ["Content", "Draft", "Entry", "EntryKind", "Intake", "Vault"]

T = TypeVar("T")


class Vault:
    """The store in `directory`, which is made (mode 0700) when there is none. `key`: 32 bytes that encrypt it, from its
    first snapshot on; RefusedError when it was made with another one, or without, or with one and none is given."""

    def __init__(self, directory: Path, key: bytes | None = None) -> None:
        self.directory = directory
        self._rooms = Rooms(directory)
        self._seal = Seal(key)
        self._rooms.make()
        self._ledger = Ledger(directory, self._seal)
        with contextlib.suppress(CorruptionError):  # Whoever needs what is damaged is told.
            self._ledger.read()

    def begin(self, draft: Draft) -> Intake:
        """Begin a snapshot. RefusedError when a newer epoch or data epoch was seen, ConflictError when another process
        is writing."""
        check_epochs(self.seen(draft.epoch, draft.data_epoch), draft.epoch, draft.data_epoch)
        return self._intake(draft)

    def seen(self, epoch: int, data_epoch: int) -> Page:
        """Refuse snapshots of lower epochs from now on, also one that is being taken; works while another writes."""
        return self._ledger.change(lambda page: page.seen(epoch, data_epoch))

    def kept(self) -> list[Kept]:
        """All snapshots, the oldest first; those whose files are damaged too."""
        return self._ledger.read().kept()

    def open(self, snapshot: str) -> Content:
        """A snapshot's content. UnavailableError: there is none of that id; CorruptionError names the damaged file."""
        record, listed = self._read(snapshot)
        return Content(record.manifest, listed, Sources(lambda: self._places(record, listed), self._condemn))

    def verify(self, snapshot: str) -> None:
        """Read everything that a snapshot needs, and check every digest; CorruptionError names the damaged file, also
        one of which a copy exists, or that is made anew by itself."""
        self._ledger.check()
        self._settled(snapshot, lambda: self._check(snapshot))

    def note(self, snapshot: str, pin: Pin | None, proof: Proof | None) -> None:
        """Write down what was learned of a snapshot; None leaves what is known."""

        def noted(page: Page) -> Page:
            record = _record(page, snapshot)
            return page.with_record(replace(record, pin=pin or record.pin, proof=proof or record.proof))

        self._ledger.change(noted)

    def unpin(self, snapshot: str) -> None:
        """Forget a pin."""
        self._ledger.change(lambda page: page.with_record(replace(_record(page, snapshot), pin=None)))

    def mark(self, name: str, snapshot: str | None) -> None:
        """Give a snapshot a name; a name that exists moves. None: no snapshot has it any more."""

        def marked(page: Page) -> Page:
            others = {other: id_ for other, id_ in page.marks.items() if other != name}
            if snapshot is None:
                return replace(page, marks=others)
            _record(page, snapshot)
            return replace(page, marks={**others, name: snapshot})

        self._ledger.change(marked)

    def remove(self, snapshots: Sequence[str]) -> int:
        """Delete snapshots, and the packs that no other one needs; the bytes freed. Ids that are not there are skipped.
        RefusedError, and nothing is changed, when one of them is pinned or marked."""
        ids = {id_ for id_ in snapshots if ledger.number(id_) >= 0}
        with disk.only_writer(self._rooms.top / "lock"):
            self._rooms.empty_incoming()
            before = self._ledger.read()
            page = self._ledger.change(lambda page: _unprotected(page, ids).without(ids))
            freed = self._drop(ids, page, {record.manifest.digest for record in before.snapshots.values()})
            return freed + self._sweep(page)

    def transfer_out(self, snapshot: str, file: Path) -> None:
        """Write one snapshot to a file that stands alone (`transfer`)."""
        record, listed = self._read(snapshot)
        transfer.write(self.open(snapshot), record, listed, self._seal, file)

    def transfer_in(self, file: Path) -> Manifest:
        """Read such a file; it gets a new id and no parent, and its own time and epochs are kept. CorruptionError when
        it is damaged, RefusedError when it is encrypted with another key."""
        content = transfer.read(file, self._seal)
        was = content.manifest
        draft = Draft(was.service, was.slot, was.kind, was.epoch, was.data_epoch, was.taken_at)
        with self._intake(draft) as intake:
            for entry in content.entries:
                data = content.read(entry.path) if entry.kind is EntryKind.FILE else None
                intake.entry(entry, data, max(1, content.chunk_bytes(entry.path)))
            return intake.commit(was.took_s, imported=True)

    def lacking(self, other: "Vault") -> list[str]:
        """Files (relative paths) that another store of the same service and key lacks, in the order in which they must
        be copied: a manifest comes after all that it needs. Each must be copied under another name and then renamed;
        until the last one is there nothing may be removed from the other store, for it would find packs without use.
        ConflictError when both have a snapshot of one id that is not the same."""
        mine, theirs = self._ledger.read(), other._ledger.read()
        wanted: list[str] = []
        needed: set[bytes] = set()
        for id_, record in mine.snapshots.items():
            there = theirs.snapshots.get(id_)
            if there is not None and there.manifest != record.manifest:
                raise ConflictError(
                    f"{self.directory} and {other.directory} both have a snapshot {id_}, with different content",
                    f"export one of them (`perdure snapshot export {id_}`) and import it again: it gets a new id",
                )
            if there is None:
                _, listed = self._read(id_)
                needed.update(address for one in listed for address in one.addresses())
                if not other._rooms.list_file(record.manifest.digest).exists():
                    wanted.append(f"contents/{record.manifest.digest}.list")
                wanted.append(f"snapshots/{id_}.json")
        needed -= other._shelf(theirs).known()
        places = self._shelf(mine).places(needed).values()
        indexes = {place.pack.index.name: place.pack.index for place in places}
        files = [f"packs/{name}" for one in indexes.values() for name in (one.pack_name, one.index_name)]
        return files + sorted(set(wanted))

    def _intake(self, draft: Draft) -> Intake:
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk.only_writer(self._rooms.top / "lock"))
            page = self._ledger.read()
            if self._rooms.empty_incoming():
                self._sweep(page, thin=False)
            found = self._shelf(page, repair=True)
            intake = Intake(self._rooms, self._seal, self._ledger, draft, found.known())
            intake.lock = stack.pop_all()
            return intake

    def _settled(self, snapshot: str, work: Callable[[], T]) -> T:
        """What the work gives. When something is missing, others may be rewriting packs, or removing the snapshot: so
        it is done once more, and UnavailableError says when there is no such snapshot any more."""
        with contextlib.suppress(CorruptionError):
            return work()
        try:
            return work()
        except CorruptionError:
            if not self._exists(snapshot, self._ledger.read()):
                raise _unknown(snapshot) from None
            raise

    def _read(self, snapshot: str) -> tuple[Record, list[Listed]]:
        """A manifest and its content list, as they lie on the disk."""
        return self._settled(snapshot, lambda: self._files_of(snapshot, self._ledger.read()))

    def _exists(self, snapshot: str, page: Page) -> bool:
        named = ledger.number(snapshot) >= 0
        return snapshot in page.snapshots or (named and self._ledger.manifest_file(snapshot).exists())

    def _files_of(self, snapshot: str, page: Page) -> tuple[Record, list[Listed]]:
        if not self._exists(snapshot, page):
            raise _unknown(snapshot)
        record = self._ledger.manifest(snapshot)
        noted = page.snapshots.get(snapshot)
        if noted is None:
            self._seal.admit(record.key_check, self.directory)
        elif noted.manifest != record.manifest:
            raise disk.damaged(self._ledger.manifest_file(snapshot), "it is not the one that was written")
        return record, listing.read(self._rooms.list_file(record.manifest.digest), self._seal)

    def _check(self, snapshot: str) -> None:
        record, listed = self._read(snapshot)
        places = self._places(record, listed)
        for pack in {id(one.pack): one.pack for one in places.values()}.values():
            try:
                shelf.check_index(pack, self._seal)
            except FileNotFoundError:
                raise disk.missing(pack.path) from None
            except CorruptionError as error:
                if str(pack.path) in error.sentence:
                    self._condemn(pack.index.name)
                raise
            self._acquit(pack.index.name)

    def _shelf(self, page: Page, repair: bool = False) -> Shelf:
        return shelf.load(self._rooms.packs, self._seal, page.condemned, self._rooms.incoming if repair else None)

    def _places(self, record: Record, listed: Sequence[Listed]) -> Places:
        """Where all chunks of a snapshot lie; CorruptionError when one of them is nowhere, or in a pack that is cut."""
        return self._settled(record.manifest.id, lambda: self._found(record, listed))

    def _found(self, record: Record, listed: Sequence[Listed]) -> Places:
        found = self._shelf(self._ledger.read())
        needed = {address for one in listed for address in one.addresses()}
        places = found.places(needed)
        if len(places) < len(needed):
            for error in found.unreadable.values():
                raise error
            raise CorruptionError(
                f"{len(needed) - len(places)} chunks of {record.manifest.id} are in no pack of {self._rooms.packs}",
                "a pack and its index are missing: put them back from a backup, or restore another snapshot",
            )
        used = {place.pack.index.name for place in places.values()}
        for name, fault in found.faults().items():
            if name in used:
                raise fault
        return places

    def _condemn(self, pack: str) -> None:
        """Let no new snapshot rely on a pack in which damage was found. Who only reads goes on without."""
        with contextlib.suppress(PerdureError):
            self._ledger.change(lambda page: replace(page, condemned=tuple(sorted({*page.condemned, pack}))))

    def _acquit(self, pack: str) -> None:
        if pack in self._ledger.read().condemned:
            self._ledger.change(lambda page: replace(page, condemned=tuple(set(page.condemned) - {pack})))

    def _drop(self, ids: set[str], page: Page, digests: set[str]) -> int:
        """Delete manifests, and those of these content lists that no snapshot has any more; the bytes freed."""
        freed = 0
        with disk.writing(self._rooms.top, lambda: 0):
            for id_ in sorted(ids):
                freed += disk.remove(self._ledger.manifest_file(id_))
            disk.sync_directory(self._rooms.snapshots)
            for digest in sorted(digests - {record.manifest.digest for record in page.snapshots.values()}):
                freed += disk.remove(self._rooms.list_file(digest))
            disk.sync_directory(self._rooms.contents)
        return freed

    def _sweep(self, page: Page, thin: bool = True) -> int:
        """Delete what no snapshot needs; the bytes freed. While a content list is damaged it is not known what is
        needed, and all packs stay."""
        needed: set[bytes] = set()
        try:
            for digest in {record.manifest.digest for record in page.snapshots.values()}:
                for one in listing.read(self._rooms.list_file(digest), self._seal):
                    needed.update(one.addresses())
        except CorruptionError:
            return 0
        freed = sweep.unneeded(sweep.Broom(self._rooms, self._seal, self._shelf(page)), needed)
        if thin:
            freed += sweep.thin(sweep.Broom(self._rooms, self._seal, self._shelf(page)), needed)
        left = {name.partition(".")[0] for name in disk.names(self._rooms.packs)}
        if not left.issuperset(page.condemned):
            self._ledger.change(lambda now: replace(now, condemned=tuple(set(now.condemned) & left)))
        return freed


def _record(page: Page, snapshot: str) -> Record:
    record = page.snapshots.get(snapshot)
    if record is None:
        raise _unknown(snapshot)
    return record


def _unknown(snapshot: str) -> UnavailableError:
    return UnavailableError(
        f"there is no snapshot {snapshot}", "`perdure snapshot list SERVICE` shows those that there are"
    )


def _unprotected(page: Page, ids: set[str]) -> Page:
    """RefusedError when one of these is pinned or marked."""
    for id_ in sorted(ids & set(page.snapshots)):
        pin = page.snapshots[id_].pin
        if pin is not None and (pin.until is None or pin.until > time.time()):
            raise RefusedError(f"{id_} is pinned ({pin.why})", "unpin it first")
        names = sorted(name for name, marked in page.marks.items() if marked == id_)
        if names:
            raise RefusedError(f"{id_} is marked {', '.join(names)}", "unmark it first")
    return page
