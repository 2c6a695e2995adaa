"""The simulated HAProxy: servers, counters, own checks, retries, and a waiting room; and the requests that pass.

It behaves as the configuration that Perdure renders makes the real one behave: a failed connection marks a server down
and is tried elsewhere, a broken answer is retried while that is allowed, a request without a server waits. Requests
that are answered at once take no virtual time; slow ones, and those on a hung replica, stay in flight. Neighbours:
`balancer` is the daemon's view, `clients` send the requests, `kernel` says what a replica answers.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol

from perdure.model.replica import Process
from perdure.model.service import Service
from perdure.model.traffic import WEIGHT, Admin, Answered, Backend, BackendSpec, Counters, Server
from perdure.sim.kernel import Kernel, Reply, Runs

CONNECT_TRIES = 50
CHECK_S = 2.0
CHECK_FAST_S = 0.5
CHECK_TIMEOUT_S = 2.0
CHECK_FALL = 2
LOG_KEPT = 1000


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client, from arrival to answer."""

    service: str
    arrived_at: float
    slow_s: float = 0.0
    """How long a replica works on it; 0 means no time that matters."""
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
    check_at: float = 0.0
    check_fails: int = 0
    asking: bool = False

    @property
    def open(self) -> bool:
        """Whether it gets new requests."""
        return self.admin is Admin.READY and self.up

    @property
    def busy(self) -> float:
        """What least connections compares: a server without a request is idle whatever it weighs."""
        return (len(self.flights) + 1) / self.weight if self.flights else 0.0

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
        return Server(self.name, self.port, self.admin, self.up, len(self.flights), 0, counters, self.weight)


@dataclass(slots=True)
class SimulatedBackend:
    """One service in one HAProxy process."""

    service: Service
    servers: list[SimulatedServer]
    retry_allowed: bool = True
    waiting: deque[Request] = field(default_factory=deque)
    turn: int = 0

    def choose(self, avoid: SimulatedServer | None) -> SimulatedServer | None:
        """The open server with the fewest requests, in turns; the one that just failed the request only if alone."""
        servers = self.servers
        count = len(servers)
        best: SimulatedServer | None = None
        for step in range(count):
            server = servers[(self.turn + step) % count]
            if not server.up or server.admin is not Admin.READY or server is avoid:
                continue
            if best is None or server.busy < best.busy:
                best = server
        if best is not None:
            self.turn = (servers.index(best) + 1) % count
        elif avoid is not None and avoid.open and avoid in servers:
            best = avoid
        return best

    def shown(self) -> Backend:
        """What is read of it."""
        servers = tuple(server.shown() for server in self.servers)
        return Backend(self.service.name, servers, len(self.waiting), self.retry_allowed)


class Clients(Protocol):
    """Who gets the answers; `clients` implements it."""

    def answered(self, request: Request, reply: Reply) -> None:
        """The request is over."""

    def sent(self, request: Request, runs: Runs | None, port: int) -> None:
        """The request is sent to whoever is at a port."""


