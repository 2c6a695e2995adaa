"""One simulated world: the machine, the clients, the daemon, and what was done to them; everything from one seed.

`run` makes it from a plan and lets time pass, `faults` reach into it, `checkers` watch it. What happens to it is
written to the trace; what a fault may excuse is remembered as a `Harm`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from perdure.model.event import Event, Severity
from perdure.model.replica import Slot
from perdure.model.service import Deployment, Service
from perdure.sim.balancer import Front
from perdure.sim.clients import BATCH_S, Population, Tally
from perdure.sim.clock import SimulatedClock
from perdure.sim.daemon import Machine, SimulatedDaemon
from perdure.sim.kernel import Behaviour, Kernel, Runs
from perdure.sim.loop import VirtualLoop
from perdure.sim.servers import Request
from perdure.sim.store import Shelf
from perdure.sim.trace import Trace

PORTS = range(21_000, 21_400)
SAMPLE_S = 0.25
EXCUSED_S = 10.0
"""A fault may explain what Perdure does about it up to this long after its end."""


@dataclass(frozen=True, slots=True)
class Harm:
    """A fault was there: what it may be blamed for. `number` None means all slots, `service` empty means everything."""

    kind: str
    service: str
    number: int | None
    from_at: float
    until_at: float

    def touches(self, service: str, number: int | None) -> bool:
        """Whether this replica, or any of the service, was harmed."""
        return self.service in ("", service) and (self.number is None or number is None or self.number == number)


@dataclass(frozen=True, slots=True)
class Command:
    """What a user asked for, and when it was acknowledged (None: it was not)."""

    verb: str
    target: str
    argument: int
    asked_at: float
    acknowledged_at: float | None


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise was broken."""

    at: float
    checker: str
    sentence: str


class Watcher:
    """What a checker is told; see `checkers`."""

    def decided(self, world: "World", event: Event) -> None:
        """The agent records an event."""

    def spawned(self, world: "World", runs: Runs) -> None:
        """A process was started."""

    def ended(self, world: "World", runs: Runs) -> None:
        """A first process ended."""

    def sent(self, world: "World", request: Request, runs: Runs | None, port: int) -> None:
        """HAProxy sends a request to a port."""

    def failed(self, world: "World", request: Request) -> None:
        """A client got an error, or nothing."""

    def sampled(self, world: "World") -> None:
        """Some time has passed."""

    def finished(self, world: "World") -> None:
        """The run is over."""


