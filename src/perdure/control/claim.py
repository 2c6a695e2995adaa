"""One host's side of the ownership of one service: it keeps the record, and knows its own right.

Every write is a compare-and-swap on the revision that was seen last, so two hosts can never both succeed. An answer
that got lost is resolved by reading back, never by sending again: each write carries a nonce, so its writer knows
whether it is there. A read alone never gives a right, for reads may be stale; that a read shows one's own write proves
that it happened, though. Neighbours: `prevent.ownership` holds the rules; `own` lets replicas be active by the right.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from perdure.model import codec
from perdure.model.errors import ConflictError, UnavailableError
from perdure.model.owner import Owner, Right, Seen, Terms
from perdure.ports.clock import Clock
from perdure.ports.store import Snapshot, Transaction
from perdure.prevent import ownership

PREFIX = "owner/"


class Records(Protocol):
    """What a claim needs of `ports.store.Store`, with the same promises."""

    async def read(self, prefix: str) -> Snapshot:
        """All records whose key starts with `prefix`."""

    async def commit(self, transaction: Transaction) -> int:
        """Apply atomically and return the new revision."""


def key(service: str) -> str:
    """Where the record of a service is stored."""
    return f"{PREFIX}{service}"


@dataclass(slots=True)
class Claim:
    """What one host knows of one record, and what it may do; `nonce` draws a word that nobody drew before."""

    service: str
    host: str
    clock: Clock
    store: Records
    terms: Terms
    nonce: Callable[[], str]
    seen: Seen = field(default_factory=Seen)
    right: Right | None = None
    """None: this host has none, or does not know of it."""
    sent_at: float = -math.inf
    """When the write was sent that gave the right."""
    highest: int = 0
    """The highest epoch that was ever seen here."""
    _pending: tuple[Owner, float] | None = None
    """A write of which nobody knows whether it happened, and when it was sent."""
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Two writes at once could end in the other order, and leave the right of the older one."""

    async def look(self) -> Seen:
        """Read the record; UnavailableError when the store does not answer."""
        snapshot = await self.store.read(key(self.service))
        record = snapshot.records.get(key(self.service))
        if record is None:
            self._see(None, 0)
        else:
            self._see(codec.decode(Owner, record.value), record.revision)
        return self.seen

    async def renew(self) -> bool:
        """Make the right last; False when somebody else has the record, or the store did not say. Where nobody else
        could take it, having read that it is one's own is enough: a store that takes no writes costs no right.
        """
        async with self._one_at_a_time:
            owner = self.seen.owner
            if owner is None or owner.host != self.host or owner.released:
                return False
            if not self.terms.rivals and self._pending is None:
                self._succeeded(owner, self.clock.now())
                return True
            return await self._write(replace(owner, sequence=owner.sequence + 1))

    async def take(
        self, slot: str, *, data_epoch: int | None = None, handover: int = 0, rollback: int | None = None
    ) -> bool:
        """Begin a new term with `slot` as the owner, when that may be; False when it may not, or did not succeed.
        `handover`, `rollback`: the last commands that are settled by it; None: as before.
        """
        async with self._one_at_a_time:
            if self.clock.now() < ownership.takeable_at(self.seen, self.host, self.terms):
                return False
            before = self.seen.owner
            history = before.data_epoch if before is not None else 0
            owner = Owner(
                self.service,
                slot,
                self.host,
                ownership.next_epoch(self.seen, self.highest),
                self.terms.ttl_s,
                data_epoch=history if data_epoch is None else data_epoch,
                handover=handover,
                rollback=rollback if rollback is not None else before.rollback if before is not None else 0,
            )
            return await self._write(owner)

    async def release(self) -> bool:
        """Give the record up, so that whoever is next need not wait; what was active must have ended before."""
        async with self._one_at_a_time:
            owner = self.seen.owner
            if owner is None or owner.host != self.host:
                return False
            self.right = None
            return await self._write(replace(owner, sequence=owner.sequence + 1, released=True))

    def holds(self, now: float) -> bool:
        """Whether this host may let its owner be active now."""
        return self.right is not None and now < self.right.until_at

    async def _write(self, owner: Owner) -> bool:
        if self._pending is not None:
            revision = self.seen.revision
            if not await self._resolve() or self.seen.revision != revision:
                return False  # what the caller wanted was for another record
        owner = replace(owner, nonce=self.nonce())
        expect = {key(self.service): self.seen.revision}
        put: dict[str, Any] = {key(self.service): codec.encode(owner)}
        sent_at = self.clock.now()
        try:
            revision = await self.store.commit(Transaction(expect=expect, put=put, durable=True))
        except ConflictError:
            await self._look_again()
            return False
        except UnavailableError:
            self._pending = (owner, sent_at)
            await self._resolve()
            return self._is_there(owner)
        self._see(owner, revision)
        self._succeeded(owner, sent_at)
        return True

    async def _resolve(self) -> bool:
        """Find out by reading what became of the pending write; False when the store does not answer.

        While the record is as it was, the write may still come; the next one on the same revision settles it, since
        only one of the two can succeed.
        """
        assert self._pending is not None
        owner, sent_at = self._pending
        revision = self.seen.revision
        if not await self._look_again():
            return False
        if self._is_there(owner):
            self._succeeded(owner, sent_at)
        elif self.seen.revision != revision:
            self._pending = None
        return True

    async def _look_again(self) -> bool:
        try:
            await self.look()
        except UnavailableError:
            return False
        return True

    def _is_there(self, owner: Owner) -> bool:
        return self.seen.owner is not None and self.seen.owner.nonce == owner.nonce

    def _succeeded(self, owner: Owner, sent_at: float) -> None:
        self._pending = None
        self.sent_at = sent_at
        self.right = None if owner.released else ownership.right(owner, sent_at, self.terms)

    def _see(self, owner: Owner | None, revision: int) -> None:
        """Note the record. An older revision is a stale read, and no news, as long as there is a right; without one it
        may be a store that was restored.
        """
        if revision < self.seen.revision and self.holds(self.clock.now()):
            return
        if revision != self.seen.revision or self.seen.changed_at == -math.inf:
            self.seen = Seen(owner, revision, self.clock.now())
        if owner is not None:
            self.highest = max(self.highest, owner.epoch)
            mine = owner.host == self.host and not owner.released
            if not mine or (self.right is not None and owner.epoch != self.right.epoch):
                self.right = None
