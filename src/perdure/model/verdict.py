"""What Perdure believes of a replica: a verdict names the evidence, how strong it is, and whose fault it is.

`detect` returns verdicts, `recover` acts on them; the sign is what several replicas can have in common.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from perdure.model.event import Fact
from perdure.model.evidence import EvidenceClass


class Sign(StrEnum):
    """What a failure looks like."""

    STOPPED = "stopped"  # the kernel keeps the process from running
    BLOCKED = "blocked"  # the process waits inside the kernel
    MEMORY = "memory"  # the group holds more memory than it may
    BACKLOG = "backlog"  # as many connections wait to be accepted as may
    DESCRIPTORS = "descriptors"  # it has no descriptors left
    HANG = "hang"  # it accepts the question and never answers
    REFUSED = "refused"  # nothing listens on its port, or it resets connections
    STATUS = "status"  # it answers with an error
    CONTENT = "content"  # it answers with the wrong content
    FOREIGN = "foreign"  # another process answers on its port
    SILENT = "silent"  # its heartbeat stopped
    REQUESTS = "requests"  # requests of clients fail on it more often than on its peers
    REFUSALS = "refusals"  # it answers 4xx more often than its peers
    SLOW = "slow"  # it answers slowly more often than its peers
    STALLED = "stalled"  # it takes requests and answers none
    DIVERGED = "diverged"  # its data are not those of its peers


class Scope(StrEnum):
    """Whose fault it is, when it is not one replica's."""

    RELEASE = "release"  # one release: replicas of another run beside it, and do not show it
    HOST = "host"  # this machine: a disk, a limit of its kernel
    DEPENDENCY = "dependency"  # what one endpoint needs: all replicas fail there
    OVERLOAD = "overload"  # clients ask for more than all replicas can do
    MONITOR = "monitor"  # Perdure's own path to the replicas
    SHARED = "shared"  # something that several replicas have in common, and nobody knows more


DEFINITIVE = frozenset({Sign.STOPPED, Sign.MEMORY, Sign.FOREIGN})
"""Signs that are facts of this machine; they convict alone, and no dependency can cause them."""

MEASURED = frozenset({Sign.REQUESTS, Sign.REFUSALS, Sign.SLOW})
"""Signs that only the requests of clients show."""

UNRESPONSIVE = frozenset({Sign.STOPPED, Sign.HANG, Sign.STALLED, Sign.SILENT, Sign.FOREIGN})
"""Signs that only a restart can repair."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One replica is held to have failed. `endpoint` is the label of the check that convicted, or empty."""

    evidence: EvidenceClass
    sign: Sign
    sentence: str
    endpoint: str = ""
    score: float = 0.0
    threshold: float = 0.0
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint at which a replica shows a sign in a good part of its requests: too little for a verdict on it, but
    several replicas may have it in common.
    """

    sign: Sign
    endpoint: str
    share: float
    """Of its requests in the last 10 s."""
    status: int = 0
    """The most frequent bad status; 0: there is none."""


@dataclass(frozen=True, slots=True)
class Common:
    """What several replicas show at one endpoint."""

    sign: Sign
    endpoint: str
    replicas: int
    share: float
    """The largest of their shares."""
    status: int


@dataclass(frozen=True, slots=True)
class Conviction:
    """A verdict that led to isolation, as readmission needs it: the evidence that convicted must acquit."""

    evidence: EvidenceClass
    sign: Sign
    endpoint: str
    at: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Deadly:
    """An endpoint whose requests coincide with deaths, how many of them and of how many, and since when."""

    endpoint: str
    deaths: int
    of: int
    since_at: float
    score: float
    """In nats."""
