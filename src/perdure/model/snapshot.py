"""Snapshots of a service's state: what is kept, and what is known of each copy.

A snapshot is an immutable, verified copy, with the epoch in which it was taken. Its content is a list of entries (files
of a directory, one database, or one stream of bytes), each cut into chunks that the store keeps once. The epoch orders
who was active, the data epoch which history the content belongs to: it is raised each time that somebody goes back.
Neighbours: `prevent.snapshot` decides when one is taken and which are kept, `ports.keeper` does it.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class StateKind(StrEnum):
    """What the state is made of, and so how a copy of it is made."""

    FILES = "files"
    SQLITE = "sqlite"
    COMMAND = "command"


class Consistency(StrEnum):
    """How a directory is kept from changing while it is copied."""

    PAUSE = "pause"
    """The process is stopped meanwhile."""
    COMMAND = "command"
    """The service's own commands are run before and after."""
    NONE = "none"
    """It is not: each file is whole as long as nobody writes to it just then."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What of a service must survive, and how: the declared `[service.X.state]`.

    `path` is relative to the directory that each slot has of its own (`$PERDURE_STATE`).
    """

    kind: StateKind
    path: str = "."
    every_s: float = 60.0
    """Between two snapshots. What the loss of the directory, or of the machine, may cost is this and the time that one
    takes; three times that time when it is more than half of this (`prevent.snapshot.due`)."""
    keep: int = 24
    """Snapshots that are kept beside those that are pinned, proven or in use."""
    consistency: Consistency = Consistency.PAUSE
    max_loss_s: float | None = None
    """A replica whose newest snapshot is older is not promoted without being told to; None: any may be."""
    take: tuple[str, ...] = ()
    """Kind `command`: writes the state to its standard output."""
    restore: tuple[str, ...] = ()
    """Kind `command`: reads it from its standard input."""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Consistency `command`: run before and after the copy."""
    check: str = ""
    """Kind `sqlite`: a query whose first value must be true of every restored database."""
    key_file: str = ""
    """A file with 32 random bytes, in hexadecimal: the snapshots are encrypted with it (AES-256-GCM)."""
    drill_every_s: float = 86_400.0
    """A snapshot is restored aside, checked and timed at least so often."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One snapshot: whose, of when, how large, and of which content; it exists once its packs are on the disk."""

    id: str
    """`s-0193`: counts up for each service."""
    service: str
    slot: str
    """The slot whose state it is a copy of (`notes/2`)."""
    kind: StateKind
    parent: str | None
    epoch: int
    data_epoch: int
    taken_at: float
    """Unix time, seconds, at which the copy was consistent: all that was committed before is in it."""
    took_s: float
    size_bytes: int
    """Of the content."""
    stored_bytes: int
    """What it added to the store."""
    digest: str
    """SHA-256 of the content list, in hexadecimal: two snapshots with the same digest hold the same state."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A snapshot was restored aside and checked: when, how long it took, and what was wrong if anything was."""

    at: float
    took_s: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """It is kept until then (Unix time; None: until it is unpinned), for this reason."""

    until: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot in the store, and what was learned of it since."""

    manifest: Manifest
    pin: Pin | None = None
    proof: Proof | None = None
    marks: tuple[str, ...] = ()
    """Names of the markers that point to it."""


@dataclass(frozen=True, slots=True)
class TableLoss:
    """Rows of one table that would be lost, or that would change back."""

    table: str
    inserted: int
    """In the present, not in the snapshot."""
    updated: int
    deleted: int
    """In the snapshot, not in the present."""
    newest: str = ""
    """The highest value of the first column that looks like a time, among the rows that would be lost."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What going back to a snapshot would cost. Exact by rows for databases, by files for directories."""

    seconds: float
    """From the snapshot to the present."""
    tables: tuple[TableLoss, ...] = ()
    added: tuple[str, ...] = ()
    """Files that are not in the snapshot; at most 1,000 names, `added_count` has them all."""
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added_count: int = 0
    changed_count: int = 0
    removed_count: int = 0
    size_now: int = 0
    size_then: int = 0
    remarks: tuple[str, ...] = field(default=())
    """What is not covered, and why."""
