"""Taking a snapshot into the store: content is cut into chunks, and those that are new go into packs.

Everything is written into `incoming` first. `commit` flushes it all there, then renames packs, then the content list,
then the manifest: that last rename makes the snapshot, and until then nothing of it counts. An intake that is left
without commit deletes what it wrote; what a killed one leaves is deleted by the next `Vault.begin`, and packs that had
been renamed already are swept then. The bar of epochs is looked at again at the commit, under the lock of the ledger: a
holder who was paused while somebody else took over must not add a snapshot after him.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, runtime_checkable

from perdure.adapters.state import disk, ledger, listing, seal
from perdure.adapters.state.ledger import Ledger, Page, Record
from perdure.adapters.state.listing import Entry, EntryKind, Listed
from perdure.adapters.state.packs import CHUNK_BYTES_MAX, PackWriter
from perdure.adapters.state.seal import Seal
from perdure.model.errors import CorruptionError, RefusedError, UnavailableError
from perdure.model.snapshot import Manifest, StateKind

CHUNK_BYTES = 4096
"""A page of SQLite and of most file systems: one changed row costs one chunk."""
_BATCH_BYTES = 1024 * 1024
_REST_BYTES = 4096
"""Of a manifest, beside its packs and its list."""


@runtime_checkable
class SupportsRead(Protocol):
    """What can be read piece by piece: an open file, a pipe."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass(frozen=True)
class Draft:
    """What is known of a snapshot before its content."""

    service: str
    slot: str
    kind: StateKind
    epoch: int
    data_epoch: int
    taken_at: float
    """Unix time, seconds."""


@dataclass(frozen=True)
class Rooms:
    """The directories of a store."""

    top: Path

    @property
    def incoming(self) -> Path:
        """Where files are made."""
        return self.top / "incoming"

    @property
    def packs(self) -> Path:
        """Packs and their indexes."""
        return self.top / "packs"

    @property
    def contents(self) -> Path:
        """Content lists."""
        return self.top / "contents"

    @property
    def snapshots(self) -> Path:
        """Manifests."""
        return self.top / "snapshots"

    def make(self) -> None:
        """Make those that are not there."""
        for directory in (self.top, self.incoming, self.packs, self.contents, self.snapshots):
            disk.make_directory(directory)

    def list_file(self, digest: str) -> Path:
        """The file of a content list."""
        return self.contents / f"{digest}.list"

    def empty_incoming(self) -> bool:
        """Delete what an interrupted work left; whether there was anything."""
        left = disk.names(self.incoming)
        with disk.writing(self.incoming, lambda: 0):
            for name in left:
                disk.remove(self.incoming / name)
        return bool(left)


def check_epochs(page: Page, epoch: int, data_epoch: int) -> None:
    """RefusedError when a newer epoch was seen."""
    for name, seen, asked in (("epoch", page.epoch, epoch), ("data epoch", page.data_epoch, data_epoch)):
        if asked < seen:
            raise RefusedError(
                f"a snapshot of {name} {asked} is refused: {name} {seen} was seen",
                "another replica is active since then; `perdure status` shows which",
            )


