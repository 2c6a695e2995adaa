"""What is known of the snapshots of a service beside their content: epochs, pins, proofs, marks, and which there are.

There are two copies, `ledger.a` and `ledger.b`, one line of JSON and its SHA-256 each, padded with blanks. A change
writes over one of them, flushes, and then over the other: in place, so that room is never missing to note a removal.
A crash spoils at most the copy that was being written, and any other damage at most one of them; the other one is read,
and `verify` tells. A snapshot exists once its manifest does, whether or not it is noted here: a crash may come between.
A snapshot that is noted, but whose manifest is gone, stays in the list, so that its loss is seen.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from perdure.adapters.state import disk
from perdure.adapters.state.seal import Seal
from perdure.model import codec
from perdure.model.errors import CorruptionError
from perdure.model.snapshot import Kept, Manifest, Pin, Proof

FORMAT = 1
RESERVE_BYTES = 64 * 1024
"""A copy grows by so much at a time: about a hundred snapshots."""
COPIES = ("ledger.a", "ledger.b")
FORGET = "its twin is whole, and the next snapshot writes it anew; nothing is lost"


@dataclass(frozen=True, slots=True)
class Record:
    """One snapshot, and what was learned of it. `imported`: its epochs are those of another place."""

    manifest: Manifest
    imported: bool = False
    key_check: str = ""
    pin: Pin | None = None
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """All of the ledger at one time."""

    format: int = FORMAT
    generation: int = 0
    """Counts the changes."""
    key_check: str = ""
    epoch: int = 0
    """The highest seen."""
    data_epoch: int = 0
    last: int = 0
    """The highest number that was given to a snapshot, so that none is used twice."""
    snapshots: Mapping[str, Record] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    """Name -> id of the snapshot."""
    condemned: tuple[str, ...] = ()
    """Names of packs in which damage was found."""

    def kept(self) -> list[Kept]:
        """The snapshots, the oldest first."""
        named: dict[str, list[str]] = {}
        for name, snapshot in sorted(self.marks.items()):
            named.setdefault(snapshot, []).append(name)
        found = [
            Kept(one.manifest, one.pin, one.proof, tuple(named.get(id_, ()))) for id_, one in self.snapshots.items()
        ]
        return sorted(found, key=lambda one: (one.manifest.taken_at, number(one.manifest.id)))

    def with_record(self, record: Record) -> "Page":
        """With one snapshot more, or changed."""
        changed = replace(
            self,
            snapshots={**self.snapshots, record.manifest.id: record},
            last=max(self.last, number(record.manifest.id)),
        )
        return changed if record.imported else changed.seen(record.manifest.epoch, record.manifest.data_epoch)

    def without(self, ids: set[str]) -> "Page":
        """Without these snapshots."""
        return replace(self, snapshots={id_: one for id_, one in self.snapshots.items() if id_ not in ids})

    def seen(self, epoch: int, data_epoch: int) -> "Page":
        """With these epochs seen, if they are higher."""
        return replace(self, epoch=max(self.epoch, epoch), data_epoch=max(self.data_epoch, data_epoch))


def number(snapshot: str) -> int:
    """193 of `s-0193`; -1 for what is no id of a snapshot."""
    digits = snapshot.removeprefix("s-")
    return int(digits) if snapshot.startswith("s-") and digits.isascii() and digits.isdigit() else -1


def named(count: int) -> str:
    """The id of a snapshot with this number."""
    return f"s-{count:04d}"


class Ledger:
    """The ledger in the directory of a store, with the manifests in `snapshots` beside it."""

    def __init__(self, directory: Path, sealed: Seal) -> None:
        self._directory = directory
        self._seal = sealed
        self._lock = directory / "ledger.lock"
        self.snapshots = directory / "snapshots"

    def read(self) -> Page:
        """What it says now; CorruptionError when both copies are damaged, RefusedError when the key is another."""
        with disk.short_lock(self._lock, shared=True):
            return self._read()

    def change(self, change: Callable[[Page], Page]) -> Page:
        """Replace what it says; nobody else reads or changes it meanwhile. What `change` raises changes nothing."""
        with disk.short_lock(self._lock):
            before = self._read()
            after = change(before)
            if after != before or not self._whole(before):
                after = replace(after, generation=before.generation + 1, key_check=self._seal.check)
                self._write(after)
        return after

    def check(self) -> None:
        """CorruptionError unless both copies are whole; one may be older, after a crash between the two."""
        with disk.short_lock(self._lock, shared=True):
            copies = [(self._directory / name, self._copy(name)) for name in COPIES]
        for path, page in copies:
            if page is None:
                raise disk.missing(path, FORGET)
            if isinstance(page, ValueError):
                raise disk.damaged(path, str(page), FORGET)

    def manifest_file(self, snapshot: str) -> Path:
        """The file of a manifest."""
        return self.snapshots / f"{snapshot}.json"

    def manifest(self, snapshot: str) -> Record:
        """A manifest as it lies on the disk; CorruptionError."""
        path = self.manifest_file(snapshot)
        try:
            record = parsed_manifest(disk.read(path))
            if record.manifest.id != snapshot:
                raise ValueError(f"it is the manifest of {record.manifest.id}")
        except ValueError as error:
            raise disk.damaged(path, str(error)) from None
        return record

    def _whole(self, page: Page) -> bool:
        """Whether both copies say so already."""
        return all(self._copy(name) == page for name in COPIES)

    def _read(self) -> Page:
        copies = [self._copy(name) for name in COPIES]
        pages = [page for page in copies if isinstance(page, Page)]
        if pages:
            page = max(pages, key=lambda one: one.generation)
        elif all(page is None for page in copies):
            page = Page()
        else:
            path = self._directory / COPIES[0]
            raise disk.damaged(
                path,
                f"and so is {COPIES[1]}, or it is missing",
                "put one of the two back from a backup; or remove both: the snapshots stay, but what is known of"
                " them (pins, proofs, markers) is forgotten",
            )
        page = self._with_unnoted(page)
        if page.generation or page.snapshots:
            self._seal.admit(page.key_check, self._directory)
        return page

    def _with_unnoted(self, page: Page) -> Page:
        """Also the snapshots that were committed, or copied here, and not noted yet."""
        for name in disk.names(self.snapshots):
            id_, dot, ending = name.partition(".")
            if id_ in page.snapshots or (dot + ending) != ".json" or number(id_) < 0:
                continue
            try:
                record = self.manifest(id_)
            except CorruptionError:
                continue  # It does not count; who asks for it is told what is wrong with it.
            if not page.generation and not page.snapshots:
                page = replace(page, key_check=record.key_check)
            if record.key_check == page.key_check:
                page = page.with_record(record)
        return page

    def _copy(self, name: str) -> Page | ValueError | None:
        """One of the copies; None when it is missing, what is wrong with it when it is damaged."""
        path = self._directory / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk.unusable(path, error) from error
        try:
            if len(data) % RESERVE_BYTES:
                raise ValueError("it is cut off")
            document = _parsed(data)
        except ValueError as error:
            return error
        page = codec.decode(Page, document)
        if page.format != FORMAT:
            raise CorruptionError(
                f"{path} has format {page.format}, and this version of Perdure knows {FORMAT}",
                "start the version of Perdure that wrote it",
            )
        return page

    def _write(self, page: Page) -> None:
        data = signed(page)
        size = -(-len(data) // RESERVE_BYTES) * RESERVE_BYTES
        # The one that is whole and newest is written last: a crash must not find both of them spoiled.
        copies = {name: self._copy(name) for name in COPIES}
        ages = {name: copy.generation if isinstance(copy, Page) else -1 for name, copy in copies.items()}
        with disk.writing(self._directory, lambda: 2 * size):
            for name in sorted(COPIES, key=lambda name: ages[name]):
                if copies[name] is None:
                    _write_anew(self._directory / name, data, size)
                else:
                    _write_over(self._directory / name, data, size)


def manifest_bytes(record: Record) -> bytes:
    """The content of a manifest's file: what cannot change any more."""
    return signed({"manifest": record.manifest, "imported": record.imported, "key_check": record.key_check})


def parsed_manifest(data: bytes) -> Record:
    """The reverse; ValueError, or CorruptionError, says what is wrong with the file."""
    return codec.decode(Record, _parsed(data))


def signed(value: object) -> bytes:
    """One line of JSON, and its digest."""
    line = json.dumps(codec.encode(value), separators=(",", ":")).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def _parsed(data: bytes) -> object:
    line, _, rest = data.partition(b"\n")
    digest, newline, padding = rest.partition(b"\n")
    if not newline or padding.strip(b" ") or hashlib.sha256(line).hexdigest().encode() != digest:
        raise ValueError("its digest does not match")
    document: object = json.loads(line)
    return document


def _write_anew(path: Path, data: bytes, size: int) -> None:
    made = path.with_name(f"{path.name}.part")
    disk.write_new(made, data.ljust(size))
    made.replace(path)
    disk.sync_directory(path.parent)


def _write_over(path: Path, data: bytes, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = max(size, os.fstat(descriptor).st_size)
        disk.write_all(descriptor, data.ljust(size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
