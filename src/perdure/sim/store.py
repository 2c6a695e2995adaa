"""The simulated store: one map in memory that survives the daemon, with failures and power cuts.

`Shelf` is what lies on the disk; `SimulatedStore` is `ports.store.Store` for one life of the daemon. A transaction
takes effect in the middle of the time it takes, so a daemon that is killed meanwhile may or may not have written it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from perdure.model.errors import ConflictError, UnavailableError
from perdure.model.event import Event
from perdure.ports.store import Change, Record, Snapshot, Transaction
from perdure.sim.life import Life
from perdure.sim.loop import VirtualLoop

READ_S = 0.0005
WRITE_S = 0.001
FSYNC_S = 0.004
SLOW_SHARE, SLOW_FACTOR = 0.1, 10.0
"""Of the writes so many take so much longer: a disk with other work to do."""
CHANGES_KEPT = 1000
GIVE_UP_S = 2.0


@dataclass(slots=True)
class Shelf:
    """The documents, the history of changes, and the events."""

    loop: VirtualLoop
    random: Random
    revision: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    writing: int = 0
    """Transactions that are on their way."""
    failing_for_s: float | None = None
    """How long each call takes until it fails; None: the store works."""
    _undo: list[tuple[str, Record | None]] = field(default_factory=list)
    """What a power cut takes back, newest last."""
    _watchers: list[asyncio.Future[None]] = field(default_factory=list)

    def snapshot(self, prefix: str) -> Snapshot:
        """All records under a prefix, now."""
        found = {key: record for key, record in self.records.items() if key.startswith(prefix)}
        return Snapshot(self.revision, found)

    def apply(self, transaction: Transaction) -> int:
        """Everything or nothing, now; see the port."""
        for key, revision in transaction.expect.items():
            record = self.records.get(key)
            if (record.revision if record is not None else 0) != revision:
                raise ConflictError(f"somebody else changed {key}", "try again")
        self.revision += 1
        for key, document in transaction.put.items():
            self._write(key, Record(document, self.revision))
        for key in transaction.delete:
            if key in self.records:
                self._write(key, None)
        for event in transaction.events:
            self.events.append(replace(event, number=len(self.events) + 1))
        if transaction.durable:
            self._undo.clear()
        self.wake()
        return self.revision

    def lose_power(self) -> None:
        """Take back what was not yet durable."""
        undo, self._undo = self._undo, []
        for key, before in reversed(undo):
            self._write(key, before)
        self._undo.clear()

    def wake(self) -> None:
        """Let the watchers look again."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def news(self) -> "asyncio.Future[None]":
        """Done when something changes."""
        watcher: asyncio.Future[None] = self.loop.create_future()
        self._watchers.append(watcher)
        return watcher

    def changes_after(self, revision: int) -> list[Change]:
        """The kept changes with a later revision, oldest first."""
        later: list[Change] = []
        for change in reversed(self.changes):
            if change.revision <= revision:
                break
            later.append(change)
        return later[::-1]

    def _write(self, key: str, record: Record | None) -> None:
        self._undo.append((key, self.records.get(key)))
        if record is None:
            self.records.pop(key, None)
        else:
            self.records[key] = record
        self.changes.append(Change(key, record, self.revision))
        if len(self.changes) > 2 * CHANGES_KEPT:
            del self.changes[:CHANGES_KEPT]


@dataclass(slots=True)
class SimulatedStore:
    """The store as one life of the daemon sees it."""

    shelf: Shelf
    life: Life

    async def read(self, prefix: str) -> Snapshot:
        """See the port."""
        await self._use(READ_S)
        return self.shelf.snapshot(prefix)

    async def commit(self, transaction: Transaction) -> int:
        """See the port; the fuse may burn before, or after it was written."""
        self.life.act()
        shelf, loop = self.shelf, self.shelf.loop
        await self._usable()
        took_s = (FSYNC_S if transaction.durable else WRITE_S) * (0.5 + shelf.random.random())
        if shelf.random.random() < SLOW_SHARE:
            took_s *= SLOW_FACTOR
        done: asyncio.Future[int] = loop.create_future()
        shelf.writing += 1
        loop.outside(lambda: loop.call_later(took_s, self._apply, transaction, done))
        revision = await done
        self.life.act()
        return revision

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Change]:
        """See the port."""
        seen, shelf = after, self.shelf
        while True:
            await self._usable()
            if len(shelf.changes) >= CHANGES_KEPT and shelf.changes[0].revision > seen + 1:
                raise ConflictError("the history of changes does not reach back", "read anew")
            revision = shelf.revision
            for change in shelf.changes_after(seen):
                if change.key.startswith(prefix):
                    yield change
            seen = revision
            if shelf.revision == seen:
                await shelf.news()
            self.life.check()

    async def events(self, after: int, limit: int, service: str | None = None) -> Sequence[Event]:
        """See the port."""
        await self._use(READ_S)
        of = [one for one in self.shelf.events if service is None or one.subject.partition("/")[0] == service]
        return of[after:] if after < 0 else [one for one in of if one.number > after][:limit]

    async def close(self) -> None:
        """The shelf stays."""

    def _apply(self, transaction: Transaction, done: "asyncio.Future[int]") -> None:
        self.shelf.writing -= 1
        try:
            if self.shelf.failing_for_s is not None:
                raise UnavailableError("the database is locked", "find out who locks it")
            revision = self.shelf.apply(transaction)
        except (ConflictError, UnavailableError) as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(revision)

    async def _use(self, took_s: float) -> None:
        self.life.check()
        await self._usable()
        await asyncio.sleep(took_s)
        self.life.check()

    async def _usable(self) -> None:
        self.life.check()
        failing_s = self.shelf.failing_for_s
        if failing_s is not None:
            await asyncio.sleep(failing_s)
            raise UnavailableError("the database is locked", "find out who locks it")
