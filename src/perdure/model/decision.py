"""What deciders return: one change each, with the rule, the facts and a sentence that says why.

`control.turn` gathers them, `control.agent` records each as an event before `control.execute` acts. A decision taken
twice on the same facts is the same decision, so an act that was interrupted is simply decided again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from perdure.model.event import Fact, Severity
from perdure.model.replica import Event, Slot


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a new replica in an empty slot."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Advance:
    """Something happened to the slot's replica, or is wanted of it: see `model.replica.TABLE`."""

    slot: Slot
    event: Event


@dataclass(frozen=True, slots=True)
class End:
    """Tell the replica's process group to end, and kill it after `grace_s`; with 0 it is killed at once."""

    slot: Slot
    grace_s: float
    failed: bool
    """True when the replica failed, so that the slot's back-off counts it; False when the end was planned."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The grace is over: SIGKILL to the whole group."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Take:
    """Begin a new term of an active-passive service, with this slot as its owner; `handover` is the last command that
    is settled by it.
    """

    slot: Slot
    handover: int = 0


@dataclass(frozen=True, slots=True)
class Promote:
    """Tell the warm replica in this slot that it is active now, with the epoch of the present term."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Exchange:
    """Put older data into this slot, which is the owner's and has no process, and begin a new term with it."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Note:
    """Nothing changes, but somebody should know; `key` names the condition, so that it is told once while it lasts."""

    key: str


Change = Begin | Advance | End | Kill | Take | Promote | Exchange | Note


def outward(change: Change) -> bool:
    """Whether a process, HAProxy or a client would notice it: what is only told, or suspected, need not wait for its
    record.
    """
    inward = isinstance(change, Advance) and change.event in (Event.SUSPECTED, Event.CLEARED)
    return not (inward or isinstance(change, Note))


@dataclass(frozen=True, slots=True)
class Decision:
    """One change and why: rule id, what it is about (`web`, `web/2`), a sentence, and the facts used."""

    rule: str
    subject: str
    sentence: str
    change: Change
    facts: Mapping[str, Fact] = field(default_factory=dict)
    severity: Severity = Severity.INFO
