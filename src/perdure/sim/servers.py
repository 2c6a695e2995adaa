"""What is in a simulated HAProxy: requests, the servers of a backend with their counters, and who gets the answers.

`haproxy` is the process that works with them, `balancer` the daemon's view, `clients` send the requests.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

from perdure.model.service import Service
from perdure.model.traffic import WEIGHT, Admin, Backend, BackendSpec, Counters, Server
from perdure.sim.kernel import Reply, Runs

CHECK_S = 2.0


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client, from arrival to answer."""

    service: str
    arrived_at: float
    slow_s: float = 0.0
    """How long a replica works on it; 0 means no time that matters."""
    answer_bytes: int = 0
    bad: bool = False
    """It is the request's own fault that every replica answers with an error."""
    tries: int = 0
    entered_at: float = 0.0
    """When it began its current try, or its wait."""
    server: "SimulatedServer | None" = None
    runs: Runs | None = None
    failed_on: "SimulatedServer | None" = None
    """The server of the last try, which failed."""


@dataclass(slots=True, eq=False)
class SimulatedServer:
    """One server of a backend."""

    name: str
    port: int = 0
    admin: Admin = Admin.MAINT
    up: bool = True
    flights: dict[Request, None] = field(default_factory=dict)
    requests: int = 0
    connect_errors: int = 0
    response_errors: int = 0
    responses_5xx: int = 0
    retries: int = 0
    redispatches: int = 0
    responses: int = 0
    weight: int = WEIGHT
    credit: int = 0
    """What it is owed when requests are dealt out by weight."""
    check_at: float = 0.0
    check_fails: int = 0
    asking: bool = False

    @property
    def open(self) -> bool:
        """Whether it gets new requests."""
        return self.admin is Admin.READY and self.up and self.weight > 0

    @property
    def busy(self) -> float:
        """What least connections compares: a server without a request is idle whatever it weighs."""
        return (len(self.flights) + 1) / self.weight if self.flights else 0.0

    @property
    def failing(self) -> bool:
        """Whether its last check failed, and it is up nevertheless."""
        return self.up and self.check_fails > 0

    def turn_ready(self, now: float) -> None:
        """Admin state READY: HAProxy believes that the server is up until its checks say otherwise."""
        self.admin, self.up, self.check_fails, self.check_at = Admin.READY, True, 0, now + CHECK_S

    def shown(self) -> Server:
        """What `show stat` says of it."""
        counters = Counters(
            self.requests,
            self.connect_errors,
            self.response_errors,
            self.responses_5xx,
            self.retries,
            self.redispatches,
            self.responses,
        )
        return Server(
            self.name, self.port, self.admin, self.up, len(self.flights), 0, counters, self.weight, self.failing
        )


@dataclass(slots=True)
class SimulatedBackend:
    """One service in one HAProxy process."""

    service: Service
    servers: list[SimulatedServer]
    retry_allowed: bool = True
    epoch: int = 0
    by_weight: bool = False
    waiting: deque[Request] = field(default_factory=deque)
    turn: int = 0

    def full(self, server: SimulatedServer) -> bool:
        """Whether it has as many requests as it may."""
        most = self.service.limits.max_concurrent
        return most is not None and len(server.flights) >= most

    def choose(self, avoid: SimulatedServer | None) -> SimulatedServer | None:
        """The open server with the fewest requests, in turns; the one that just failed the request only if alone."""
        if self.by_weight:
            return self._dealt(avoid)
        servers = self.servers
        count = len(servers)
        best: SimulatedServer | None = None
        for step in range(count):
            server = servers[(self.turn + step) % count]
            if not server.open or server is avoid or self.full(server):
                continue
            if best is None or server.busy < best.busy:
                best = server
        if best is not None:
            self.turn = (servers.index(best) + 1) % count
        elif avoid is not None and avoid.open and avoid in servers and not self.full(avoid):
            best = avoid
        return best

    def _dealt(self, avoid: SimulatedServer | None) -> SimulatedServer | None:
        """The open server that is owed most: smooth weighted round robin."""
        able = [one for one in self.servers if one.open and not self.full(one)]
        able = [one for one in able if one is not avoid] or able
        if not able:
            return None
        for one in able:
            one.credit += one.weight
        best = max(able, key=lambda one: one.credit)
        best.credit -= sum(one.weight for one in able)
        return best

    def shown(self) -> Backend:
        """What is read of it."""
        servers = tuple(server.shown() for server in self.servers)
        return Backend(self.service.name, servers, len(self.waiting), self.retry_allowed, self.epoch)


class Clients(Protocol):
    """Who gets the answers; `clients` implements it."""

    def answered(self, request: Request, reply: Reply) -> None:
        """The request is over."""

    def sent(self, request: Request, runs: Runs | None, port: int) -> None:
        """The request is sent to whoever is at a port."""


def started(spec: BackendSpec, before: SimulatedBackend | None) -> SimulatedBackend:
    """A backend of a new process: all servers in MAINT; the switch for retries is kept."""
    servers = [SimulatedServer(f"s{number}") for number in range(1, spec.servers + 1)]
    if before is None:
        return SimulatedBackend(spec.service, servers, by_weight=spec.by_weight)
    return SimulatedBackend(spec.service, servers, before.retry_allowed, before.epoch, spec.by_weight)


def normal(spec: BackendSpec) -> BackendSpec:
    """What of a spec shows in the configuration: the number of replicas does not."""
    return replace(spec, service=replace(spec.service, replicas=1, environment=()))
