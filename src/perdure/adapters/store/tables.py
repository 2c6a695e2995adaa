"""The statements on the store's tables, synchronous, for one connection; `sqlite` runs them in its worker thread.

A transaction checks what it expects, writes records, changes and events, and counts the revision up by one. Histories
are cut in batches, in the transaction that fills a batch, so that most commits do not pay for it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from perdure.adapters.store import failures
from perdure.adapters.store.files import Mark
from perdure.model.errors import ConflictError
from perdure.model.event import Event, Severity
from perdure.ports.store import Change, Document, Record, Snapshot, Transaction

CHANGES_KEPT = 10_000
EVENTS_KEPT = 100_000
_SEVERITIES = frozenset(severity.value for severity in Severity)
TRIM_BATCH = 1_000
"""Rows beyond the bound before a history is cut back to it."""

Place = tuple[int, int]
"""Where a watcher is in the changes: revision, and number in it."""

_LAST_IN_REVISION = 2**62
_LAST_CHARACTER = "\U0010ffff"
"""Above every character of a key, so that [prefix, prefix + it) holds the keys with that prefix."""

_READ = """
SELECT (SELECT value FROM meta WHERE name = 'revision'),
       (SELECT '[' || group_concat('[' || json_quote(key) || ',' || revision || ',' || value || ']' ORDER BY key) || ']'
        FROM records WHERE key >= ?1 AND key < ?2)
"""
"""One row for all records: each step of a statement waits for the interpreter's lock, which a busy loop holds long."""


@dataclass(frozen=True, slots=True)
class Writes:
    """A transaction as the tables take it: documents as JSON text, made before the caller can change them."""

    expect: Mapping[str, int]
    put: Sequence[tuple[str, str]]
    delete: Sequence[str]
    events: Sequence[tuple[float, str, str, str, str, str, str]]
    durable: bool

    @classmethod
    def of(cls, transaction: Transaction) -> "Writes":
        """Encode a transaction; TypeError or ValueError when a document has no JSON form (NaN has none)."""
        assert not set(transaction.put) & set(transaction.delete), "a key is both put and deleted"
        assert all(transaction.put), "a key is empty"
        return cls(
            dict(transaction.expect),
            [(key, _text(document)) for key, document in transaction.put.items()],
            tuple(transaction.delete),
            [_row(event) for event in transaction.events],
            transaction.durable,
        )

    def keys(self) -> list[str]:
        """The keys that are put or deleted."""
        return [key for key, _ in self.put] + list(self.delete)


