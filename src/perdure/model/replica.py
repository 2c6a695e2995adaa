"""Slots and replicas: identities, and the one table of states that a replica goes through.

A restart is a new replica in the same slot, so states only move forward, with two exceptions that are the point of
Perdure: suspicion and isolation can be taken back. Deciders return `Event`s; `control.turn` looks them up here.
"""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """A numbered place for a replica of a service on a host; numbers count from 1. Written `web/2`."""

    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Slot":
        """Read `web/2`; raises ValueError for anything else."""
        service, _, number = text.rpartition("/")
        if not service or not number.isdecimal() or int(number) < 1:
            raise ValueError(f"not a slot: {text!r}")
        return cls(service, int(number))


class State(StrEnum):
    """The states of a replica, each with what is guaranteed while it lasts."""

    STARTING = "starting"  # its process runs or is being started; it gets no traffic
    PASSIVE = "passive"  # it answered its checks, and stands by: it gets no traffic until it is told to be active
    READY = "ready"  # it answered every check on its own port; it gets traffic
    SUSPECT = "suspect"  # it gets traffic; half of what would convict it speaks against it
    ISOLATED = "isolated"  # it gets no new requests; reversible at once
    DRAINING = "draining"  # it gets no new requests, and those in flight are being finished
    STOPPING = "stopping"  # it gets no traffic; its process group was told to end, and is killed at the deadline
    STOPPED = "stopped"  # its whole process group is gone


SERVING = frozenset({State.READY, State.SUSPECT})
LIVE = frozenset(State) - {State.STOPPED}


class Event(StrEnum):
    """What can happen to a replica."""

    ANSWERED = "answered"
    STOOD_BY = "stood by"
    PROMOTED = "promoted"
    SUSPECTED = "suspected"
    CLEARED = "cleared"
    CONVICTED = "convicted"
    READMITTED = "readmitted"
    DRAIN_WANTED = "drain wanted"
    DRAIN_ENDED = "drain ended"
    STOP_WANTED = "stop wanted"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table: where it leads, the rule's id, and a sentence for a person."""

    to: State
    rule: str
    sentence: str


TABLE: dict[tuple[State, Event], Transition] = {
    (State.STARTING, Event.ANSWERED): Transition(State.READY, "S01", "answered its checks on its own port"),
    (State.STARTING, Event.STOP_WANTED): Transition(State.STOPPING, "S02", "is ended before it became ready"),
    (State.STARTING, Event.EXITED): Transition(State.STOPPED, "S03", "ended before it became ready"),
    (State.STARTING, Event.STOOD_BY): Transition(State.PASSIVE, "S23", "answered its checks, and stands by"),
    (State.PASSIVE, Event.PROMOTED): Transition(State.READY, "S24", "was told to be active, and gets requests"),
    (State.PASSIVE, Event.STOP_WANTED): Transition(State.STOPPING, "S25", "is ended"),
    (State.PASSIVE, Event.EXITED): Transition(State.STOPPED, "S26", "ended by itself"),
    (State.READY, Event.SUSPECTED): Transition(
        State.SUSPECT, "S04", "is suspected: half of what would convict it speaks against it"
    ),
    (State.READY, Event.CONVICTED): Transition(State.ISOLATED, "S05", "is isolated: it gets no new requests"),
    (State.READY, Event.DRAIN_WANTED): Transition(State.DRAINING, "S06", "finishes its requests, and gets no new ones"),
    (State.READY, Event.STOP_WANTED): Transition(State.STOPPING, "S07", "is ended"),
    (State.READY, Event.EXITED): Transition(State.STOPPED, "S08", "ended by itself"),
    (State.SUSPECT, Event.CLEARED): Transition(State.READY, "S09", "is no longer suspected"),
    (State.SUSPECT, Event.CONVICTED): Transition(State.ISOLATED, "S10", "is isolated: it gets no new requests"),
    (State.SUSPECT, Event.DRAIN_WANTED): Transition(
        State.DRAINING, "S11", "finishes its requests, and gets no new ones"
    ),
    (State.SUSPECT, Event.STOP_WANTED): Transition(State.STOPPING, "S12", "is ended"),
    (State.SUSPECT, Event.EXITED): Transition(State.STOPPED, "S13", "ended by itself"),
    (State.ISOLATED, Event.READMITTED): Transition(State.READY, "S14", "is readmitted: it gets requests again"),
    (State.ISOLATED, Event.STOP_WANTED): Transition(State.STOPPING, "S16", "is ended"),
    (State.ISOLATED, Event.EXITED): Transition(State.STOPPED, "S17", "ended by itself"),
    (State.DRAINING, Event.DRAIN_ENDED): Transition(State.ISOLATED, "S18", "has finished its requests"),
    (State.DRAINING, Event.READMITTED): Transition(State.READY, "S19", "gets requests again"),
    (State.DRAINING, Event.STOP_WANTED): Transition(State.STOPPING, "S20", "is ended"),
    (State.DRAINING, Event.EXITED): Transition(State.STOPPED, "S21", "ended by itself"),
    (State.STOPPING, Event.EXITED): Transition(State.STOPPED, "S22", "ended as it was told"),
}


def advance(state: State, event: Event) -> Transition:
    """Look up what `event` does to a replica in `state`; a pair that has no row is a bug, and a KeyError."""
    return TABLE[state, event]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `code` or `signal` (a name such as SIGKILL); both None when only its absence was seen."""

    code: int | None = None
    signal: str | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"signal {self.signal}"
        return "unknown exit status" if self.code is None else f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Process:
    """A live process, named so that a reused pid is not mistaken for it.

    `started_ticks` is field 22 of /proc/PID/stat: clock ticks between boot and the start of the process.
    """

    pid: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One run of one release in one slot, from start to exit; `run` counts the runs of the slot from 1."""

    slot: Slot
    run: int
    release: str
    generation: int
    port: int
    state: State
    since_at: float
    """Monotonic instant at which `state` was entered."""
    process: Process | None = None
    stop_deadline_at: float | None = None
    """While STOPPING: when the process group is killed."""
    token: str = field(default="", repr=False)
    """Part of the replica's heartbeat address; secret, so that nobody else can vouch for it."""
    epoch: int = 0
    """The term in which it is active; 0: it stands by, or its service is active-active."""

    @property
    def name(self) -> str:
        """The name of this run, unique for ever: `web/2#5`."""
        return f"{self.slot}#{self.run}"