@dataclass(slots=True)
class World:
    """Everything there is; made by `made`."""

    loop: VirtualLoop
    random: Random
    trace: Trace
    clock: SimulatedClock
    kernel: Kernel
    shelf: Shelf
    front: Front
    clients: Population
    daemon: SimulatedDaemon
    watchers: Sequence[Watcher]
    services: dict[str, Service]
    """What the file declares now."""
    boot_s: dict[str, float]
    harms: list[Harm] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    asking: dict[str, None] = field(default_factory=dict)
    """Services about which a user has asked for something, answered or not."""
    converged_s: float = 0.0
    """How long after the last fault something was still out of place."""
    quiet_at: float = 0.0
    """When the last fault is over."""
    settle_s: float = 0.0
    """How long after that something may be out of place."""
    ill: dict[Slot, Callable[[Behaviour], None]] = field(default_factory=dict)
    """Slots whose next programs misbehave, and how."""
    stolen: dict[Slot, int] = field(default_factory=dict)
    """Slots whose next ports somebody else takes first: how often."""
    by_hand_at: float = float("-inf")
    blind_until_at: float = float("-inf")
    """Up to here none of the monitor's questions got through to anybody."""
    """When somebody last changed HAProxy's servers behind Perdure's back."""

    @property
    def now(self) -> float:
        """The virtual instant."""
        return self.loop.time()

    def note(self, kind: str, sentence: str) -> None:
        """Write a line to the trace."""
        self.trace.note(self.now, kind, sentence)

    def broken(self, checker: str, sentence: str) -> None:
        """A promise was broken; only the first violations of a run are kept."""
        if len(self.violations) < 20:
            self.violations.append(Violation(self.now, checker, sentence))
            self.note("BROKEN", f"{checker}: {sentence}")

    def harm(self, kind: str, service: str, number: int | None, length_s: float) -> None:
        """Remember a fault that lasts `length_s` from now."""
        self.harms.append(Harm(kind, service, number, self.now, self.now + length_s))

    def blamed(self, service: str, number: int | None) -> Harm | None:
        """A fault that explains that something happens to this replica now."""
        now = self.now
        for harm in self.harms:
            if harm.from_at <= now <= harm.until_at + EXCUSED_S and harm.touches(service, number):
                return harm
        return None

    def behaviour(self, slot: Slot, port: int) -> Behaviour:
        """How the next program of a slot behaves; somebody may take its port first."""
        behaviour = Behaviour(boot_s=self.boot_s.get(slot.service, 0.4) * (0.8 + 0.4 * self.random.random()))
        if slot in self.ill:
            self.ill[slot](behaviour)
        if self.stolen.get(slot, 0) > 0:
            self.stolen[slot] -= 1
            self.kernel.strangers.add(port)
            self.note("fault", f"somebody takes port {port} before {slot}")
        return behaviour

    def steady_since_at(self) -> float:
        """Since when the daemon and HAProxy have both worked; infinity while one does not."""
        ready_at, current = self.daemon.ready_at, self.front.current
        if ready_at is None or current is None or not current.working:
            return float("inf")
        return max(ready_at, current.since_at)

    def heard(self, event: Event) -> None:
        """The agent records an event."""
        mark = {Severity.INFO: "", Severity.WARNING: " (warning)", Severity.ALARM: " (ALARM)"}[event.severity]
        self.note("event", f"{event.rule} {event.subject}: {event.sentence}{mark}")
        for watcher in self.watchers:
            watcher.decided(self, event)

    def begin(self) -> None:
        """Start the daemon, the clients, and the samples."""
        self.loop.outside(self.daemon.start)
        self.loop.outside(self._pulse)
        self.loop.outside(self._sample)

    def _pulse(self) -> None:
        self.front.tick()
        if self.front.held or self.front.current is not None:
            self.clients.batch(self.front.arrive)
        self.loop.call_later(BATCH_S, self._pulse)

    def _sample(self) -> None:
        for watcher in self.watchers:
            watcher.sampled(self)
        self.loop.call_later(SAMPLE_S, self._sample)


def made(seed: int, services: Sequence[Service], watchers: Sequence[Watcher]) -> World:
    """A world with these services, in which nothing has happened yet."""
    loop, random, trace = VirtualLoop(), Random(seed), Trace()
    clock, shelf = SimulatedClock(loop), Shelf(loop, random)
    world: World

    def spawned(runs: Runs) -> None:
        for watcher in watchers:
            watcher.spawned(world, runs)

    def ended(runs: Runs) -> None:
        for watcher in watchers:
            watcher.ended(world, runs)
        front.broke(runs)

    def sent(request: Request, runs: Runs | None, port: int) -> None:
        for watcher in sending:
            watcher.sent(world, request, runs, port)

    def failed(request: Request) -> None:
        for watcher in watchers:
            watcher.failed(world, request)

    sending = [one for one in watchers if type(one).sent is not Watcher.sent]
    kernel = Kernel(loop, random, spawned, ended)
    clients = Population(loop, random, sent, failed)
    front = Front(kernel, random, clients)
    machine = Machine(
        loop,
        clock,
        random,
        kernel,
        shelf,
        front,
        lambda slot, port: world.behaviour(slot, port),
        lambda: Deployment(tuple(world.services.values()), PORTS),
        lambda sentence: world.note("world", sentence),
    )
    declared = {service.name: service for service in services}
    world = World(
        loop,
        random,
        trace,
        clock,
        kernel,
        shelf,
        front,
        clients,
        SimulatedDaemon(machine),
        watchers,
        declared,
        {},
    )
    world.clients.tallies.update({service.name: Tally(20.0) for service in services if service.listen is not None})
    return world
