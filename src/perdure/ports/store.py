"""The store: a small revisioned key-value map with compare-and-swap, watches, and a bounded history of events.

Keys are `/`-separated names (`desired/service/web`), values are JSON documents. The controller writes only
`desired/*`, the agent only `observed/*`. One SQLite file holds it on one machine; the shape is what etcd offers, so
that it can be changed.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from perdure.model.event import Event

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A stored document and the revision of the transaction that wrote it."""

    value: Document
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All records under a prefix as of one revision."""

    revision: int
    records: Mapping[str, Record]


@dataclass(frozen=True, slots=True)
class Change:
    """One key written (`record`) or deleted (`record` is None) in transaction `revision`."""

    key: str
    record: Record | None
    revision: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Everything in it happens, or nothing: first all `expect` must hold, then puts, deletes and events are written."""

    expect: Mapping[str, int] = field(default_factory=dict)
    """Key -> revision it must have now; 0 means that it must not exist."""
    put: Mapping[str, Document] = field(default_factory=dict)
    delete: Sequence[str] = ()
    events: Sequence[Event] = ()
    durable: bool = False
    """True: on disk (fsync) before `commit` returns, as an acknowledged command must be. False: survives SIGKILL of the
    daemon, but a power cut may take back the last transactions, in order."""


class Store(Protocol):
    """Every method raises UnavailableError when the store cannot be used in bounded time (2 s), CorruptionError when
    it is damaged.
    """

    async def read(self, prefix: str) -> Snapshot:
        """All records whose key starts with `prefix`, as of one revision."""

    async def commit(self, transaction: Transaction) -> int:
        """Apply atomically and return the new revision; ConflictError, and no change, when an expectation fails."""

    def watch(self, prefix: str, after: int) -> AsyncIterator[Change]:
        """Every change under `prefix` with a revision above `after`, in order, without end. Changes made while nobody
        watched are delivered too, as long as the bounded change history reaches back; otherwise ConflictError: read
        anew."""

    async def events(self, after: int, limit: int, service: str | None = None) -> Sequence[Event]:
        """Up to `limit` events with a number above `after`, oldest first; with `service`, those about it and its slots.
        A negative `after` counts from the end: -20 gives the last 20."""

    async def close(self) -> None:
        """Flush and release; further calls raise UnavailableError."""
