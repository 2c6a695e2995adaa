"""The store of one machine: a single SQLite file behind one worker thread. Implements `ports.store.Store`.

The daemon opens it after it holds the directory's lock; controller and agent meet only here. Calls are done in the
order in which they were made. `watch` is woken by commits of the same process and asks the file only then, for nobody
else writes it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from perdure.adapters.store import failures, migrations, opening
from perdure.adapters.store.tables import Place, Tables, Writes, after_revision
from perdure.adapters.store.worker import Worker
from perdure.model.errors import UnavailableError
from perdure.model.event import Event
from perdure.ports.store import Change, Snapshot, Transaction

CALL_TIMEOUT_S = 2.0
OPEN_TIMEOUT_S = 10.0
"""Opening reads the whole file once, and may migrate it."""
BUSY_MARGIN_S = 0.3
"""Waiting for another process's lock ends this long before the caller gives up, so that the outcome is known."""
WATCH_BATCH = 500

T = TypeVar("T")


class SQLiteStore:
    """See `ports.store.Store`; make one with `open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worker = Worker(f"the store {path}")
        self._tables: Tables | None = None
        self._watchers: dict[asyncio.Event, str] = {}
        self._closed = False

    @classmethod
    async def open(cls, path: Path, steps: Sequence[str] = migrations.STEPS) -> "SQLiteStore":
        """Open the store at `path` (made with mode 0600 when there is none), after checking that it is whole.
        CorruptionError leaves its files as they are; UnavailableError when locked, read-only, newer, or within 10 s not
        readable."""
        store = cls(path)
        try:
            await store._worker.run(lambda _: store._guarded(lambda: store._open(steps)), OPEN_TIMEOUT_S)
        except BaseException:
            await store.close()
            raise
        return store

    async def read(self, prefix: str) -> Snapshot:
        """All records whose key starts with `prefix`, as of one revision."""
        return await self._call(lambda tables: tables.read(prefix))

    async def commit(self, transaction: Transaction) -> int:
        """Apply atomically and return the new revision; ConflictError, and no change, when an expectation fails."""
        writes = Writes.of(transaction)
        loop = asyncio.get_running_loop()

        def work(tables: Tables) -> int:
            revision, cut = tables.commit(writes)
            if self._watchers and (writes.put or writes.delete):
                # From here and not from the caller, who may have given up by now.
                loop.call_soon_threadsafe(self._wake, None if cut else writes.keys())
            return revision

        return await self._call(work)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Change]:
        """Every change under `prefix` with a revision above `after`, in order; ConflictError when they are not kept."""
        woken = asyncio.Event()
        self._watchers[woken] = prefix
        place = after_revision(after)
        try:
            while True:
                woken.clear()
                changes, place = await self._changes(prefix, place)
                for change in changes:
                    yield change
                if len(changes) < WATCH_BATCH:
                    await woken.wait()
        finally:
            del self._watchers[woken]

    async def events(self, after: int, limit: int, service: str | None = None) -> Sequence[Event]:
        """Up to `limit` events with a number above `after`, oldest first; -20 starts at the last but 19."""
        return await self._call(lambda tables: tables.events(after, limit, service))

    async def check(self) -> None:
        """Read the whole file; CorruptionError when its structure is damaged."""
        await self._call(Tables.check, OPEN_TIMEOUT_S)

    async def close(self) -> None:
        """Flush and release, after what was asked before; further calls raise UnavailableError, watchers too."""
        if self._closed:
            return
        self._closed = True
        self._wake(None)
        closing = self._worker.run(lambda _: self._guarded(self._release), CALL_TIMEOUT_S)
        try:
            await closing
        finally:
            self._worker.end()
        self._worker.join(CALL_TIMEOUT_S)

    async def _changes(self, prefix: str, place: Place) -> tuple[list[Change], Place]:
        return await self._call(lambda tables: tables.changes(prefix, place, WATCH_BATCH))

    def _wake(self, keys: Iterable[str] | None) -> None:
        """Let watchers look at the changes: those of these keys, or all of them.

        All are woken when old changes were cut off, so that a watcher whose prefix is quiet does not fall behind."""
        for woken, prefix in self._watchers.items():
            if keys is None or any(key.startswith(prefix) for key in keys):
                woken.set()

    async def _call(self, work: Callable[[Tables], T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        if self._closed:
            raise UnavailableError(f"the store {self._path} is closed", "start the daemon again: `perdure up`")
        return await self._worker.run(lambda deadline_at: self._on_tables(work, deadline_at), timeout_s)

    # What follows runs in the worker thread.

    def _on_tables(self, work: Callable[[Tables], T], deadline_at: float) -> T:
        tables = self._tables
        assert tables is not None
        wait_ms = int((deadline_at - BUSY_MARGIN_S - time.monotonic()) * 1000)
        tables.connection.set_busy_timeout(max(0, min(opening.BUSY_TIMEOUT_MS, wait_ms)))
        return self._guarded(lambda: work(tables))

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (apsw.Error, OSError) as error:
            operating = failures.translated(error, self._path)
            if operating is None:
                raise
            raise operating from error

    def _open(self, steps: Sequence[str]) -> None:
        self._tables = opening.open_database(self._path, steps)

    def _release(self) -> None:
        if self._tables is not None:
            self._tables.close()
