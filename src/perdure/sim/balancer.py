"""The daemon's view of the simulated HAProxy: `ports.balancer.Balancer` for one life of the daemon.

`Front` is what outlives the daemon: the current process, older ones that finish, and what the clients meet.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from perdure.model.errors import UnavailableError
from perdure.model.replica import Process
from perdure.model.traffic import (
    Admin,
    BackendSpec,
    BalancerChange,
    CloseServer,
    PutServer,
    Reading,
    SetEpoch,
    SetRetry,
    WeighServer,
)
from perdure.sim import servers
from perdure.sim.haproxy import SimulatedHAProxy
from perdure.sim.kernel import Kernel, Reply, Runs
from perdure.sim.life import Life
from perdure.sim.servers import Clients, Request, SimulatedBackend, SimulatedServer

START_S = 0.08
READ_S = 0.0008
CHANGE_S = 0.0005
TIMEOUT_S = 1.0
DEAD_SEEN_S = 0.001


@dataclass(slots=True)
class Front:
    """What clients connect to: the listening sockets, held by the daemon and by HAProxy, and whoever accepts."""

    kernel: Kernel
    random: Random
    clients: Clients
    current: SimulatedHAProxy | None = None
    finishing: list[SimulatedHAProxy] = field(default_factory=list)
    held: bool = False
    """A living daemon holds the sockets too, so that connections wait in the kernel while HAProxy is dead."""
    backlog: deque[Request] = field(default_factory=deque)
    on_exit: Callable[[], None] | None = None

    def arrive(self, request: Request) -> None:
        """A client connects and asks."""
        current = self.current
        if current is not None and current.working:
            current.take(request)
        elif self.held or (current is not None and current.alive):
            self.backlog.append(request)
        else:
            self.clients.answered(request, Reply.REFUSED)

    def tick(self) -> None:
        """Time passes: the backlog is accepted, checks are done, waits end."""
        current = self.current
        if current is not None and current.working:
            backlog, self.backlog = self.backlog, deque()
            for request in backlog:
                current.take(request)
            current.tick()

    def open(self, process: Process, specs: Sequence[BackendSpec]) -> None:
        """A new process accepts; the old one finishes what it has."""
        before = self.current
        known = before.backends if before is not None else {}
        backends = {spec.service.name: servers.started(spec, known.get(spec.service.name)) for spec in specs}
        self.current = SimulatedHAProxy(
            process, self.kernel, self.random, self.clients, backends, self.kernel.loop.time()
        )
        if before is not None and before.alive:
            before.retired = True
            self.finishing.append(before)
            for backend in before.backends.values():
                for request in backend.waiting:
                    self.current.take(request)
                backend.waiting.clear()

    def died(self) -> None:
        """The current process ends, by a fault or because it was killed."""
        current = self.current
        if current is None or not current.alive:
            return
        for request in current.die():
            self.clients.answered(request, Reply.REFUSED)
        self.current = None
        if not self.held:
            self.refuse_backlog()
        if self.on_exit is not None:
            self.kernel.loop.call_later(DEAD_SEEN_S, self.on_exit)

    def refuse_backlog(self) -> None:
        """Nobody holds the sockets any more."""
        backlog, self.backlog = self.backlog, deque()
        for request in backlog:
            self.clients.answered(request, Reply.REFUSED)

    def broke(self, runs: Runs) -> None:
        """A replica died: its connections break, in old processes too."""
        for one in [*self.finishing, *([self.current] if self.current is not None else [])]:
            if not one.stopped:
                one.broke(runs)


@dataclass(slots=True)
class SimulatedBalancer:
    """Keeps the port's contract."""

    front: Front
    life: Life
    _configured: tuple[BackendSpec, ...] | None = None
    _callback: Callable[[], None] = lambda: None

    async def configure(self, backends: Sequence[BackendSpec]) -> Process:
        """See the port."""
        self.life.act()
        wanted = tuple(servers.normal(spec) for spec in backends)
        current = self.front.current
        if current is not None and current.alive and self._configured == wanted:
            return current.process
        self.front.held = True
        await asyncio.sleep(START_S * (0.5 + self.front.random.random()))
        self.life.act()
        front = self.front
        process = front.kernel.new_process()
        front.kernel.loop.outside(lambda: front.open(process, backends))
        self._listen()
        self._configured = wanted
        self.life.act()
        return process

    async def adopt(self, process: Process, backends: Sequence[BackendSpec]) -> bool:
        """See the port."""
        self.life.act()
        current = self.front.current
        if current is None or current.process != process or not current.alive:
            return False
        if current.stopped:
            await asyncio.sleep(TIMEOUT_S)
            self.front.kernel.loop.outside(self.front.died)
            return False
        await asyncio.sleep(READ_S)
        self.life.check()
        self.front.held = True
        shown = {name: len(one.servers) for name, one in current.backends.items()}
        if shown == {spec.service.name: spec.servers for spec in backends}:
            self._configured = tuple(servers.normal(spec) for spec in backends)
        self._listen()
        return True

    async def read(self) -> Reading:
        """See the port."""
        current = await self._ask(READ_S)
        backends = tuple(backend.shown() for backend in current.backends.values())
        lingering = frozenset(port for one in self.front.finishing for port in one.busy_ports())
        answered, current.logged = tuple(current.logged), []
        return Reading(self.front.kernel.loop.time(), current.process.pid, backends, lingering, answered)

    async def change(self, changes: Sequence[BalancerChange]) -> None:
        """See the port; the fuse may burn between any two of them."""
        current = await self._ask(CHANGE_S)
        for change in changes:
            self.life.act()
            backend = current.backends.get(change.service)
            if backend is None:
                raise UnavailableError(f"no such backend: {change.service}", "it is configured anew")
            self.front.kernel.loop.outside(_Change(current, backend, change).do)

    def on_exit(self, callback: Callable[[], None]) -> None:
        """See the port."""
        self._callback = callback
        self._listen()

    def kill(self) -> None:
        """See the port."""
        self.life.act()
        self.front.kernel.loop.outside(self.front.died)

    async def stop(self) -> None:
        """See the port."""
        self.life.act()
        self.front.held = False
        self.front.kernel.loop.outside(self.front.died)

    def _listen(self) -> None:
        life, loop = self.life, self.front.kernel.loop

        def ended() -> None:
            if life.alive:
                loop.call_soon(self._ended, context=life.context)

        self.front.on_exit = ended

    def _ended(self) -> None:
        self._configured = None
        self._callback()

    async def _ask(self, takes_s: float) -> SimulatedHAProxy:
        self.life.check()
        current = self.front.current
        if current is None or not current.alive:
            raise UnavailableError("HAProxy does not run", "it is started again")
        await asyncio.sleep(TIMEOUT_S if current.stopped else takes_s)
        self.life.check()
        if not current.working:
            raise UnavailableError("HAProxy did not answer within 1 s", "it is ended and started again")
        return current


@dataclass(frozen=True, slots=True)
class _Change:
    """One line on the runtime socket."""

    haproxy: SimulatedHAProxy
    backend: SimulatedBackend
    change: BalancerChange

    def do(self) -> None:
        """Carry it out."""
        match self.change:
            case SetRetry(_, allowed):
                self.backend.retry_allowed = allowed
            case SetEpoch(_, epoch):
                self.backend.epoch = epoch
            case WeighServer(_, server, weight):
                self._server(server).weight = weight
            case CloseServer(_, server):
                self.haproxy.close(self._server(server))
            case PutServer(_, server, address, admin):
                self._put(self._server(server), address.port if address is not None else None, admin)

    def _put(self, server: SimulatedServer, port: int | None, admin: Admin) -> None:
        if port is not None:
            server.port = port
        server.admin = admin
        if admin is Admin.READY:
            server.turn_ready(self.haproxy.kernel.loop.time())

    def _server(self, name: str) -> SimulatedServer:
        return next(one for one in self.backend.servers if one.name == name)
