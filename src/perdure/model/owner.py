"""Who may be active: the record that says so, its terms, and one host's right that follows from it.

An active-passive service has one owner, a slot of a host, for a term that ends unless it is renewed. The epoch numbers
the terms: it only grows, and whoever receives something from an active replica can refuse an older one (a fencing
token). Neighbours: `prevent.ownership` decides, `control.claim` keeps the record.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a right lasts, in seconds, and by how much clocks may differ."""

    ttl_s: float = 3.0
    renew_every_s: float = 1.0
    margin_s: float = 0.5
    """The holder stops so much before its right ends, so that there is time to kill."""
    drift: float = 0.01
    """How much faster than another one a clock may run."""
    rivals: bool = True
    """Whether another host may take the record; without one, the right does not end with the daemon."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The record `owner/SERVICE`: the owner, its epoch, and a number that each renewal raises."""

    service: str
    slot: str
    host: str
    epoch: int
    ttl_s: float
    sequence: int = 0
    data_epoch: int = 0
    """The history that the owner's data belongs to; raised by going back to a snapshot."""
    handover: int = 0
    """The number of the last handover by command that was carried out, or that something else has settled."""
    rollback: int = 0
    """The number of the last rollback that was carried out, or that has failed: `data_epoch` tells which."""
    released: bool = False
    """The owner has given it up: nobody is active, and whoever is next need not wait."""
    nonce: str = ""
    """Drawn anew for each write, so that the writer of an ambiguous one knows its own."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The record as a host knows it: `changed_at` is when it *saw* the last change, by its own monotonic clock."""

    owner: Owner | None = None
    revision: int = 0
    changed_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Right:
    """The right of this host to let one slot be active; it ends at `until_at` (monotonic; infinite: it does not)."""

    epoch: int
    slot: str
    until_at: float
    kill_at: float
    """When what is still running must be killed."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a host knows of the present term of a service, as a fact for its deciders."""

    owner: int | None = None
    """The slot of this host that is the owner; None: none is, or it is a slot of another host."""
    epoch: int = 0
    data_epoch: int = 0
    handover: int = 0
    rollback: int = 0
    holds: bool = False
    """This host may let its owner be active."""
    takeable: bool = False
    """This host may begin a new term."""
    busy: bool = False
    """A new term is being begun."""
    stuck: bool = False
    """The store did not take the last one a moment ago."""
    known: bool = True
    """The record was read; while it was not, nothing follows from who runs."""


@dataclass(frozen=True, slots=True)
class Handover:
    """A command: another slot is to be active, this one or (None) whichever is best. `number` counts the commands."""

    number: int
    slot: int | None = None
    accept_loss: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slot that could become active, and how current its state is."""

    slot: str
    host: str
    data_epoch: int
    behind_s: float
    """How much of the present it lacks, in seconds; 0: nothing."""
    ready: bool
    """It answers its checks, or needs only to be started."""
