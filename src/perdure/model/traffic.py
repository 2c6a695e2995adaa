"""What the balancer is told and what it tells: backends, servers, counters. Terms are HAProxy's.

A backend has a fixed number of servers `s1` .. `sN`; a replica is put into a free one over the runtime socket, so that
membership never reloads anything.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from perdure.model.service import Address, Service

WEIGHT = 100
"""What every server weighs, unless its replica is on trial."""


class Admin(StrEnum):
    """The administrative state of a server in HAProxy."""

    READY = "ready"  # gets requests while HAProxy holds it to be up
    DRAIN = "drain"  # finishes what it has
    MAINT = "maint"  # out: no requests, no checks


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals of one server since HAProxy started; a smaller value than before means that HAProxy is a new process."""

    requests: int = 0
    connect_errors: int = 0
    response_errors: int = 0
    responses_5xx: int = 0
    retries: int = 0
    redispatches: int = 0
    responses: int = 0
    """HTTP answers of any status that came from the server."""

    @property
    def repeated(self) -> int:
        """Tries that failed here and were repeated; HAProxy counts most of them in both ways."""
        return max(self.retries, self.redispatches)


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a backend as HAProxy reports it. `port` is 0 while no replica was ever put in."""

    name: str
    port: int
    admin: Admin
    up: bool
    sessions: int
    """Requests or connections in flight or queued."""
    idle_connections: int
    """Pooled connections kept open to the replica."""
    counters: Counters
    weight: int = WEIGHT
    """Only true of a server that is ready and up."""
    failing: bool = False
    """It is up, but HAProxy's last own check of it failed."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One service as HAProxy reports it."""

    service: str
    servers: tuple[Server, ...]
    queued: int = 0
    retry_allowed: bool = True
    """Whether L7 retries are switched on (the retry budget)."""
    epoch: int = 0
    """What requests of an active-passive service carry as X-Perdure-Epoch."""


class Answered(NamedTuple):
    """One request of a client, from HAProxy's log; good ones are a sample."""

    service: str
    port: int
    """Of the replica that was asked last."""
    method: str
    path: str
    """Without the query."""
    status: int
    """What the client got; HAProxy's own 502 and 504 included."""
    response_ms: int | None
    """From the request at the replica to the head of its answer; None: there was no answer."""
    tries: int
    """How often it was sent; after the first time mostly to another replica."""
    stands_for: int
    """How many requests like it this line stands for; a failed one (5xx) stands for itself."""
    client: str = ""
    """Its address: the peer's, or the one that a trusted proxy has seen."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of the whole balancer."""

    at: float
    pid: int
    backends: tuple[Backend, ...]
    lingering: frozenset[int] = frozenset()
    """Ports of replicas to which processes that were replaced still have connections."""
    answered: tuple[Answered, ...] = ()
    """The lines of the log since the reading before."""


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """What the configuration must hold for one service: the service itself and how many servers to reserve."""

    service: Service
    servers: int
    by_weight: bool = False
    """Requests are dealt out exactly by the weights of the servers, rather than to the one with the fewest."""


@dataclass(frozen=True, slots=True)
class PutServer:
    """Point a server to a replica with this administrative state; READY also tells HAProxy that it is up."""

    service: str
    server: str
    address: Address | None
    """None: leave the address as it is, change only the state."""
    admin: Admin


@dataclass(frozen=True, slots=True)
class WeighServer:
    """Let the server have more or fewer requests than the others, which weigh `WEIGHT`."""

    service: str
    server: str
    weight: int


@dataclass(frozen=True, slots=True)
class CloseServer:
    """End every connection that the server still has (`shutdown sessions server`)."""

    service: str
    server: str


@dataclass(frozen=True, slots=True)
class SetRetry:
    """Switch the L7 retries of a service on or off."""

    service: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class SetEpoch:
    """Let the requests of an active-passive service carry this epoch from now on."""

    service: str
    epoch: int


BalancerChange = PutServer | WeighServer | CloseServer | SetRetry | SetEpoch
