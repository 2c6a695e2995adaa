"""Recording before acting: every change of state and every event goes to the store before the agent acts on it.

The store may be locked or full, and clients must not notice: so a record that is not written within a moment no longer
holds up the act, but stays in line, in order, and is written when the store is back. What protects a slot from a second
process in that case is the note that the launcher leaves on disk before the command runs (see the runner).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.event import Event
from perdure.ports.store import Document, Store, Transaction

PATIENCE_S = 0.2
"""How long an act waits for its record while the store takes nothing, in all."""
RETRY_S = 1.0
EVENTS_KEPT = 10_000
"""Events that are kept in memory while the store is away; the oldest are dropped first, and counted."""

log = structlog.get_logger()


@dataclass(slots=True)
class Recorder:
    """Writes documents and events in order, in the background; `on_failure` is told when the store goes or comes
    back.
    """

    store: Store
    on_failure: Callable[[str | None], None]
    documents: dict[str, Document | None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    dropped: int = 0
    failure: str | None = None
    """Why the store cannot be written now; None while it can."""
    _behind_since_at: float | None = None
    """Since when the store has taken nothing of what is in line, by the loop's clock; None: nothing is."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _written: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, documents: Mapping[str, Document | None], events: Sequence[Event]) -> None:
        """Put documents (None deletes) and events in line; returns at once."""
        self.documents.update(documents)
        self.events.extend(events)
        if len(self.events) > EVENTS_KEPT:
            surplus = len(self.events) - EVENTS_KEPT
            del self.events[:surplus]
            self.dropped += surplus
        if self._behind_since_at is None:
            self._behind_since_at = asyncio.get_running_loop().time()
        self._written.clear()
        self._wake.set()

    async def settled(self) -> bool:
        """Wait until everything in line is written, for a moment at most since the store last took something; not at
        all while it is known to be away.
        """
        if self.failure is not None or self._behind_since_at is None:
            return self.failure is None
        try:
            async with asyncio.timeout_at(self._behind_since_at + PATIENCE_S):
                await self._written.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Write what is in line, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.documents or self.events:
                if not await self._write():
                    await asyncio.sleep(RETRY_S)
                self._behind_since_at = asyncio.get_running_loop().time()
            self._behind_since_at = None
            self._written.set()

    async def _write(self) -> bool:
        documents, events = self.documents, self.events
        self.documents, self.events = {}, []
        transaction = Transaction(
            put={key: document for key, document in documents.items() if document is not None},
            delete=[key for key, document in documents.items() if document is None],
            events=events,
        )
        try:
            await self.store.commit(transaction)
        except (UnavailableError, CorruptionError) as error:
            self.documents = {**documents, **self.documents}
            self.events = events + self.events
            self._failed(error.sentence)
            return False
        self._failed(None)
        return True

    def _failed(self, sentence: str | None) -> None:
        if (sentence is None) is (self.failure is None):
            return
        self.failure = sentence
        if sentence is None:
            log.info("the store can be written again")
        else:
            log.error("the store cannot be written; Perdure goes on, and keeps what it would write", cause=sentence)
        self.on_failure(sentence)
