"""Observing: what callbacks bring (probes, heartbeats, readings of HAProxy, pauses) becomes belief, and nothing else.

`agent` gives every observation to this observer and takes its turns from what is known afterwards; the arithmetic of
evidence is in `detect`. The loop is woken only by news: a good answer of a healthy replica is no news.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perdure.control import cargo, conditions, contest, crowding, sample
from perdure.control.tell import Tell
from perdure.control.world import ServiceState, SlotState, Totals, World
from perdure.detect import limits, peers, self_health, stall, suspect, traffic, vantage
from perdure.model.check import CheckKind
from perdure.model.errors import UnavailableError
from perdure.model.event import Fact, Severity
from perdure.model.evidence import Beat, Held, Outcome, Probed, Served, Sighted
from perdure.model.replica import Slot, State
from perdure.model.service import Protocol
from perdure.model.traffic import Admin, Answered, Backend, Counters, Reading, Server
from perdure.ports.runner import Runner
from perdure.prevent import retry

TOLD_PAUSE_S = 1.0
"""Shorter pauses of the monitor count, but are no event."""


@dataclass(slots=True)
class Observer:
    """Enters observations into a world; `touch` wakes the loop for a service, `tell` records an event."""

    world: World
    runner: Runner
    touch: Callable[[str], None]
    tell: Tell
    on_paused: Callable[[float], None] = lambda pause_s: None
    """Told of each pause of the monitor, in seconds, so that others can shift their deadlines too."""
    on_overdue: Callable[[ServiceState, SlotState, str], None] = lambda service, slot, path: None
    """Told that a request of a client gets no answer, and which path is usually answered well and soon."""
    sampler: sample.Sampler = field(default_factory=sample.Sampler)
    _counters: dict[tuple[str, str], tuple[int, str, Counters]] = field(default_factory=dict)
    """Service and server -> HAProxy's pid, the replica behind the server, and the counters at the last reading."""

    def on_evidence(self, evidence: Probed | Sighted | Held | Beat) -> None:
        """A probe, a look at the process, or a heartbeat: changes the belief, and wakes the loop unless all is well."""
        slot = Slot.parse(evidence.replica.partition("#")[0])
        service = self.world.services.get(slot.service)
        state = service.slots.get(slot.number) if service is not None else None
        if service is None or state is None or state.replica is None or state.replica.name != evidence.replica:
            return
        before = state.belief
        if isinstance(evidence, Probed):
            evidence = self._checked_port(service, state, evidence)
        state.belief = suspect.observe(before, evidence, service.rules_of(state))
        quiet = state.replica.state in (State.READY, State.PASSIVE) and state.verdict is None
        if isinstance(evidence, Probed):
            asked = before.asked.get(evidence.check)
            self._hear(service, evidence)
            quiet = quiet and evidence.outcome is Outcome.GOOD and (asked is None or not asked.misses)
        if isinstance(evidence, Held):
            quiet = limits.judge(state.belief.holdings) is None and state.verdict is None
        if not (quiet and not isinstance(evidence, Sighted)):
            self.touch(slot.service)

    def _hear(self, service: ServiceState, probed: Probed) -> None:
        """Whether the monitor hears anybody: whose answer is an error is heard, a refusal and a foreign answer may be
        anybody's.
        """
        if probed.outcome is Outcome.TIMEOUT:
            service.hearing = vantage.miss(service.hearing, probed.replica)
        elif probed.outcome not in (Outcome.REFUSED, Outcome.FOREIGN):
            service.hearing = vantage.hear(service.hearing, probed.started_at, service.asked_every_s)

    def on_pause(self, pause: self_health.Pause) -> None:
        """The monitor itself did not run: nobody's silence counts for that time."""
        for service, slot in self.world.slots():
            slot.belief = suspect.shifted(slot.belief, pause.length_s)
            if slot.verdict_since_at is not None:
                slot.verdict_since_at += pause.length_s
            if slot.replica is not None and slot.replica.state is State.STARTING:
                slot.replica = replace(slot.replica, since_at=slot.replica.since_at + pause.length_s)
            service.look_at, service.counted_by = 0.0, 0
        self._counters.clear()
        self.sampler.forget()
        self.on_paused(pause.length_s)
        if pause.length_s < TOLD_PAUSE_S:
            return
        sentence = f"Perdure itself did not run for {pause.length_s:.1f} s; deadlines are shifted, samples are void"
        self.tell("A10", "daemon", sentence, Severity.WARNING, {"pause_s": round(pause.length_s, 3)})

    def on_hindered(self, error: UnavailableError | None) -> None:
        """The daemon itself cannot ask its questions, or None: it can again."""
        if error is None:
            self.tell("A13", "daemon", "replicas can be asked again")
            return
        sentence = f"replicas cannot all be asked: {error.sentence}; they are judged by what else is seen of them"
        self.tell("A12", "daemon", sentence, Severity.ALARM, {"hint": error.hint})

    def on_reading(self, reading: Reading) -> None:
        """What HAProxy reports: evidence about each replica, the retry budget, and what is still in flight."""
        self.sampler.keep(self.world.services)
        lines: dict[str, list[Answered]] = {}
        for line in reading.answered:
            lines.setdefault(line.service, []).append(line)
        for backend in reading.backends:
            service = self.world.services.get(backend.service)
            if service is None:
                continue
            service.backend, service.backend_at, service.lingering = backend, reading.at, reading.lingering
            if service.counted_by != reading.pid:
                service.counted_by, service.counted_since_at = reading.pid, reading.at
            crowded = crowding.crowded(service, backend)
            service.crowded_since_at = (service.crowded_since_at or reading.at) if crowded else None
            self._served(service, backend, reading, lines.get(service.name, ()))
            if self.sampler.take(service, lines.get(service.name, ()), reading.at):
                self._touch_suspected(service)
            self._budget(service, reading.at)
            if any(slot.replica and slot.replica.state is State.DRAINING for slot in service.slots.values()):
                self.touch(service.name)

    def _touch_suspected(self, service: ServiceState) -> None:
        """A turn is needed only where something speaks against a replica, or all show the same."""
        for slot in service.slots.values():
            endpoints = slot.belief.endpoints.values()
            if any(any(seen.scores) or seen.tallies[0].failures >= 1.0 for one in endpoints for seen in one.seen):
                self.touch(service.name)
                return

    def _checked_port(self, service: ServiceState, slot: SlotState, probed: Probed) -> Probed:
        """A good answer over the port counts only when a process of the replica's own group gave it; asked until it was
        so once. A command's says nothing of the port, but may be the only occasion to ask whose it is.
        """
        replica = slot.replica
        if slot.port_checked or probed.outcome is not Outcome.GOOD or replica is None or replica.process is None:
            return probed
        over_port = not probed.check.startswith(CheckKind.COMMAND)
        if over_port or service.rules_of(slot).service.listen is not None:
            slot.port_checked = self.runner.owns_port(replica.process, replica.port)
        if slot.port_checked or not over_port:
            return probed
        answer = f"port {replica.port} is answered by a process that is not the replica's"
        return replace(probed, outcome=Outcome.FOREIGN, answer=answer)

    def _served(self, service: ServiceState, backend: Backend, reading: Reading, lines: Sequence[Answered]) -> None:
        by_port = {slot.replica.port: slot for slot in service.slots.values() if slot.replica and slot.live}
        new: list[tuple[SlotState, Served]] = []
        requests = retries = 0
        for server in backend.servers:
            slot = by_port.get(server.port)
            if slot is None or slot.replica is None or server.admin is Admin.MAINT:
                continue
            self._held_down(slot, server, reading.at)
            name, key = slot.replica.name, (service.name, server.name)
            pid, replica, before = self._counters.get(key, (0, "", server.counters))
            self._counters[key] = (reading.pid, name, server.counters)
            if (pid, replica) != (reading.pid, name):
                continue
            if service.desired.service.protocol is Protocol.HTTP:
                self._flown(service, slot, server, before, reading.at)
            if before == server.counters:
                continue
            served = traffic.tried(name, reading.at, before, server.counters)
            repeated = server.counters.repeated - before.repeated
            _add(slot.totals, served, repeated)
            requests += served.requests
            retries += repeated
            new.append((slot, served))
        for slot, served in new:
            slot.belief = replace(slot.belief, seen=traffic.count(slot.belief.seen, served))
        if any(served.failures or any(slot.belief.seen.scores) for slot, served in new):
            self._compare(service, {slot.slot.number: served for slot, served in new}, reading.at)
        self._enter(service, new, lines, reading.at)
        if requests or retries:
            service.spent.append((reading.at, max(0, requests), max(0, retries)))

    def _enter(
        self, service: ServiceState, new: Sequence[tuple[SlotState, Served]], lines: Sequence[Answered], now: float
    ) -> None:
        """Hand over what the two releases of a rollout got."""
        rollout = service.desired.rollout
        service.contest = contest.due(service.contest, rollout)
        if service.contest is None or rollout is None:
            return
        counted = [
            contest.Counted(slot.replica.release, slot.replica.port, served)
            for slot, served in new
            if slot.replica is not None
        ]
        share = cargo.share(service, rollout)
        service.contest.enter(rollout, contest.Portion(now, counted, lines, share))

    def _compare(self, service: ServiceState, new: Mapping[int, Served], now: float) -> None:
        """Judge each replica that was asked against all the others; called only when something failed, or did."""
        live = [slot for slot in service.slots.values() if slot.live]
        serving = sum(slot.serves for slot in live)
        without = peers.leave_one_out([traffic.summary(slot.belief.seen, now) for slot in live])
        for slot, others in zip(live, without, strict=True):
            served = new.get(slot.slot.number)
            if served is None or not (served.failures or any(slot.belief.seen.scores)):
                continue
            if service.desired.serving > 1 and serving == slot.serves:
                continue  # nobody to compare with, and nobody else to send its requests to
            seen = traffic.observe(slot.belief.seen, served, others)
            slot.belief = replace(slot.belief, seen=seen)
            if any(seen.scores) and traffic.judge(seen, service.rules.traffic_limit, not others.number) is not None:
                self.touch(service.name)

    def _flown(self, service: ServiceState, slot: SlotState, server: Server, before: Counters, at: float) -> None:
        """What is in flight: does the replica answer at all?"""
        stalled = slot.belief.stalled
        if before == server.counters and not server.sessions and not stalled.open:
            return
        requests = server.counters.requests - before.requests
        responses = server.counters.responses - before.responses
        stalled = stall.observe(stalled, at, requests, responses, server.sessions)
        good = responses - (server.counters.responses_5xx - before.responses_5xx)
        answers = vantage.observe(slot.belief.answers, at, good, server.sessions)
        slot.belief = replace(slot.belief, stalled=stalled, answers=answers)
        if stall.overdue(stalled):
            self.touch(service.name)
        if stall.lasts(stalled):
            path = self.sampler.commonest(service.name)
            if (
                path is not None
                and slot.serves
                and any(one.serves for one in service.slots.values() if one is not slot)
            ):
                self.on_overdue(service, slot, path)

    def _held_down(self, slot: SlotState, server: Server, at: float) -> None:
        slot.check_fails = server.failing
        if server.up:
            slot.down_seen_at = None
            return
        if slot.down_seen_at is None:
            slot.down_seen_at = at
        self.touch(slot.slot.service)

    def _budget(self, service: ServiceState, now: float) -> None:
        spent = conditions.retry_spent(service, now)
        spreading = conditions.deadly_request(service, now) is not None
        allowed = not spreading and retry.allowed(spent, service.desired.service.retry.budget, now)
        if allowed is (service.retries_off_since_at is None):
            return
        service.retries_off_since_at = None if allowed else now
        facts: dict[str, Fact] = {"requests": spent.requests, "retries": spent.retries}
        if allowed:
            self.tell("P21", service.name, "requests may be retried again", Severity.INFO, facts)
        elif not spreading:
            sentence = f"{spent.retries} retries for {spent.requests} requests in 10 s: retries are switched off"
            self.tell("P20", service.name, sentence, Severity.ALARM, facts)
        self.touch(service.name)


def _add(totals: Totals, served: Served, repeated: int) -> None:
    totals.requests += served.requests
    totals.failures += served.failures
    totals.retries += max(0, repeated)
