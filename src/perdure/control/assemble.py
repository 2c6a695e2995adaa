"""Puts an agent together from its ports: the same for the real world (`daemon`) and the simulated one (`sim`)."""

from collections.abc import Callable
from dataclasses import dataclass

from perdure.control.agent import Agent
from perdure.control.carry import Carrier
from perdure.control.controller import Controller
from perdure.control.execute import Executor
from perdure.control.going_back import Rollbacks
from perdure.control.keepsakes import Keepsakes
from perdure.control.monitor import Monitor
from perdure.control.observe import Observer
from perdure.control.own import Owners
from perdure.control.preserve import Preserver
from perdure.control.record import Recorder
from perdure.control.release_records import Records
from perdure.control.releasing import Releasing
from perdure.control.rollouts import Rollouts
from perdure.control.surroundings import Surroundings
from perdure.control.survey import Surveyor
from perdure.control.tell import Tell
from perdure.control.trials import Trials
from perdure.control.world import SlotState, World
from perdure.model.event import Severity
from perdure.model.replica import Slot
from perdure.model.service import Service
from perdure.ports.balancer import Balancer
from perdure.ports.bundle import Account, Bundles
from perdure.ports.clock import Clock
from perdure.ports.host import Host
from perdure.ports.keeper import Keeper
from perdure.ports.prober import Prober
from perdure.ports.role import Roles
from perdure.ports.runner import Runner
from perdure.ports.store import Store
from perdure.prevent import ownership


@dataclass(frozen=True, slots=True)
class Parts:
    """One adapter for each port, and a source of uniform numbers in [0, 1)."""

    clock: Clock
    store: Store
    runner: Runner
    host: Host
    prober: Prober
    balancer: Balancer
    roles: Roles
    keeper: Keeper
    jitter: Callable[[], float]
    bundles: Bundles
    account: Callable[[Service], Account | None]
    """Whom a service runs as; None: as the daemon."""
    host_name: str = "here"
    """Who this host is in records of ownership."""


def agent(parts: Parts, ports: range, surroundings: Surroundings) -> Agent:
    """An agent with an empty world; `adopt.adopt` fills it."""
    world = World()

    def environment(slot: SlotState) -> tuple[tuple[str, str], ...]:
        service = world.services[slot.slot.service]
        return (*surroundings.of(service.rules_of(slot).service, slot), *owners.variables(service, slot))

    # The parts call each other back through the agent, which is made of them; hence the late look-ups.
    made: Agent

    def touch(service: str) -> None:
        made.touch(service)

    def changed(slot: Slot) -> None:
        made.changed(slot)

    tell: Tell = lambda *words, **facts: made.tell(*words, **facts)  # noqa: E731
    preserver = Preserver(
        parts.clock, parts.keeper, world, parts.roles, environment, parts.jitter, touch, changed, tell
    )
    owners = _owners(parts, world, preserver, touch, tell)
    observer = Observer(world, parts.runner, touch, tell)
    carrier = Carrier(parts.balancer, parts.clock, observer.on_reading, tell)
    observer.on_paused = carrier.excuse
    monitor = Monitor(
        parts.clock,
        parts.prober,
        parts.runner,
        parts.host,
        world,
        observer.on_evidence,
        observer.on_pause,
        environment,
    )
    observer.on_overdue = monitor.confirm
    monitor.on_hindered = observer.on_hindered
    made = Agent(
        parts.clock,
        parts.runner,
        world,
        Recorder(parts.store, lambda cause: _store_changed(tell, cause)),
        Executor(
            parts.clock,
            parts.runner,
            parts.host,
            world,
            parts.jitter,
            ports,
            environment,
            lambda one: made.on_exit(one),
            owners.introduce,
        ),
        monitor,
        carrier,
        Surveyor(parts.clock, world, monitor, parts.host, observer.sampler, touch),
        owners,
        preserver,
    )
    return made


@dataclass(frozen=True, slots=True)
class Desk:
    """Those who write what is wanted: commands, what goes back, and rollouts."""

    controller: Controller
    rollbacks: Rollbacks
    releasing: Releasing
    rollouts: Rollouts


def desk(made: Agent, parts: Parts) -> Desk:
    """The writers of what an agent carries out."""
    records = Records(parts.store, parts.bundles, parts.clock.wall, parts.account)
    controller = Controller(parts.store, parts.clock.wall, records)
    keepsakes = Keepsakes(made.preserver)

    async def mark(service: str, word: str) -> object:
        return await keepsakes.mark(service, word, None)

    def owner(service: str) -> int | None:
        return made.world.services[service].term.owner

    def serves(service: str, release: str) -> bool:
        slots = made.world.services[service].slots.values()
        return any(slot.serves and slot.replica is not None and slot.replica.release == release for slot in slots)

    trials = Trials(parts.clock, parts.prober, made.executor.environment)
    return Desk(
        controller,
        Rollbacks(made.preserver, controller, made.learned),
        Releasing(controller, records, parts.clock, owner, serves),
        Rollouts(
            parts.clock, made.world, controller, records, trials, made.learned, mark, made.tell, parts.runner.last_lines
        ),
    )


def _owners(parts: Parts, world: World, preserver: Preserver, touch: Callable[[str], None], tell: Tell) -> Owners:
    """On one machine, whose store nobody else reaches, there are no rivals."""
    return Owners(
        parts.clock,
        parts.store,
        world,
        parts.roles,
        parts.host_name,
        ownership.ALONE,
        lambda: f"{int(parts.jitter() * 2**52):x}",
        touch,
        tell,
        preserver.caught_up,
        preserver.exchanged,
    )


def _store_changed(tell: Tell, cause: str | None) -> None:
    if cause is None:
        tell("A09", "daemon", "the store can be written again")
    else:
        sentence = f"the store cannot be written; everything goes on, and is written later: {cause}"
        tell("A08", "daemon", sentence, Severity.ALARM)
