"""Carrying the traffic: keeps HAProxy alive, its configuration right, and the right replicas behind its servers.

The agent says which members each service has and pokes; this task tells HAProxy at once, and ten times a second reads
everything back and corrects what differs. It also supervises HAProxy: dead, it is started again with the last
configuration; silent or stopped by the kernel, it is ended first. Readings go to the agent as observations.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from perdure.control import waiting
from perdure.control.cargo import Cargo
from perdure.control.tell import Tell
from perdure.model.errors import PerdureError
from perdure.model.event import Severity
from perdure.model.replica import Process
from perdure.model.traffic import Admin, Backend, BackendSpec, BalancerChange, Reading, SetEpoch, SetRetry
from perdure.ports.balancer import Balancer
from perdure.ports.clock import Clock
from perdure.prevent import balance

READ_EVERY_S = 0.1
READ_IDLE_S = 0.4
"""Between two readings when the last one showed no request, and nobody is being drained."""
READ_SHARE = 10.0
"""Readings pause at least this many times as long as one takes, so that many servers do not eat the core."""
SILENT_S = 2.5
"""HAProxy is ended when it has not answered for this long; twice as long each time that it did not help."""
SILENT_S_MAX = 40.0
HELPED_S = 3.0
"""An answer so long after a new one began to serve shows that it helped."""
START_AGAIN_S = 1.0
"""Between two attempts to set HAProxy up."""
DIED_AGAIN_S = 0.3
"""HAProxy is started at most this often when it ends as soon as it serves."""
LISTED = 3
"""Services that are named in the sentence about HAProxy."""

log = structlog.get_logger()


@dataclass(slots=True)
class Carrier:
    """The task that owns the balancer; `on_reading` gets every reading, `tell` every event."""

    balancer: Balancer
    clock: Clock
    on_reading: Callable[[Reading], None]
    tell: Tell
    cargo: dict[str, Cargo] = field(default_factory=dict)
    process: Process | None = None
    state: str = "stopped"
    """`stopped`, `starting`, `serving`, `silent` or `failed`; for people."""
    problem: str | None = None
    version: str | None = None
    _servers: dict[str, int] = field(default_factory=dict)
    _configured: tuple[BackendSpec, ...] = ()
    _backends: dict[str, Backend] = field(default_factory=dict)
    _poke: asyncio.Event = field(default_factory=asyncio.Event)
    _read_at: float = 0.0
    _answered_at: float = 0.0
    _start_at: float = 0.0
    _configured_at: float = 0.0
    _requests: int = 0
    _leaving: bool = False
    _deaths: int = 0
    _silent_s: float = SILENT_S

    def poke(self) -> None:
        """Something in `cargo` changed: tell HAProxy now."""
        self._poke.set()

    def died(self) -> None:
        """The balancer's process has ended."""
        self.process = None
        self._deaths += 1
        self._start_at = self._configured_at + DIED_AGAIN_S
        self._backends.clear()
        self._configured = ()
        if not self._leaving:
            self.state = "starting"
            self.tell("A02", "balancer", "HAProxy has ended; it is started again", Severity.WARNING)
        self.poke()

    def excuse(self, pause_s: float) -> None:
        """The monitor itself paused: HAProxy's silence does not count for that time."""
        self._answered_at += pause_s

    async def adopt(self, process: Process, servers: Mapping[str, int]) -> bool:
        """Take over the HAProxy of an earlier daemon, with the number of servers that it was configured with."""
        self._servers.update(servers)
        specs = self._specs()
        if not await self.balancer.adopt(process, specs):
            return False
        self.process, self._configured, self.state = process, specs, "serving"
        self._answered_at = self.clock.now()
        return True

    def servers(self) -> dict[str, int]:
        """How many servers each service has; the next daemon needs it to adopt HAProxy."""
        return dict(self._servers)

    async def run(self) -> None:
        """Keep HAProxy right, for ever."""
        self.balancer.on_exit(self.died)
        while True:
            await self._once()
            await self._pause()

    async def stop(self) -> None:
        """End HAProxy; requests in flight are finished first, as far as their time allows."""
        self._leaving, self.state = True, "stopping"
        await self.balancer.stop()
        self.process, self.state = None, "stopped"

    async def _pause(self) -> None:
        until_at = self._read_at if self.process is not None else self.clock.now() + READ_EVERY_S
        await waiting.for_news(self._poke, self.clock, until_at)

    async def _once(self) -> None:
        specs = self._specs()
        if self._leaving or (not specs and self.process is None):
            return
        if (specs != self._configured or self.process is None) and self.clock.now() >= self._start_at:
            try:
                await self._configure(specs)
            except PerdureError as error:
                self._not_configured(error)
        if self.process is None:
            return
        try:
            if self.clock.now() >= self._read_at:
                await self._read()
            await self._correct()
        except PerdureError as error:
            self._unanswered(error)

    async def _configure(self, specs: tuple[BackendSpec, ...]) -> None:
        fresh, deaths = self.process is None, self._deaths
        self.process = await self.balancer.configure(specs)
        if self._deaths != deaths:
            self.process = None
            return
        self._configured, self.state, self.problem = specs, "serving", None
        self._configured_at = self._answered_at = self.clock.now()
        self._read_at = 0.0
        what = "serves" if fresh else "took over with a new configuration, and serves"
        where = [f"{spec.service.name} on {spec.service.listen}" for spec in specs]
        listed = ", ".join(where[:LISTED]) + (f" and {len(where) - LISTED} more" if len(where) > LISTED else "")
        facts = {"pid": self.process.pid, "services": len(specs)}
        self.tell("A01", "balancer", f"HAProxy {what} {listed or 'nothing'}", Severity.INFO, facts)

    async def _read(self) -> None:
        started_at = self.clock.now()
        reading = await self.balancer.read()
        took_s = self.clock.now() - started_at
        every_s = READ_IDLE_S if self._idle(reading) else READ_EVERY_S
        self._read_at = started_at + max(every_s, READ_SHARE * took_s)
        self._answered_at = self.clock.now()
        if self.state == "silent":
            self.state = "serving"
        if self._answered_at - self._configured_at > HELPED_S:
            self._silent_s = SILENT_S
        self._backends = {backend.service: backend for backend in reading.backends}
        self.on_reading(reading)

    def _idle(self, reading: Reading) -> bool:
        """Whether nothing happens that the next reading must not miss by much."""
        total = sum(server.counters.requests for backend in reading.backends for server in backend.servers)
        busy = total != self._requests or any(
            member.admin is not Admin.READY for cargo in self.cargo.values() for member in cargo.members
        )
        self._requests = total
        return not busy

    async def _correct(self) -> None:
        changes: list[BalancerChange] = []
        short = False
        for name, cargo in self.cargo.items():
            backend = self._backends.get(name)
            if backend is None:
                continue
            plan = balance.decide(backend, cargo.members)
            changes += plan.changes
            if backend.retry_allowed is not cargo.retry_allowed:
                changes.append(SetRetry(name, cargo.retry_allowed))
            if cargo.epoch and backend.epoch != cargo.epoch:
                changes.append(SetEpoch(name, cargo.epoch))
            if plan.servers_short:
                self._servers[name] *= 2
                short = True
        if changes:
            await self.balancer.change(changes)
            for name, backend in self._backends.items():
                changed = balance.applied(backend, changes)
                wanted = self.cargo.get(name)
                if wanted is not None:
                    changed = replace(changed, retry_allowed=wanted.retry_allowed, epoch=wanted.epoch)
                self._backends[name] = changed
        if short:
            self.poke()

    def _specs(self) -> tuple[BackendSpec, ...]:
        for name, cargo in self.cargo.items():
            have = self._servers.get(name, 0)
            self._servers[name] = balance.servers_needed(cargo.service.replicas, have)
        for name in [name for name in self._servers if name not in self.cargo]:
            del self._servers[name]
        return tuple(
            BackendSpec(cargo.service, self._servers[name], cargo.by_weight)
            for name, cargo in sorted(self.cargo.items())
        )

    def _not_configured(self, error: PerdureError) -> None:
        if self.problem != error.sentence:
            sentence = f"HAProxy cannot be set up: {error.sentence}"
            self.tell("A03", "balancer", sentence, Severity.ALARM, {"hint": error.hint})
        self.problem, self.state = error.sentence, "failed" if self.process is None else self.state
        self._start_at = self.clock.now() + START_AGAIN_S

    def _unanswered(self, error: PerdureError) -> None:
        now = self.clock.now()
        self._read_at = now + READ_EVERY_S
        if self.process is None:
            return
        if self.state != "silent":
            self.state = "silent"
            log.warning("HAProxy does not answer on its socket", cause=error.sentence)
        if now - self._answered_at >= self._silent_s:
            self._silent_s = min(SILENT_S_MAX, 2.0 * self._silent_s)
            silent_s = round(now - self._answered_at, 1)
            self.tell("A04", "balancer", f"HAProxy has not answered for {silent_s} s; it is ended", Severity.ALARM)
            self._answered_at, self._configured = now, ()
            self.balancer.kill()
