"""One simulated day while it passes: readings, looks and turns of a daemon that is real from the evidence on.

`days` says which parts of it are simpler than in the daemon. The order within a step is that of the daemon: the monitor
notes that it runs, the process table is looked at, HAProxy is read, and a turn is taken if one is due; probes and
heartbeats come by timers of their own. Neighbours: `crowd` makes what is read, `sky` disturbs, `quiet` spares turns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perdure.control import appraise, news, turn
from perdure.control.execute import Executor
from perdure.control.observe import Observer
from perdure.control.world import ServiceState
from perdure.detect import suspect
from perdure.model.decision import Begin, Decision, Note
from perdure.model.event import Fact, Severity
from perdure.model.evidence import Beat, Exited, Held, Sighted
from perdure.model.replica import SERVING, Replica, Slot, State
from perdure.model.traffic import Answered, Reading
from perdure.sim import quiet
from perdure.sim.crowd import LOGGED_IN_PAUSE, Crowd, Tap
from perdure.sim.life import Life
from perdure.sim.loop import VirtualLoop
from perdure.sim.lull import Lull
from perdure.sim.sky import Sky
from perdure.sim.trace import Trace

STEP_S = 0.1
"""Between two readings while something happens."""
LONG_STEP_S = 0.2
CALM_STEP_S = 1.0
READ_S_MAX = 5.0
SPACING_S = 0.002
LOOK_S = 10.0
"""Between two turns for which there is no reason."""
HELD_EVERY_S = 10.0
TOLD = ("R01", "R11", "R12", "R13", "R14", "P09")
"""Rules that act against a replica."""


@dataclass(frozen=True, slots=True)
class Found:
    """Perdure acted against a replica."""

    at: float
    rule: str
    number: int
    sentence: str
    during: str
    """The disturbances in force, or just over (`sky.CALM`: none)."""
    facts: Mapping[str, Fact]
    wrong: bool
    """Nothing was wrong with it."""


@dataclass(slots=True)
class Day:
    """One day while it passes; `played` makes it and lets it pass."""

    loop: VirtualLoop
    life: Life
    crowd: Crowd
    sky: Sky
    trace: Trace
    service: ServiceState
    observer: Observer
    executor: Executor
    found: list[Found] = field(default_factory=list)
    suspected: int = 0
    """How often a replica was suspected."""
    lull: Lull = field(default_factory=Lull)
    exits: list[Exited] = field(default_factory=list)
    _due: bool = False
    """A turn is due in a moment."""
    _turned_at: float = -LOOK_S
    _held_at: float = 0.0
    _read_at: float = 0.0

    # The daemon's side; these callbacks wait while the monitor is paused

    def touch(self, service: str) -> None:
        """Something was observed: take a turn at once."""
        if not self._due:
            self._due = True
            self.loop.call_at(self.loop.time() + SPACING_S, self.turn, context=self.life.context)

    def tell(
        self,
        rule: str,
        subject: str,
        sentence: str,
        severity: Severity = Severity.INFO,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Write an event that is not a decision to the trace."""
        self.trace.note(self.loop.time(), "event", f"{rule} {subject}: {sentence}")

    def step(self) -> None:
        """Look at everything that is due, then wait for the next step."""
        now = self.loop.time()
        self.sky.monitor.note_awake()
        self.crowd.advance(now)
        eventful = now < max(self.crowd.eventful_until_at, self.sky.close_until_at) or self.sky.bad > 0
        step_s = STEP_S if eventful else LONG_STEP_S if now < self.crowd.long_until_at else CALM_STEP_S
        self._look(now)
        self._read(now, step_s < CALM_STEP_S)
        if now >= self.service.look_at:
            self.turn()
        # Steps meet at whole seconds, at which the crowd draws who comes in the next one.
        whole_at = math.floor(now) + CALM_STEP_S
        next_at = now + step_s if now + 1.5 * step_s < whole_at else whole_at
        self.loop.call_at(next_at, self.step, context=self.life.context)

    def glance(self) -> None:
        """Read HAProxy at once."""
        self._read(self.loop.time(), True)

    def turn(self) -> None:
        """Decide and act, as `control.agent` does."""
        self._due = False
        now, service = self.loop.time(), self.service
        self.sky.monitor.note_awake()
        self._bury()
        if quiet.decides_nothing(service, now) and now - self._turned_at < LOOK_S:
            service.look_at = now + LOOK_S
            return
        self._turned_at = now
        self._decide(now)

    def _decide(self, now: float) -> None:
        service = self.service
        standings = appraise.standings(service, now)
        facts = turn.Facts(service.desired, standings, True, service.bucket, service.shared_at, service.notes)
        plan = turn.decide(facts, now)
        service.bucket, service.shared_at = plan.bucket, plan.shared_at
        fresh = news.of(service, plan.decisions, now)
        changes = [one for one in fresh if not isinstance(one.change, Note)]
        for one in fresh[len(changes) :]:
            self.tell(one.rule, one.subject, one.sentence)
        for decision in changes:
            self._act(decision, now)
        slots = service.slots.values()
        silence_at = min(
            (suspect.look_again_at(slot.belief, now, service.rules) for slot in slots if slot.live),
            default=float("inf"),
        )
        look_at = min(plan.look_again_at, silence_at, now + LOOK_S)
        service.look_at = now if changes else max(now + SPACING_S, look_at)
        if changes:
            self.touch(service.name)

    def _look(self, now: float) -> None:
        """What the kernel says, and heartbeats."""
        held = now - self._held_at >= HELD_EVERY_S
        if held:
            self._held_at = now
        for index, tap in enumerate(self.crowd.taps):
            slot = self.service.slots.get(index + 1)
            replica = slot.replica if slot is not None else None
            if slot is None or replica is None or replica.process is None or not slot.live:
                continue
            paused = tap.paused_until_at > now
            kernel = slot.belief.kernel
            if paused or kernel.stopped_since_at is not None:
                letter = self.executor.runner.sight(replica.process).letter
                self.observer.on_evidence(Sighted(replica.name, now, letter))
            if held:
                self._hold(replica, tap, now)

    def _hold(self, replica: Replica, tap: Tap, now: float) -> None:
        random, limit = self.crowd.random, self.service.rules.service.limits.memory_bytes
        descriptors = 40 + tap.sessions + int(random.random() * 20.0)
        self.observer.on_evidence(Held(replica.name, now, 0, 128, descriptors, 1024))
        if limit is not None:
            # Garbage is collected when three quarters are full or so, and by another replica at another time.
            period_s = 300.0 + 200.0 * replica.slot.number
            share = 0.3 + 0.35 * ((now % period_s) / period_s) + 0.05 * random.random()
            self.observer.on_evidence(Sighted(replica.name, now, "S", int(limit * share)))

    def beat(self, number: int) -> None:
        """A replica says that it lives, if it does."""
        now, every_s, slot = self.loop.time(), self.crowd.weather.climate.beat_every_s, self.service.slots.get(number)
        assert every_s is not None
        late_s = max(0.0, self.crowd.taps[number - 1].paused_until_at - now)
        if slot is not None and slot.replica is not None and slot.live and not late_s:
            self.observer.on_evidence(Beat(slot.replica.name, now))
        next_at = now + (late_s or every_s * self.crowd.random.uniform(0.45, 0.55))
        self.loop.call_at(next_at, self.beat, number, context=self.life.context)

    def _read(self, now: float, close: bool) -> None:
        """Read HAProxy, or only its log while nothing else can be of interest."""
        lines: Sequence[Answered] = self.crowd.taken()
        earlier: Sequence[Answered] = ()
        if self.sky.dozed:
            self.sky.dozed, lines = False, lines[:LOGGED_IN_PAUSE]
            self.lull.forget()
        elif close:
            earlier = self.lull.ended()
        else:
            earlier, lines = self.lull.sorted(self.service, lines, now)
        if earlier:
            self.observer.sampler.take(self.service, earlier, now - CALM_STEP_S)
        if close or lines or now - self._read_at >= READ_S_MAX:
            self._read_at = now
            self.observer.on_reading(Reading(now, 1, (self.crowd.shown(),), frozenset(), tuple(lines)))

    def _bury(self) -> None:
        """Enter the ends of replicas."""
        exits, self.exits = self.exits, []
        for exited in exits:
            slot = self.service.slots[Slot.parse(exited.replica.partition("#")[0]).number]
            if slot.replica is not None and slot.replica.name == exited.replica:
                self.executor.exited(self.service, slot, exited.exit)
                self.sky.monitor.forget(exited.replica)
        for slot in self.service.slots.values():
            if slot.exited and slot.live:
                self.executor.bury(self.service, slot)
        if exits:
            self._reopen()

    def _act(self, decision: Decision, now: float) -> None:
        change = decision.change
        assert not isinstance(change, Note)
        self.trace.note(now, "event", f"{decision.rule} {decision.subject}: {decision.sentence}")
        number = change.slot.number
        self.suspected += decision.rule == "R03"
        if decision.rule in TOLD:
            wrong = number != self.sky.bad
            during = self.sky.during()
            self.found.append(Found(now, decision.rule, number, decision.sentence, during, decision.facts, wrong))
        self.executor.prepare(self.service, decision)
        self.executor.act(self.service, decision)
        slot = self.service.slots[number]
        if isinstance(change, Begin):
            self.sky.monitor.watch(self.service, slot)
            self.crowd.lose(number - 1)
        elif slot.replica is not None and slot.replica.state in (State.STOPPING, State.STOPPED):
            self.sky.monitor.forget(slot.replica.name)
        self._reopen()

    def _reopen(self) -> None:
        """Tell HAProxy who gets requests."""
        for index, tap in enumerate(self.crowd.taps):
            slot = self.service.slots.get(index + 1)
            replica = slot.replica if slot is not None else None
            tap.open = replica is not None and replica.state in SERVING
            tap.port = replica.port if replica is not None else tap.port
            tap.shown = None
