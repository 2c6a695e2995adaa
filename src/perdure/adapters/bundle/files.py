"""Implements `ports.bundle.Bundles` with files in the directory `releases/` of the daemon's own.

Each call works in a thread, and what changes something waits its turn there: a caller who is cancelled does not let the
next one in before his call has ended. Only the daemon writes here, and there is one for each directory
(`control.lock`), so a lock of the process is enough. Neighbours: the modules of this package do the work.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from perdure.adapters.bundle import failures, laying, manifest, objects, packing, retaining
from perdure.adapters.bundle.laying import Order
from perdure.adapters.bundle.rooms import Rooms
from perdure.model.bundle import Entry, EntryKind
from perdure.model.deploy import Files
from perdure.model.errors import ConfigError
from perdure.ports.bundle import Account

UNCLAIMED_S = 3600.0
"""For so long what was packed waits for being laid out. A deploy does that at once; one that is refused never does."""


class BundleFiles:
    """The files of releases in the directory `root`, just below the daemon's own. `monotonic` gives seconds."""

    def __init__(self, root: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rooms = Rooms(root)
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._unclaimed: dict[str, float] = {}
        """List -> when it was packed; no release has it yet, as far as this process knows."""

    async def pack(self, files: Files) -> str:
        """See the port."""
        return await asyncio.to_thread(self._pack, files)

    async def lay_out(self, digest: str, service: str, number: int, account: Account | None = None) -> str:
        """See the port."""
        return await asyncio.to_thread(self._lay_out, Order(digest, service, number, account))

    async def listing(self, digest: str) -> Sequence[Entry]:
        """See the port."""
        return await asyncio.to_thread(self._listing, digest)

    async def content(self, digest: str, path: str) -> bytes:
        """See the port."""
        return await asyncio.to_thread(self._content, digest, path)

    async def retain(self, service: str, numbers: Collection[int]) -> int:
        """See the port."""
        return await asyncio.to_thread(self._retain, service, frozenset(numbers))

    def _pack(self, files: Files) -> str:
        with self._changing():
            digest = packing.pack(self._rooms, files)
            self._unclaimed[digest] = self._monotonic()
            return digest

    def _lay_out(self, order: Order) -> str:
        with self._changing():
            directory = laying.lay_out(self._rooms, order)
            self._unclaimed.pop(order.digest, None)
            return str(directory)

    def _listing(self, digest: str) -> list[Entry]:
        with failures.guarded(self._rooms.root):
            return manifest.read(self._rooms, digest)

    def _content(self, digest: str, path: str) -> bytes:
        with failures.guarded(self._rooms.root):
            for entry in manifest.read(self._rooms, digest):
                if entry.path == path and entry.kind is EntryKind.FILE:
                    return objects.read(self._rooms, entry.digest)
        raise ConfigError(f"the release has no file {path}", "perdure diff")

    def _retain(self, service: str, numbers: Collection[int]) -> int:
        with self._changing():
            old = self._monotonic() - UNCLAIMED_S
            self._unclaimed = {digest: at for digest, at in self._unclaimed.items() if at > old}
            return retaining.retain(self._rooms, service, numbers, self._unclaimed)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """The turn of one call. What a daemon that was killed has left is removed first; what cannot be removed is told
        by `retain`, at its end: it is in nobody's way, and a deploy must not fail for it."""
        with self._turn, failures.guarded(self._rooms.root):
            self._rooms.prepare()
            with contextlib.suppress(OSError):
                self._rooms.clear()
            yield
