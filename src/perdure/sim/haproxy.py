"""The simulated HAProxy: servers, counters, own checks, retries, and a waiting room; and the requests that pass.

It behaves as the configuration that Perdure renders makes the real one behave: a failed connection marks a server down
and is tried elsewhere, a broken answer is retried while that is allowed, a request without a server waits. Requests
that are answered at once take no virtual time; slow ones, and those on a hung replica, stay in flight. Neighbours:
`balancer` is the daemon's view, `clients` send the requests, `kernel` says what a replica answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from perdure.model.check import Check, CheckKind
from perdure.model.replica import Process
from perdure.model.traffic import Admin, Answered
from perdure.sim.kernel import Kernel, Reply, Runs
from perdure.sim.link import SENT_AGAIN_S, Observer
from perdure.sim.servers import CHECK_S, Clients, Request, SimulatedBackend, SimulatedServer

CONNECT_TRIES = 50
CONNECT_TIMEOUT_S = 0.2
CHECK_FAST_S, CHECK_DOWN_S = 0.8, 0.5
CHECK_FALL = 3
LOG_KEPT = 1000
HAPROXY = Observer.HAPROXY


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
        network, reply = self.kernel.network, self.kernel.reply(server.port)
        if reply is Reply.REFUSED:
            self._unreachable(server)
            return False
        late_s = network.late_s(HAPROXY, runs.slot) if runs is not None else 0.0
        if runs is not None and late_s == float("inf"):
            self._connect_in_vain(server, runs, request)
            return True
        server.requests += 1
        if runs is not None and network.swallows(HAPROXY, runs.slot, request.answer_bytes):
            self._fly(server, runs, request, max(request.slow_s, SENT_AGAIN_S))
            return True
        if runs is not None and (reply is Reply.HANG or request.slow_s > 0.0 or late_s):
            self._fly(server, runs, request, request.slow_s + late_s)
            return True
        if request.bad or (runs is not None and self.random.random() < runs.behaviour.error_share):
            reply = Reply.ERROR
        return self._replied(backend, server, request, reply)

    def _unreachable(self, server: SimulatedServer) -> None:
        """No connection: the request is sent elsewhere, and the server is down until a check succeeds."""
        server.retries += 1
        server.redispatches += 1
        server.up, server.check_at = False, self.kernel.loop.time() + CHECK_DOWN_S

    def _connect_in_vain(self, server: SimulatedServer, runs: Runs, request: Request) -> None:
        """Nobody answers, not even to refuse: it takes a while to give up."""
        self._depart(server, runs, request)
        entered_at = request.entered_at

        def gives_up() -> None:
            if request.server is not server or request.entered_at != entered_at or not self.alive:
                return
            if self.stopped:
                self.kernel.loop.call_later(CONNECT_TIMEOUT_S, gives_up)
                return
            self._unfly(request)
            self._unreachable(server)
            request.failed_on = server
            self.take(request)

        self.kernel.loop.call_later(CONNECT_TIMEOUT_S, gives_up)

    def _replied(self, backend: SimulatedBackend, server: SimulatedServer, request: Request, reply: Reply) -> bool:
        """A replica has answered; True when the client gets this answer."""
        server.responses += 1
        if reply is Reply.ERROR:
            request.failed_on = server
            if self._again(backend, request):
                server.retries += 1
                return False
            server.responses_5xx += 1
        self._log(server, request, 500 if reply is Reply.ERROR else 200, 0.0)
        self.clients.answered(request, reply)
        return True

    def _log(self, server: SimulatedServer, request: Request, status: int, taken_s: float) -> None:
        """One line for each answer; a daemon that does not read them loses most. `taken_s` is that of the last try."""
        if len(self.logged) < LOG_KEPT:
            taken_ms = round(taken_s * 1000.0)
            self.logged.append(
                Answered(request.service, server.port, "GET", "/", status, taken_ms, max(1, request.tries), 1)
            )

    def _again(self, backend: SimulatedBackend, request: Request) -> bool:
        request.tries += 1
        return backend.retry_allowed and request.tries < backend.service.retry.attempts

    def _depart(self, server: SimulatedServer, runs: Runs, request: Request) -> None:
        server.flights[request] = None
        request.server, request.runs, request.entered_at = server, runs, self.kernel.loop.time()

    def _fly(self, server: SimulatedServer, runs: Runs, request: Request, takes_s: float) -> None:
        self._depart(server, runs, request)
        if takes_s > 0.0:
            self.kernel.loop.call_later(takes_s, self._landed, request, runs)
        else:
            runs.waiting.append(lambda reply: self._woke(request, runs, reply))

    def _landed(self, request: Request, runs: Runs) -> None:
        """A slow request is done, unless its replica is stopped or gone; its answer is sent until it gets through."""
        if request.runs is not runs:
            return
        network, slot = self.kernel.network, runs.slot
        if network.cut(HAPROXY, slot) or network.swallows(HAPROXY, slot, request.answer_bytes):
            self.kernel.loop.call_later(SENT_AGAIN_S, self._landed, request, runs)
        elif runs.hangs_since_at is not None:
            runs.waiting.append(lambda reply: self._woke(request, runs, reply))
        else:
            self._woke(request, runs, Reply.GOOD)

    def _woke(self, request: Request, runs: Runs, reply: Reply) -> None:
        """A request in flight gets its answer, or its connection breaks."""
        server = request.server
        if request.runs is not runs or server is None or not self.alive:
            return
        taken_s = self.kernel.loop.time() - request.entered_at
        self._unfly(request)
        backend = self.backends[request.service]
        if reply is not Reply.REFUSED:
            server.responses += 1
            self._log(server, request, 200, taken_s)
            self.clients.answered(request, reply)
        elif self._again(backend, request):
            request.failed_on = server
            server.retries += 1
            server.redispatches += 1
            self.take(request)
        else:
            server.response_errors += 1
            self.clients.answered(request, Reply.REFUSED)
        if self.working:
            self._waiting(backend, self.kernel.loop.time())

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
                    self._check(server, backend.service.asked_by_balancer, now)
                if server.flights:
                    self._tired(backend, server, now)

    def _waiting(self, backend: SimulatedBackend, now: float) -> None:
        waiting = backend.waiting
        while waiting and now - waiting[0].entered_at > backend.service.limits.queue_timeout_s:
            self.clients.answered(waiting.popleft(), Reply.REFUSED)
        while waiting and any(server.open and not backend.full(server) for server in backend.servers):
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

    def _check(self, server: SimulatedServer, check: Check, now: float) -> None:
        reply = self._check_reply(server.port, check)
        if reply is Reply.HANG:
            server.asking = True
            runs = self.kernel.at_port(server.port)
            cut = runs is not None and self.kernel.network.cut(HAPROXY, runs.slot)
            late_s = CONNECT_TIMEOUT_S if cut else check.timeout_s
            self.kernel.loop.call_later(late_s, self._checked, server, server.port, check)
        else:
            self._conclude(server, reply in (Reply.GOOD, Reply.ERROR), now)

    def _checked(self, server: SimulatedServer, port: int, check: Check) -> None:
        server.asking = False
        if server.port == port:
            self._conclude(server, self._check_reply(port, check) is Reply.GOOD, self.kernel.loop.time())

    def _check_reply(self, port: int, check: Check) -> Reply:
        """What its own check gets; packets that are sent again arrive in time, and who hangs still is connected to."""
        runs, reply = self.kernel.at_port(port), self.kernel.reply(port)
        if runs is not None and self.kernel.network.cut(HAPROXY, runs.slot):
            return Reply.HANG
        return Reply.GOOD if reply is Reply.HANG and check.kind is not CheckKind.HTTP else reply

    def _conclude(self, server: SimulatedServer, good: bool, now: float) -> None:
        if good:
            server.up, server.check_fails = True, 0
        else:
            server.check_fails += 1
            server.up = server.up and server.check_fails < CHECK_FALL
        server.check_at = now + (CHECK_S if good else CHECK_FAST_S if server.up else CHECK_DOWN_S)
