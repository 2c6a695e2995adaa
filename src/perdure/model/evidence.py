"""Single observations about one replica, by class, as `detect` adds them up.

All instants are monotonic seconds of the daemon's clock. Missing evidence is unknown, not failure: there is no value
for it.
"""

from dataclasses import dataclass
from enum import StrEnum

from perdure.model.replica import Exit


class EvidenceClass(StrEnum):
    """Independent ways of knowing (see the internals page on detection)."""

    EXIT = "exit"  # E1: the process is gone
    PROCESS = "process"  # E1: the kernel says that the process is stopped or dead
    LIMIT = "limit"  # E1: a declared limit is passed
    PROBE = "probe"  # E2: Perdure asked
    HEARTBEAT = "heartbeat"  # E2': the service told
    TRAFFIC = "traffic"  # E3: requests of clients that fail
    REFUSALS = "refusals"  # E3: requests of clients that are answered with 4xx
    TIMES = "times"  # E3: how long clients wait for an answer
    STALL = "stall"  # E3: requests that are never answered
    DIGEST = "digest"  # E2: what it says of its data, compared with the others


class Outcome(StrEnum):
    """What a probe found."""

    GOOD = "good"
    REFUSED = "refused"  # nothing listens, or the connection was reset
    TIMEOUT = "timeout"  # no answer in time
    STATUS = "status"  # an answer with an unexpected status, or a command's exit code
    CONTENT = "content"  # the expected status with unexpected content
    FOREIGN = "foreign"  # a process that is not the replica's answers on its port


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of a replica is gone."""

    replica: str
    at: float
    exit: Exit


@dataclass(frozen=True, slots=True)
class Probed:
    """The result of one probe; `answer` is a short excerpt of what came back, for the failure capsule."""

    replica: str
    check: str
    started_at: float
    ended_at: float
    outcome: Outcome
    answer: str = ""
    certificate_until: float | None = None
    """Until when the replica's certificate is valid (Unix time, seconds); None: unknown."""
    clock_ahead_s: float | None = None
    """By how many seconds the replica's clock is ahead of the host's; None: unknown."""


@dataclass(frozen=True, slots=True)
class Sighted:
    """What the kernel says of a replica's process: the state letter of /proc/PID/stat, and the group's resident
    memory.
    """

    replica: str
    at: float
    letter: str
    group_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What a replica holds of what is limited; a limit of 0 means that this look does not know."""

    replica: str
    at: float
    backlog: int = 0
    """Connections that wait to be accepted."""
    backlog_max: int = 0
    descriptors: int = 0
    descriptors_max: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat arrived."""

    replica: str
    at: float


@dataclass(frozen=True, slots=True)
class Served:
    """What clients got from a replica between two readings of HAProxy's counters."""

    replica: str
    at: float
    requests: int
    failures: int
    """Connection errors, broken answers and 5xx, at most `requests`."""


@dataclass(frozen=True, slots=True)
class Space:
    """A file system: what is free for whom asks, and what there is; `total_files` 0: it does not count them."""

    free_bytes: int
    total_bytes: int
    free_files: int = 0
    total_files: int = 0


@dataclass(frozen=True, slots=True)
class Tasks:
    """Threads and processes: how many there are, and how many may be, together, for whom."""

    used: int
    limit: int
    whose: str


MEASURED = frozenset({EvidenceClass.TRAFFIC, EvidenceClass.REFUSALS, EvidenceClass.TIMES})
"""What clients got, compared with the peers: it needs traffic, so an isolated replica can only be tried again."""


Evidence = Exited | Probed | Sighted | Held | Beat | Served
