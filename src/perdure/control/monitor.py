"""The monitor asks: one task for each check of each replica, and one each for the kernel's view and the monitor itself.

It decides nothing; what to ask next and how soon comes from `detect.probe`, and every result goes to the agent's
inbox as evidence. Results that span a pause of the monitor itself are void and asked again at once; what the daemon
cannot ask is told, and asked again in time (`detect.self_health`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace

from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import confirm, oom, probe, self_health
from perdure.model.check import Check, CheckKind, CheckRole
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Beat, Held, Probed, Sighted
from perdure.model.replica import LIVE, Process, State
from perdure.ports.clock import Clock
from perdure.ports.host import Host
from perdure.ports.prober import Answer, Prober, Target
from perdure.ports.runner import Runner

SIGHT_EVERY_S = 0.25
MEMORY_EVERY_S = 2.0
HOLD_EVERY_S = 0.5
HELD_TURNS = 4
"""Descriptors of a replica are counted at every fourth look at what all hold: each two seconds."""
VOID_AGAIN_S = 0.1
PEERS_ASKED_MAX = 16
CONFIRMATIONS = 4
"""Questions of a second each before it is given up, or begun anew."""
ANY_STATUS = tuple(range(100, 600))


@dataclass(frozen=True, slots=True)
class Asking:
    """One question: when it was asked and answered, and how."""

    started_at: float
    ended_at: float
    answer: Answer


@dataclass(slots=True)
class Monitor:
    """Watches the replicas of a world; `on_evidence` gets probes and sights, `on_pause` the monitor's own pauses,
    `on_hindered` why it cannot ask, and None when it can again.
    """

    clock: Clock
    prober: Prober
    runner: Runner
    host: Host
    world: World
    on_evidence: Callable[[Probed | Sighted | Held | Beat], None]
    on_pause: Callable[[self_health.Pause], None]
    environment: Callable[[SlotState], tuple[tuple[str, str], ...]]
    awake: self_health.Wakefulness = field(default_factory=lambda: self_health.Wakefulness(0.0))
    hindrance: self_health.Hindrance = field(default_factory=self_health.Hindrance)
    on_hindered: Callable[[UnavailableError | None], None] = lambda error: None
    _tasks: dict[str, list[asyncio.Task[None]]] = field(default_factory=dict)
    _bursts: set[asyncio.Task[None]] = field(default_factory=set)
    _looks: int = 0
    _confirming: set[str] = field(default_factory=set)
    """Replicas that are asked what clients ask, because those get no answer."""

    def watch(self, service: ServiceState, slot: SlotState) -> None:
        """Begin to ask a replica; what was asked before under the same name is asked no more."""
        replica = slot.replica
        assert replica is not None
        self.forget(replica.name)
        self._tasks[replica.name] = [
            asyncio.create_task(self._ask(service, slot, check), name=f"ask {replica.name} {check.label}")
            for check in service.rules_of(slot).service.asked
        ]

    def forget(self, replica: str) -> None:
        """Ask a replica no more."""
        for task in self._tasks.pop(replica, []):
            task.cancel()

    def watched(self, replica: str) -> bool:
        """Whether a replica is asked."""
        return replica in self._tasks

    def confirm(self, service: ServiceState, slot: SlotState, path: str) -> None:
        """Ask a replica what clients ask most, for a request of a client has got no answer for long; and its peers at
        the same time: when they do not answer soon either, all wait for the same.
        """
        check = Check(CheckKind.HTTP, path, expect_status=ANY_STATUS, role=CheckRole.CONFIRMS)
        peers = [one for one in service.slots.values() if one is not slot and one.serves]
        for one in [slot, *peers[:PEERS_ASKED_MAX]]:
            if one.replica is not None and one.replica.name not in self._confirming:
                self._confirming.add(one.replica.name)
                one.belief = replace(one.belief, asked=confirm.watched(one.belief.asked, self.clock.now()))
                self._started(self._confirm(service, one, check, one.replica.name))

    async def close(self) -> None:
        """End every task."""
        tasks = [task for tasks in self._tasks.values() for task in tasks] + list(self._bursts)
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def note_awake(self) -> None:
        """Note that the monitor runs; tells of the pause that this ends. Called before anything is concluded."""
        self.awake, pause = self_health.note(self.awake, self.clock.now())
        if pause is not None:
            self.on_pause(pause)

    async def tick(self) -> None:
        """Note ten times a second that the monitor runs, for ever."""
        self.awake = self_health.Wakefulness(self.clock.now())
        while True:
            await self.clock.sleep_until(self.clock.now() + self_health.TICK_S)
            self.note_awake()

    async def listen(self) -> None:
        """Ask the monitor itself twice a second, for ever: a late answer means that it could not see."""
        while True:
            await self._listen()
            await self.clock.sleep_until(self.clock.now() + self_health.ECHO_EVERY_S)

    async def _listen(self) -> None:
        asked_at = self.clock.now()
        try:
            heard = await self.prober.echo(self_health.ECHO_TIMEOUT_S)
        except UnavailableError as error:
            self._hindered(error)
            return
        self.note_awake()
        self.awake, pause = self_health.note_echo(self.awake, asked_at, self.clock.now(), heard)
        if pause is not None:
            self.on_pause(pause)
        checks = (check for service in self.world.services.values() for check in service.rules.service.asked)
        every_s = max((check.interval_s for check in checks), default=0.0)
        if heard and self_health.asks_again(self.hindrance, self.clock.now(), every_s):
            self.hindrance = self_health.Hindrance()
            self.on_hindered(None)

    def _hindered(self, error: UnavailableError) -> None:
        before, self.hindrance = self.hindrance, self_health.hindered(self.clock.now())
        if not before.lasts:
            self.on_hindered(error)

    async def look(self) -> None:
        """Look at every process four times a second, at backlogs twice, and at memory every two seconds, for ever."""
        memory_at = hold_at = 0.0
        while True:
            now = self.clock.now()
            with_memory = now >= memory_at
            if with_memory:
                memory_at = now + MEMORY_EVERY_S
                self.world.oom_kills = oom.observe(self.world.oom_kills, self.host.oom_kills(), now)
            self._sight(now, with_memory)
            if now >= hold_at:
                hold_at = now + HOLD_EVERY_S - SIGHT_EVERY_S / 2.0
                self._hold(now)
            await self.clock.sleep_until(now + SIGHT_EVERY_S)

    def _sight(self, now: float, with_memory: bool) -> None:
        limited: list[tuple[SlotState, Process]] = []
        for service, slot in self.world.slots():
            replica = slot.replica
            if replica is None or replica.process is None or replica.state not in LIVE:
                continue
            letter = self.runner.sight(replica.process).letter
            kernel = slot.belief.kernel
            if letter in "TtD" or kernel.stopped_since_at is not None or kernel.blocked_since_at is not None:
                self.on_evidence(Sighted(replica.name, now, letter))
            if with_memory and service.rules_of(slot).service.limits.memory_bytes is not None:
                limited.append((slot, replica.process))
        if not limited:
            return
        for (slot, process), held in zip(
            limited, self.runner.group_memory([process for _, process in limited]), strict=True
        ):
            assert slot.replica is not None
            self.on_evidence(Sighted(slot.replica.name, now, self.runner.sight(process).letter, held))

    def _hold(self, now: float) -> None:
        """Look at the backlog of every port, and at the descriptors of a quarter of the replicas, in turn."""
        self._looks += 1
        backlogs = self.host.backlogs()
        for number, (_, slot) in enumerate(self.world.slots()):
            replica = slot.replica
            if replica is None or replica.process is None or replica.state not in LIVE:
                continue
            waiting, allowed = backlogs.get(replica.port, (0, 0))
            news = waiting > 0 or slot.belief.holdings.backlog_full_since_at is not None
            if number % HELD_TURNS == self._looks % HELD_TURNS:
                one = self.runner.sight(replica.process, descriptors=True)
                self.on_evidence(
                    Held(replica.name, now, waiting, max(1, allowed), one.descriptors, one.descriptors_max)
                )
            elif news and allowed:
                self.on_evidence(Held(replica.name, now, waiting, allowed))

    async def _ask(self, service: ServiceState, slot: SlotState, check: Check) -> None:
        replica = slot.replica
        assert replica is not None
        at = self.clock.now()
        if replica.state is not State.STARTING:
            at += spread(replica.name + check.label) * check.interval_s
        while True:
            await self.clock.sleep_until(at)
            started_at = self.clock.now()
            void = await self._probe(service, slot, check, check.timeout_s)
            if slot.replica is None or slot.replica.name != replica.name:
                return
            asked = slot.belief.asked.get(check.label, probe.Asked(check.label))
            if not void and probe.wants_burst(asked) and slot.replica.state is not State.STARTING:
                self._burst(service, slot, check)
                self._ask_peers(service, slot, check)
            starting = slot.replica.state is State.STARTING
            since_start_s = started_at - slot.replica.since_at
            at_once = void and self.hindrance.last_at < started_at
            pause_s = VOID_AGAIN_S if at_once else probe.interval_s(check, asked, starting, since_start_s)
            at = max(started_at + pause_s, self.clock.now() + probe.SPACING_S_MIN)

    async def _confirm(self, service: ServiceState, slot: SlotState, check: Check, replica: str) -> None:
        try:
            for _ in range(CONFIRMATIONS):
                started_at = self.clock.now()
                await self._probe(service, slot, check, check.timeout_s)
                await self.clock.sleep_until(started_at + check.timeout_s)
                asked = slot.belief.asked.get(check.label)
                if slot.replica is None or slot.replica.name != replica or asked is None or not asked.misses:
                    break
        finally:
            self._confirming.discard(replica)

    def _burst(self, service: ServiceState, slot: SlotState, check: Check) -> None:
        for number in range(probe.BURST):
            self._started(self._burst_probe(service, slot, check, number * probe.BURST_SPACING_S))

    def _started(self, asking: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(asking, name="ask once more")
        self._bursts.add(task)
        task.add_done_callback(self._bursts.discard)

    def _ask_peers(self, service: ServiceState, slot: SlotState, check: Check) -> None:
        """Find out at once whether the others show the same: then the cause is shared, and nobody is to be isolated."""
        serving = [one for one in service.slots.values() if one is not slot and one.serves]
        for peer in serving[:PEERS_ASKED_MAX]:
            self._started(self._ask_peer(service, peer, check))

    async def _ask_peer(self, service: ServiceState, peer: SlotState, check: Check) -> None:
        void = await self._probe(service, peer, check, min(check.timeout_s, probe.BURST_TIMEOUT_S))
        asked = peer.belief.asked.get(check.label, probe.Asked(check.label))
        if not void and probe.wants_burst(asked) and peer.serves:
            self._burst(service, peer, check)

    async def _burst_probe(self, service: ServiceState, slot: SlotState, check: Check, delay_s: float) -> None:
        await self.clock.sleep_until(self.clock.now() + delay_s)
        await self._probe(service, slot, check, min(check.timeout_s, probe.BURST_TIMEOUT_S))

    async def ask(
        self, service: ServiceState, slot: SlotState, check: Check, timeout_s: float, *, twice: bool = False
    ) -> "Asking | None":
        """Ask a live replica once; None when that says nothing, because the monitor itself could not ask or paused."""
        replica = slot.replica
        assert replica is not None
        declared = service.rules_of(slot).service
        target = Target(replica.port, self.environment(slot), declared.directory, declared.user, declared.group)
        started_at = self.clock.now()
        try:
            answer = await self.prober.probe(check, target, timeout_s, twice)
        except UnavailableError as error:
            # This daemon could not ask; that says nothing of the replica, so nothing is handed in.
            self._hindered(error)
            return None
        self.note_awake()
        ended_at = self.clock.now()
        if self_health.spans_pause(self.awake, started_at, ended_at):
            return None
        return Asking(started_at, ended_at, answer)

    async def _probe(self, service: ServiceState, slot: SlotState, check: Check, timeout_s: float) -> bool:
        """Ask once and hand in the result; True when it is void: the monitor paused meanwhile, or could not ask."""
        replica = slot.replica
        if replica is None or replica.state not in LIVE:
            return False
        before = slot.belief.asked.get(check.label)
        asked = await self.ask(service, slot, check, timeout_s, twice=probe.on_both_kinds(before))
        if asked is None:
            return True
        if slot.replica is replica or (slot.replica is not None and slot.replica.name == replica.name):
            came = asked.answer
            self.on_evidence(
                Probed(
                    replica.name,
                    check.label,
                    asked.started_at,
                    asked.ended_at,
                    came.outcome,
                    came.excerpt,
                    came.certificate_until,
                    came.clock_ahead_s,
                )
            )
        return False


def spread(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, so that the probes of many replicas do not come in step."""
    value = 0
    for letter in name:
        value = (value * 131 + ord(letter)) % 1_000_003
    return value / 1_000_003