class Tables:
    """One open database. Not for two threads at a time; raises `apsw` errors as they come."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self.connection = connection
        self._path = path
        self._mark: Mark | None = None
        self._full_sync: bool | None = None
        self._changes_since_cut = self._events_since_cut = TRIM_BATCH

    def keep_mark(self, mark: Mark) -> None:
        """Note durable transactions there, from now on until `close`."""
        self._mark = mark

    def revision(self) -> int:
        """The revision of the newest transaction."""
        return int(self._value("SELECT value FROM meta WHERE name = 'revision'"))

    def read(self, prefix: str) -> Snapshot:
        """See `ports.store.Store.read`."""
        revision, text = self._rows(_READ, (prefix, prefix + _LAST_CHARACTER))[0]
        rows = self._parsed(text or "[]")
        return Snapshot(revision, {key: Record(value, written) for key, written, value in rows})

    def commit(self, writes: Writes) -> tuple[int, bool]:
        """Apply `writes`; returns the new revision, and whether old changes were cut off."""
        if writes.durable is not self._full_sync:
            # Refused inside a transaction; FULL also syncs what NORMAL left in the log before.
            self.connection.execute(f"PRAGMA synchronous = {'FULL' if writes.durable else 'NORMAL'}")
            self._full_sync = writes.durable
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            revision = self._write(writes)
            cut = self._cut(len(writes.put) + len(writes.delete), len(writes.events))
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        if writes.durable and self._mark is not None:
            self._mark.advance(revision)
        return revision, cut

    def changes(self, prefix: str, after: Place, limit: int) -> tuple[list[Change], Place]:
        """Up to `limit` changes under `prefix` after a place, and the place to go on from; ConflictError when the
        history does not hold them all."""
        found = self._rows(
            "SELECT revision, number, key, value FROM changes"
            " WHERE (revision, number) > (?, ?) AND key >= ? AND key < ? ORDER BY revision, number LIMIT ?",
            (*after, prefix, prefix + _LAST_CHARACTER, limit),
        )
        # Read after the rows: had they been cut meanwhile by somebody else, this says so.
        floor = self._value("SELECT value FROM meta WHERE name = 'changes_floor'")
        newest = self.revision()
        if not after_revision(floor) <= after <= after_revision(newest):
            raise ConflictError(
                f"the changes after revision {after[0]} are not kept (the store has {floor} to {newest})",
                "read the records again, and watch from the revision of that reading",
            )
        changes = [self._change(revision, key, value) for revision, _, key, value in found]
        return changes, ((found[-1][0], found[-1][1]) if len(found) == limit else after_revision(newest))

    def events(self, after: int, limit: int, service: str | None) -> list[Event]:
        """See `ports.store.Store.events`."""
        where, about = ("service = ? AND ", (service,)) if service is not None else ("", ())
        if after < 0:
            row = self.connection.execute(
                f"SELECT number FROM events WHERE {where} true ORDER BY number DESC LIMIT 1 OFFSET ?",
                (*about, -after - 1),
            ).fetchone()
            after = row[0] - 1 if row else 0
        rows = self._rows(
            "SELECT rule, subject, sentence, facts, severity, wall_at, number FROM events"
            f" WHERE {where} number > ? ORDER BY number LIMIT ?",
            (*about, after, max(limit, 0)),
        )
        return [self._event(*row) for row in rows]

    def check(self) -> None:
        """CorruptionError when the structure of the file is damaged; reads all of it."""
        findings = self.connection.execute("PRAGMA quick_check(1)").fetchall()
        if findings != [("ok",)]:
            raise failures.damaged(self._path, str(findings[0][0]))

    def close(self) -> None:
        """Write the log back into the database, and release both."""
        self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self.connection.close()
        if self._mark is not None:
            self._mark.close()

    def _write(self, writes: Writes) -> int:
        for key, expected in writes.expect.items():
            row = self.connection.execute("SELECT revision FROM records WHERE key = ?", (key,)).fetchone()
            found = row[0] if row else 0
            if found != expected:
                raise ConflictError(
                    f"{key} was changed by somebody else (it has revision {found}, not {expected})",
                    "read it again and repeat",
                )
        revision = self.revision() + 1
        changed: list[tuple[str, str | None]] = list(writes.put)
        self.connection.executemany(
            "INSERT OR REPLACE INTO records (key, value, revision) VALUES (?, ?, ?)",
            [(key, text, revision) for key, text in writes.put],
        )
        for key in writes.delete:
            if self.connection.execute("DELETE FROM records WHERE key = ? RETURNING 1", (key,)).fetchall():
                changed.append((key, None))
        self.connection.executemany(
            "INSERT INTO changes (revision, number, key, value) VALUES (?, ?, ?, ?)",
            [(revision, number, key, text) for number, (key, text) in enumerate(changed)],
        )
        # SQLite numbers a row one above the largest number there is, and the newest event is never cut off: no gaps.
        self.connection.executemany(
            "INSERT INTO events (wall_at, rule, subject, service, severity, sentence, facts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            writes.events,
        )
        self.connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (revision,))
        return revision

    def _cut(self, changes: int, events: int) -> bool:
        """Count what was written, and cut a history that grew by a batch; True when changes were cut off."""
        self._changes_since_cut += changes
        self._events_since_cut += events
        if self._events_since_cut >= TRIM_BATCH:
            self.connection.execute(
                "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (EVENTS_KEPT,)
            )
            self._events_since_cut = 0
        if self._changes_since_cut < TRIM_BATCH:
            return False
        self._changes_since_cut = 0
        row = self.connection.execute(
            "SELECT revision FROM changes ORDER BY revision DESC, number DESC LIMIT 1 OFFSET ?", (CHANGES_KEPT,)
        ).fetchone()
        if row is None:
            return False
        self.connection.execute("DELETE FROM changes WHERE revision <= ?", row)
        self.connection.execute("UPDATE meta SET value = ? WHERE name = 'changes_floor'", row)
        return True

    def _rows(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        return self.connection.execute(sql, bindings).fetchall()

    def _value(self, sql: str) -> Any:
        row = self.connection.execute(sql).fetchone()
        if row is None:
            raise failures.damaged(self._path, "a counter is missing")
        return row[0]

    def _change(self, revision: int, key: str, value: str | None) -> Change:
        return Change(key, None if value is None else Record(self._parsed(value), revision), revision)

    def _event(self, rule: str, subject: str, sentence: str, facts: str, severity: str, *last: Any) -> Event:
        if severity not in _SEVERITIES:
            raise failures.damaged(self._path, f"an event has the severity {severity!r}")
        return Event(rule, subject, sentence, self._parsed(facts), Severity(severity), *last)

    def _parsed(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise failures.damaged(self._path, f"a document is not JSON ({error})") from None


def after_revision(revision: int) -> Place:
    """The place after all changes of a revision."""
    return revision, _LAST_IN_REVISION


def _text(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _row(event: Event) -> tuple[float, str, str, str, str, str, str]:
    subject, sentence = _printable(event.subject), _printable(event.sentence)
    service = subject.partition("/")[0]
    return event.wall_at, event.rule, subject, service, event.severity.value, sentence, _text(dict(event.facts))


def _printable(text: str) -> str:
    """Sentences quote what replicas wrote, which may hold bytes of no encoding; SQLite takes only UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
