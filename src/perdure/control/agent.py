"""The agent of this host: the one loop, at its own pace: observe, decide, record, act.

Callbacks (exits, probe results, heartbeats, readings of HAProxy, changes of what is wanted) only change what is known
and wake the loop; every act happens in a turn, after its decisions are recorded. A turn looks only at the services for
which something was observed or whose instant has come, so that a thousand healthy replicas cost next to nothing.
Neighbours: `world` holds what is known, `turn` decides, `record` writes, `execute` acts, `carry` tells HAProxy.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from perdure.control import appraise, cargo, conditions, crowding, journal, news, persist, turn, waiting
from perdure.control.carry import Carrier
from perdure.control.execute import Executor
from perdure.control.monitor import Monitor
from perdure.control.own import Owners
from perdure.control.preserve import Preserver
from perdure.control.record import Recorder
from perdure.control.survey import Surveyor
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import deadly, suspect, tasks
from perdure.model.check import Check
from perdure.model.decision import Begin, Decision, Note, outward
from perdure.model.errors import UnavailableError
from perdure.model.event import Event, Fact, Severity
from perdure.model.evidence import Exited
from perdure.model.replica import SERVING, Slot, State
from perdure.model.standing import Desired
from perdure.ports.clock import Clock
from perdure.ports.runner import Runner
from perdure.prevent import notice

TURN_SPACING_S = 0.002
"""Pause between two turns, so that observations that belong together are seen together."""
LOOK_S_MAX = 1.0
BURY_S_MAX = 0.05
"""Finding what an ended replica left behind takes a look at all processes; the rest waits for the next turn."""
STARTS_PER_TURN = 32
"""Starting a process takes milliseconds, and meanwhile the loop must see to the others."""
GROUP_AGAIN_S = 0.05
EMPTY_AGAIN_S = 0.05
LEARNED_S_MAX = 1.0

log = structlog.get_logger()


@dataclass(slots=True)
class Agent:
    """Runs the services of one host; see the module. Give it its parts, then `run` it."""

    clock: Clock
    runner: Runner
    world: World
    recorder: Recorder
    executor: Executor
    monitor: Monitor
    carrier: Carrier
    surveyor: Surveyor
    owners: Owners
    preserver: Preserver
    loop_at: float = 0.0
    """When the last turn was completed."""
    wanted_revision: int = 0
    """Up to which revision of the store the agent knows what is wanted."""
    _exits: list[Exited] = field(default_factory=list)
    _dirty: dict[str, None] = field(default_factory=dict)
    _changed: dict[Slot, None] = field(default_factory=dict)
    """Slots whose documents must be written with the next record."""
    _events: list[Event] = field(default_factory=list)
    _turn_s: float = 0.0
    """How long the last turn kept the loop busy; the next one waits as long, so that callbacks keep half of the
    time.
    """
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    # What is observed

    def want(self, desired: Desired) -> None:
        """What is wanted of a service, new or changed."""
        name = desired.service.name
        service = self.world.services.get(name)
        if service is None:
            self.world.services[name] = ServiceState(desired, suspect.policy(desired.service))
        else:
            asked = {number: service.rules_of(slot).service.asked for number, slot in service.slots.items()}
            service.want(desired)
            service.removed = False
            self._ask_anew(service, asked)
        self.touch(name)

    def changed(self, slot: Slot) -> None:
        """Have a slot written down before the next decision of its service is carried out."""
        self._changed[slot] = None
        self.touch(slot.service)

    def watch_adopted(self) -> None:
        """Begin to ask the replicas that an earlier daemon left running."""
        for service, slot in self.world.slots():
            if slot.replica is not None and slot.live and slot.replica.state is not State.STOPPING:
                self.monitor.watch(service, slot)
            self.touch(service.name)

    def drop(self, name: str) -> None:
        """A service is no longer declared: its replicas are drained and ended, then it is forgotten."""
        service = self.world.services.get(name)
        if service is not None:
            service.desired = replace(service.desired, stopped=True)
            service.removed = True
            self.touch(name)

    def touch(self, service: str) -> None:
        """Something changed about a service: look at it now."""
        self._dirty[service] = None
        self._wake.set()

    def on_exit(self, exited: Exited) -> None:
        """A replica's first process has ended."""
        self._exits.append(exited)
        self._wake.set()

    def tell(
        self,
        rule: str,
        subject: str,
        sentence: str,
        severity: Severity = Severity.INFO,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Record an event that is not a decision of a turn."""
        self._events.append(Event(rule, subject, sentence, dict(facts or {}), severity, self.clock.wall()))
        self._wake.set()

    # The loop

    async def run(self) -> None:
        """Observe, decide, record, act, for ever."""
        while True:
            await self.turn()
            await self._pause()

    def load(self) -> None:
        """Say what HAProxy should carry now."""
        now = self.clock.now()
        for name, service in self.world.services.items():
            declared = service.desired.service
            if declared.listen is None or (service.removed and not _any_live(service)):
                self.carrier.cargo.pop(name, None)
                continue
            self.carrier.cargo[name] = cargo.of(service, now)

    async def learned(self, revision: int) -> None:
        """Return when the agent knows what was wanted at `revision` of the store, or after a second."""
        until_at = self.clock.now() + LEARNED_S_MAX
        while self.wanted_revision < revision and self.clock.now() < until_at:
            await self.clock.sleep_until(self.clock.now() + TURN_SPACING_S)

    async def emptied(self) -> None:
        """Return when no replica lives any more."""
        while any(slot.live for _, slot in self.world.slots()):
            await self.clock.sleep_until(self.clock.now() + EMPTY_AGAIN_S)

    async def turn(self) -> None:
        """One turn: everything that is due now."""
        self.monitor.note_awake()
        now = self.clock.now()
        self._bury(now)
        waits, waited_s = bool(self._events), 0.0
        services = self.world.services.values()
        due = [service for service in services if service.name in self._dirty or service.look_at <= now]
        self._dirty.clear()
        taken: list[tuple[ServiceState, Decision]] = []
        for service in due:
            taken += [(service, decision) for decision in self._decide(service, now)]
        if taken or self._events:
            self._record()
            if waits or any(outward(decision.change) for _, decision in taken):
                recorded_at = self.clock.now()
                await self.recorder.settled()
                waited_s = self.clock.now() - recorded_at
        if due:
            self.load()
            self.carrier.poke()
        self._act(taken)
        self.loop_at = self.clock.now()
        self._turn_s = self.loop_at - now - waited_s

    async def _pause(self) -> None:
        await self.clock.sleep_until(self.clock.now() + max(TURN_SPACING_S, self._turn_s))
        if self._wake.is_set():
            self._wake.clear()
            return
        until_at = min([self.clock.now() + LOOK_S_MAX, *(one.look_at for one in self.world.services.values())])
        await waiting.for_news(self._wake, self.clock, until_at)

    def _decide(self, service: ServiceState, now: float) -> Sequence[Decision]:
        service.term = self.owners.term(service)
        if conditions.hears_nobody(service, self.world.services.values()):
            service.deaf_at = now
        standings = appraise.standings(service, now)
        ready = self._dependencies_ready(service)
        plan = turn.decide(
            turn.Facts(
                service.desired,
                standings,
                ready,
                service.bucket,
                service.shared_at,
                service.notes,
                conditions.undecided(service),
                service.term,
                notice.Conditions(
                    conditions.room_left(service),
                    conditions.expiring(service, self.clock.wall()),
                    conditions.deadly_request(service, now),
                    tasks.sentence(service.started),
                    crowding.overloaded(service),
                ),
            ),
            now,
        )
        service.bucket, service.shared_at = plan.bucket, plan.shared_at
        fresh = _few_starts(news.of(service, plan.decisions, now))
        decisions = [decision for decision in fresh if self._prepare(service, decision)]
        silence_at = min(
            (
                suspect.look_again_at(slot.belief, now, service.rules_of(slot))
                for slot in service.slots.values()
                if slot.live
            ),
            default=float("inf"),
        )
        changed = any(not isinstance(decision.change, Note) for decision in decisions)
        soon = now + LOOK_S_MAX
        service.look_at = now if changed else max(now + TURN_SPACING_S, min(plan.look_again_at, silence_at, soon))
        if len(decisions) < len(fresh):
            service.look_at = soon
        if any(slot.exited and slot.live for slot in service.slots.values()):
            service.look_at = min(service.look_at, now + GROUP_AGAIN_S)
        return decisions

    def _prepare(self, service: ServiceState, decision: Decision) -> bool:
        """Prepare and record a decision; False when it cannot be carried out now: it is decided again later."""
        try:
            self.executor.prepare(service, decision)
        except UnavailableError as error:
            self._postponed(decision, error)
            return False
        facts = dict(decision.facts)
        if not isinstance(decision.change, Note):
            self._changed[decision.change.slot] = None
            replica = self.world.slot(decision.change.slot).replica
            facts |= {"state": replica.state.value, "run": replica.run} if replica is not None else {}
        event = Event(decision.rule, decision.subject, decision.sentence, facts, decision.severity, self.clock.wall())
        self._events.append(event)
        return True

    def _postponed(self, decision: Decision, error: UnavailableError) -> None:
        assert not isinstance(decision.change, Note)
        slot = self.world.slot(decision.change.slot)
        if (slot.last_rule, slot.last_sentence) != ("A11", error.sentence):
            slot.last_rule, slot.last_sentence = "A11", error.sentence
            self.tell("A11", decision.subject, error.sentence, Severity.ALARM, {"hint": error.hint})

    def _record(self) -> None:
        documents = persist.documents(self._changed_slots(), self.carrier)
        self._changed.clear()
        events, self._events = self._events, []
        self.recorder.note(documents, events)
        journal.write(events)

    def _changed_slots(self) -> list[SlotState]:
        return [self.world.slot(slot) for slot in self._changed if slot.service in self.world.services]

    def _act(self, taken: Sequence[tuple[ServiceState, Decision]]) -> None:
        for service, decision in taken:
            self.executor.act(service, decision)
            change = decision.change
            if isinstance(change, Note):
                continue
            slot = self.world.slot(change.slot)
            self.owners.act(service, decision)
            if isinstance(change, Begin) and slot.live:
                self.monitor.watch(service, slot)
                self._changed[slot.slot] = None
            elif slot.replica is not None and slot.replica.state in (State.STOPPING, State.STOPPED):
                self.monitor.forget(slot.replica.name)
            self.touch(service.name)

    def _bury(self, now: float) -> None:
        while self._exits and self.clock.now() < now + BURY_S_MAX:
            exited = self._exits.pop(0)
            slot = Slot.parse(exited.replica.partition("#")[0])
            service = self.world.services.get(slot.service)
            state = service.slots.get(slot.number) if service is not None else None
            if service is None or state is None or state.replica is None or state.replica.name != exited.replica:
                continue
            planned = state.replica.state is State.STOPPING
            if state.serves:
                service.deaths = deadly.died(service.deaths, exited.at)
            sentence = self.executor.exited(service, state, exited.exit)
            self.monitor.forget(exited.replica)
            facts: dict[str, Fact] = {"exit": str(exited.exit), "run": state.replica.run}
            severity = Severity.INFO if planned else Severity.WARNING
            state.last_rule, state.last_sentence = "R10", sentence
            self._changed[slot] = None
            self.tell("R10", str(slot), sentence, severity, facts)
            self.touch(slot.service)
        if self._exits:
            self._wake.set()
        for service, state in self.world.slots():
            if state.exited and state.live and self.executor.bury(service, state):
                self._changed[state.slot] = None
                self.touch(service.name)
        for name in [name for name, one in self.world.services.items() if one.removed and not _any_live(one)]:
            self.recorder.note(persist.gone(self.world.services.pop(name)), [])
            self.carrier.cargo.pop(name, None)
            self.carrier.poke()

    def _dependencies_ready(self, service: ServiceState) -> bool:
        needed = [self.world.services.get(name) for name in service.desired.service.depends_on]
        return all(
            one is not None and any(slot.replica and slot.replica.state in SERVING for slot in one.slots.values())
            for one in needed
        )

    def _ask_anew(self, service: ServiceState, before: Mapping[int, Sequence[Check]]) -> None:
        """Ask what is to be asked now, of the replicas for which that is something else than before."""
        for number, slot in service.slots.items():
            same = service.rules_of(slot).service.asked == before[number]
            if not same and slot.replica is not None and self.monitor.watched(slot.replica.name):
                slot.belief = replace(slot.belief, asked={})
                self.monitor.watch(service, slot)


def _few_starts(decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions without the starts that are too many for one turn; the next turn decides them again."""
    starts = [one for one in decisions if isinstance(one.change, Begin)]
    postponed = starts[STARTS_PER_TURN:]
    return [one for one in decisions if one not in postponed] if postponed else list(decisions)


def _any_live(service: ServiceState) -> bool:
    return any(slot.live for slot in service.slots.values())
