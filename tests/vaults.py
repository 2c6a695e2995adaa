"""Snapshot stores for tests: small ones, whose contents are known."""

import io
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.adapters.state import packs, sweep
from perdure.adapters.state.vault import Content, Draft, Entry, EntryKind, Vault
from perdure.model.snapshot import Manifest, StateKind

KEY = bytes(range(32))
CHUNK_BYTES = 256
Files = Mapping[str, bytes]


def draft(epoch: int = 1, data_epoch: int = 1, taken_at: float = 1000.0) -> Draft:
    """What is known before the content."""
    return Draft("notes", "notes/1", StateKind.FILES, epoch, data_epoch, taken_at)


def entry(path: str = "", size: int = 0) -> Entry:
    """A file, as a keeper describes it."""
    return Entry(path, EntryKind.FILE, 0o640, 1000, 1000, 1_700_000_000_000_000_123, size)


def take(vault: Vault, files: Files, described: Draft | None = None) -> Manifest:
    """A snapshot of some files."""
    with vault.begin(described or draft()) as intake:
        for path, data in files.items():
            intake.entry(entry(path, len(data)), io.BytesIO(data), CHUNK_BYTES)
        return intake.commit(0.25)


def restored(content: Content) -> dict[str, bytes]:
    """All files of a snapshot."""
    return {one.path: b"".join(content.read(one.path)) for one in content.entries}


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def with_changes(data: bytes, *offsets: int) -> bytes:
    """The same with some bytes changed."""
    changed = bytearray(data)
    for offset in offsets:
        changed[offset] ^= 0xFF
    return bytes(changed)


def state_of(directory: Path) -> dict[str, bytes]:
    """All files of a store that count, with their bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("lock", "ledger.lock")
    }


@contextmanager
def small_packs() -> Iterator[None]:
    """Blocks and packs so small that a few kilobytes fill many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "BLOCK_BYTES", 1024)
        patch.setattr(packs, "PACK_BYTES", 4096)
        patch.setattr(sweep, "SMALL_BYTES", 1024)
        patch.setattr(sweep, "SMALL_MAX", 3)
        yield