@dataclass(slots=True)
class SimulatedHAProxy:
    """One HAProxy process."""

    process: Process
    kernel: Kernel
    random: Random
    clients: Clients
    backends: dict[str, SimulatedBackend]
    since_at: float = 0.0
    """Since when it has worked."""
    alive: bool = True
    stopped: bool = False
    retired: bool = False
    """A successor serves; it finishes what it has, with the servers it was told of last."""
    logged: list[Answered] = field(default_factory=list)
    """What the daemon has not read of the log."""

    @property
    def working(self) -> bool:
        """Whether it takes requests and answers on its socket."""
        return self.alive and not self.stopped

    def take(self, request: Request) -> None:
        """A request arrives, or is tried again."""
        backend = self.backends.get(request.service)
        if backend is None:
            self.clients.answered(request, Reply.REFUSED)
            return
        for _ in range(CONNECT_TRIES):
            server = backend.choose(request.failed_on)
            if server is None:
                request.entered_at = self.kernel.loop.time()
                backend.waiting.append(request)
                return
            if self._try(backend, server, request):
                return
        self.clients.answered(request, Reply.REFUSED)

    def _try(self, backend: SimulatedBackend, server: SimulatedServer, request: Request) -> bool:
        """Send a request to a server; True when it needs no other one now."""
        runs = self.kernel.at_port(server.port)
        if not self.retired:
            self.clients.sent(request, runs, server.port)
        reply = self.kernel.reply(server.port)
        if reply is Reply.REFUSED:
            server.retries += 1
            server.redispatches += 1
            server.up, server.check_at = False, self.kernel.loop.time() + CHECK_FAST_S
            return False
        server.requests += 1
        if runs is not None and (reply is Reply.HANG or request.slow_s > 0.0):
            self._fly(server, runs, request)
            return True
        if request.bad or (runs is not None and self.random.random() < runs.behaviour.error_share):
            reply = Reply.ERROR
        return self._replied(backend, server, request, reply)

    def _replied(self, backend: SimulatedBackend, server: SimulatedServer, request: Request, reply: Reply) -> bool:
        """A replica has answered; True when the client gets this answer."""
        server.responses += 1
        if reply is Reply.ERROR:
            request.failed_on = server
            if self._again(backend, request):
                server.retries += 1
                return False
            server.responses_5xx += 1
        self._log(server, request, 500 if reply is Reply.ERROR else 200)
        self.clients.answered(request, reply)
        return True

    def _log(self, server: SimulatedServer, request: Request, status: int) -> None:
        """One line for each answer; a daemon that does not read them loses most."""
        if len(self.logged) < LOG_KEPT:
            taken_ms = round((self.kernel.loop.time() - request.arrived_at) * 1000.0)
            self.logged.append(
                Answered(request.service, server.port, "GET", "/", status, taken_ms, max(1, request.tries), 1)
            )

    def _again(self, backend: SimulatedBackend, request: Request) -> bool:
        request.tries += 1
        return backend.retry_allowed and request.tries < backend.service.retry.attempts

    def _fly(self, server: SimulatedServer, runs: Runs, request: Request) -> None:
        loop = self.kernel.loop
        server.flights[request] = None
        request.server, request.runs, request.entered_at = server, runs, loop.time()
        if request.slow_s > 0.0:
            loop.call_later(request.slow_s, self._landed, request, runs)
        else:
            runs.waiting.append(lambda reply: self._woke(request, runs, reply))

    def _landed(self, request: Request, runs: Runs) -> None:
        """A slow request is done, unless its replica is stopped or gone."""
        if request.runs is not runs:
            return
        if runs.hangs_since_at is not None:
            runs.waiting.append(lambda reply: self._woke(request, runs, reply))
        else:
            self._woke(request, runs, Reply.GOOD)

    def _woke(self, request: Request, runs: Runs, reply: Reply) -> None:
        """A request in flight gets its answer, or its connection breaks."""
        server = request.server
        if request.runs is not runs or server is None or not self.alive:
            return
        self._unfly(request)
        backend = self.backends[request.service]
        if reply is not Reply.REFUSED:
            server.responses += 1
            self._log(server, request, 200)
            self.clients.answered(request, reply)
        elif self._again(backend, request):
            request.failed_on = server
            server.retries += 1
            server.redispatches += 1
            self.take(request)
        else:
            server.response_errors += 1
            self.clients.answered(request, Reply.REFUSED)

    def _unfly(self, request: Request) -> None:
        if request.server is not None:
            request.server.flights.pop(request, None)
        request.server, request.runs = None, None

    def broke(self, runs: Runs) -> None:
        """A replica died: its connections break at once."""
        for backend in self.backends.values():
            for server in backend.servers:
                for request in [one for one in server.flights if one.runs is runs]:
                    self._woke(request, runs, Reply.REFUSED)

    def close(self, server: SimulatedServer) -> None:
        """End every connection of a server: nothing is retried."""
        for request in list(server.flights):
            self._unfly(request)
            self.clients.answered(request, Reply.REFUSED)

    def die(self) -> list[Request]:
        """The process ends: every request it holds is lost; returns them."""
        self.alive = False
        lost: list[Request] = []
        for backend in self.backends.values():
            lost += backend.waiting
            backend.waiting.clear()
            for server in backend.servers:
                lost += server.flights
                for request in list(server.flights):
                    self._unfly(request)
        return lost

    def busy_ports(self) -> Iterator[int]:
        """The ports of the servers that still have requests."""
        return (server.port for backend in self.backends.values() for server in backend.servers if server.flights)

    def tick(self) -> None:
        """Let waiting requests in, end those that waited too long, and do the checks that are due."""
        if not self.working:
            return
        now = self.kernel.loop.time()
        for backend in self.backends.values():
            self._waiting(backend, now)
            for server in backend.servers:
                if server.admin is not Admin.MAINT and now >= server.check_at and not server.asking:
                    self._check(server, now)
                if server.flights:
                    self._tired(backend, server, now)

    def _waiting(self, backend: SimulatedBackend, now: float) -> None:
        waiting = backend.waiting
        while waiting and now - waiting[0].entered_at > backend.service.limits.queue_timeout_s:
            self.clients.answered(waiting.popleft(), Reply.REFUSED)
        while waiting and any(server.open for server in backend.servers):
            self.take(waiting.popleft())

    def _tired(self, backend: SimulatedBackend, server: SimulatedServer, now: float) -> None:
        timeout_s = backend.service.retry.timeout_s
        for request in [one for one in server.flights if now - one.entered_at > timeout_s]:
            self._unfly(request)
            request.failed_on = server
            if self._again(backend, request):
                server.retries += 1
                self.take(request)
            else:
                server.response_errors += 1
                self.clients.answered(request, Reply.HANG)

    def _check(self, server: SimulatedServer, now: float) -> None:
        reply = self.kernel.reply(server.port)
        if reply is Reply.HANG:
            server.asking = True
            self.kernel.loop.call_later(CHECK_TIMEOUT_S, self._checked, server, server.port)
        else:
            self._conclude(server, reply in (Reply.GOOD, Reply.ERROR), now)

    def _checked(self, server: SimulatedServer, port: int) -> None:
        server.asking = False
        if server.port == port:
            self._conclude(server, self.kernel.reply(port) is Reply.GOOD, self.kernel.loop.time())

    def _conclude(self, server: SimulatedServer, good: bool, now: float) -> None:
        if good:
            server.up, server.check_fails = True, 0
        else:
            server.check_fails += 1
            server.up = server.up and server.check_fails < CHECK_FALL
        server.check_at = now + (CHECK_S if good else CHECK_FAST_S)


def started(spec: BackendSpec, before: SimulatedBackend | None) -> SimulatedBackend:
    """A backend of a new process: all servers in MAINT; the switch for retries is kept."""
    servers = [SimulatedServer(f"s{number}") for number in range(1, spec.servers + 1)]
    return SimulatedBackend(spec.service, servers, before.retry_allowed if before is not None else True)


def normal(spec: BackendSpec) -> BackendSpec:
    """What of a spec shows in the configuration: the number of replicas does not."""
    return replace(spec, service=replace(spec.service, replicas=1, environment=()))