class Intake:
    """One snapshot on its way in; a context manager, made by `Vault.begin`. `lock` is released at its end."""

    def __init__(self, rooms: Rooms, sealed: Seal, book: Ledger, draft: Draft, known: set[bytes]) -> None:
        self._rooms = rooms
        self._seal = sealed
        self._ledger = book
        self._draft = draft
        self._known = known
        self._writer = PackWriter(rooms.incoming, sealed)
        self._listed: dict[str, Listed] = {}
        self._ahead_bytes = 0
        self._moved: list[Path] = []
        self._manifest: Manifest | None = None
        self._broken = False
        self.lock = contextlib.ExitStack()

    def __enter__(self) -> "Intake":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self._writer.close()
            if not self._committed:
                # What cannot be deleted now counts for nothing, and the next one deletes it.
                with contextlib.suppress(OSError, UnavailableError):
                    self._withdraw()

    def entry(self, entry: Entry, data: BinaryIO | Iterable[bytes] | None, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Add an entry; files have data, which is read to its end. UnavailableError when there is no room."""
        assert listing.inside(entry.path) and entry.path not in self._listed, entry.path
        assert (data is not None) == (entry.kind is EntryKind.FILE), entry.kind
        assert 0 < chunk_bytes <= CHUNK_BYTES_MAX
        assert not self._committed and not self._broken
        if data is None:
            self._listed[entry.path] = Listed(replace(entry, size=0))
            return
        size = 0
        digests = bytearray()
        for batch in batches(data, chunk_bytes * max(1, _BATCH_BYTES // chunk_bytes)):
            self._ahead_bytes = max(len(batch), entry.size - size)
            size += len(batch)
            digests += self._store(batch, chunk_bytes)
        self._ahead_bytes = 0
        self._listed[entry.path] = Listed(replace(entry, size=size), chunk_bytes, bytes(digests))

    def commit(self, took_s: float, imported: bool = False) -> Manifest:
        """Make it a snapshot. `took_s`: seconds since its taking began. `imported`: it was taken elsewhere.
        RefusedError when a newer epoch was seen meanwhile, UnavailableError when there is no room."""
        assert not self._committed and not self._broken
        self._broken = True  # What fails from here on cannot be tried again.
        listed = list(self._listed.values())
        with disk.writing(self._rooms.top, self._needed):
            self._writer.finish()
            digest, list_bytes = self._write_list(listed)
        draft = self._draft
        manifest = Manifest(
            id="",
            service=draft.service,
            slot=draft.slot,
            kind=draft.kind,
            parent=None,
            epoch=draft.epoch,
            data_epoch=draft.data_epoch,
            taken_at=draft.taken_at,
            took_s=took_s,
            size_bytes=sum(one.entry.size for one in listed),
            stored_bytes=self._writer.size_bytes + list_bytes,
            digest=digest,
        )
        try:
            self._ledger.change(lambda page: self._published(page, Record(manifest, imported, self._seal.check)))
        except UnavailableError:
            if not self._committed:
                raise
            # The snapshot is there; that it is not noted yet changes nothing, see `ledger`.
        assert self._manifest is not None
        return self._manifest

    @property
    def _committed(self) -> bool:
        return self._manifest is not None

    def _write_list(self, listed: list[Listed]) -> tuple[str, int]:
        """The digest of the content, and how many bytes its list adds to the store: none when it has it."""
        payload = listing.encode(listed)
        digest = self._seal.address(payload).hex()
        path = self._rooms.list_file(digest)
        with contextlib.suppress(CorruptionError):
            listing.read(path, self._seal)
            return digest, 0
        encoded = self._seal.wrap(seal.LIST, payload)
        self._ahead_bytes = len(encoded)
        disk.write_new(self._rooms.incoming / path.name, encoded)
        self._ahead_bytes = 0
        return digest, len(encoded)

    def _published(self, page: Page, draft: Record) -> Page:
        """Under the lock of the ledger: give the snapshot its number, and rename everything to where it counts."""
        if not draft.imported:
            check_epochs(page, draft.manifest.epoch, draft.manifest.data_epoch)
        parent = None if draft.imported else max(page.snapshots, key=ledger.number, default=None)
        manifest = replace(draft.manifest, id=ledger.named(page.last + 1), parent=parent)
        record = replace(draft, manifest=manifest)
        rooms = self._rooms
        manifest_file = rooms.incoming / self._ledger.manifest_file(manifest.id).name
        list_file = rooms.incoming / rooms.list_file(manifest.digest).name
        with disk.writing(rooms.top, self._needed):
            disk.write_new(manifest_file, ledger.manifest_bytes(record))
            packs = [path for one in self._writer.written for path in (one.pack, one.index_file)]
            self._move(packs, rooms.packs)
            self._move([list_file] if list_file.exists() else [], rooms.contents)
            self._move([manifest_file], rooms.snapshots)
        self._manifest = manifest
        fresh = {one.index.name for one in self._writer.written}
        page = replace(page, condemned=tuple(name for name in page.condemned if name not in fresh))
        return page.with_record(record)

    def _move(self, files: Sequence[Path], directory: Path) -> None:
        for file in files:
            self._moved.append(directory / file.name)
            disk.move(file, directory)
        if files:
            disk.sync_directory(directory)

    def _withdraw(self) -> None:
        for path in reversed(self._moved):
            disk.remove(path)
        self._rooms.empty_incoming()

    def _store(self, batch: bytes, chunk_bytes: int) -> bytes:
        """Put the chunks that are new into packs; the addresses of all, joined."""
        view = memoryview(batch)
        chunks = [view[begin : begin + chunk_bytes] for begin in range(0, len(view), chunk_bytes)]
        digests = self._seal.addresses(chunks)
        known = self._known
        if not known.issuperset(digests):
            self._broken = True  # Until it is written: a pack of which a part is missing must never be finished.
            with disk.writing(self._rooms.top, self._needed):
                for digest, chunk in zip(digests, chunks, strict=True):
                    if digest not in known:
                        known.add(digest)
                        self._writer.add(digest, chunk)
            self._broken = False
        return b"".join(digests)

    def _needed(self) -> int:
        """The most that it may take: what is written, and all that is still to come if none of it is known."""
        return self._writer.size_bytes + self._writer.pending_bytes + self._ahead_bytes + _REST_BYTES


def batches(data: BinaryIO | Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`, the last one shorter."""
    pieces: Iterable[bytes] = data
    if isinstance(data, SupportsRead):
        pieces = iter(functools.partial(data.read, size), b"")
    pending = bytearray()
    for piece in pieces:
        if not pending and len(piece) == size:
            yield piece
            continue
        pending += piece
        if len(pending) >= size:
            whole = len(pending) - len(pending) % size
            view = bytes(memoryview(pending)[:whole])
            yield from (view[begin : begin + size] for begin in range(0, whole, size))
            del pending[:whole]
    if pending:
        yield bytes(pending)
