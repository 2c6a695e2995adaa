"""What the agent knows now: for each service what is wanted, for each slot its replica, belief and history.

The only mutable state of the control shell, changed by `agent` alone. Everything that must survive the daemon is also
in the store (`record`); the rest is evidence, which is gathered anew after a restart.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perdure.control.contest import Contest
from perdure.detect import (
    deadly,
    digest,
    oom,
    process,
    readmit,
    sampled,
    space,
    stall,
    suspect,
    tasks,
    traffic,
    vantage,
)
from perdure.model.check import CONFIRMING
from perdure.model.owner import Term
from perdure.model.replica import LIVE, SERVING, Replica, Slot, State
from perdure.model.snapshot import Kept, Manifest
from perdure.model.standing import Desired, History, Standing
from perdure.model.traffic import Admin, Backend
from perdure.model.verdict import Conviction, Sign, Verdict
from perdure.prevent import snapshot
from perdure.recover import restart


@dataclass(frozen=True, slots=True)
class Capsule:
    """The failure capsule: how the slot's last failed replica ended, kept after its restart."""

    replica: str
    wall_at: float
    sentence: str
    exit: str | None
    lines: tuple[str, ...]
    answer: str


@dataclass(slots=True)
class Totals:
    """What clients got from the replicas of a slot since the daemon started; tries of requests, so they only grow."""

    requests: int = 0
    failures: int = 0
    retries: int = 0


@dataclass(slots=True)
class SlotState:
    """One slot: its replica, what is believed of it, and what the slot remembers."""

    slot: Slot
    replica: Replica | None = None
    belief: suspect.Belief = field(default_factory=suspect.Belief)
    verdict: Verdict | None = None
    verdict_since_at: float | None = None
    """Since when there has been a verdict of this sign; of an isolated replica, since its conviction."""
    conviction: Conviction | None = None
    history: History = field(default_factory=History)
    capsule: Capsule | None = None
    last_sentence: str = ""
    last_rule: str = ""
    port_checked: bool = False
    """A process of the replica's own group listens on its port."""
    start_s: float | None = None
    """How long its replica took from the start to its first good answer."""
    ready_at: float | None = None
    """When the replica last became ready."""
    end_wanted: bool = False
    """Its end was planned, so the back-off does not count it."""
    exited: bool = False
    """The first process has ended; children may still live."""
    down_seen_at: float | None = None
    """Since when HAProxy's own checks hold it down."""
    check_fails: bool = False
    """HAProxy's last own check of it failed; the third in a row holds it down."""
    totals: Totals = field(default_factory=Totals)
    told: int = 0
    """The epoch that a warm replica was told and has taken."""
    refusals: int = 0
    """How often it did not take it."""
    unsaved: bool = False
    """It was active, and what it wrote last could not be copied: it is left as it is until that is done."""

    @property
    def live(self) -> bool:
        """Whether a process may exist."""
        return self.replica is not None and self.replica.state in LIVE

    @property
    def serves(self) -> bool:
        """Whether it gets requests."""
        return self.replica is not None and self.replica.state in SERVING


@dataclass(slots=True)
class Preserved:
    """What is known of the snapshots of a service."""

    kept: tuple[Kept, ...] = ()
    known: bool = False
    settled: set[int] = field(default_factory=set)
    """Slots of which it is known since the daemon started that their data are whole: an exchange may be cut short."""
    applied: dict[int, Manifest] = field(default_factory=dict)
    """Slot number -> the snapshot that its state was brought to last; not of the owner's slot, which is beyond it."""
    current_at: dict[int, float] = field(default_factory=dict)
    """The same slots -> the monotonic instant whose state they hold."""
    attempt: snapshot.Attempt | None = None
    bring_s: float | None = None
    """How long it took, the last time that a slot was brought to a snapshot."""
    problem: str = ""
    """Why it does not go on just now."""
    healthy_since_at: float | None = None
    """Since when all has been well, or since the last marker that was set for it; see `markers`."""
    held: int = 0
    """How many want that nothing is begun just now (`preserve.Preserver.at_rest`)."""
    relied_on: frozenset[str] = frozenset()
    """Snapshots that a plan to go back needs."""


@dataclass(slots=True)
class ServiceState:
    """One service: what is wanted, its policy, its slots, and its budget counters."""

    desired: Desired
    rules: suspect.Policy
    """Of the release that counts; see `rules_of`."""
    slots: dict[int, SlotState] = field(default_factory=dict)
    bucket: restart.Bucket = field(default_factory=lambda: restart.Bucket(2.0, 0.0))
    shared_at: Mapping[Sign, float] = field(default_factory=dict)
    """When each sign was last shared by half of the replicas."""
    notes: dict[str, str] = field(default_factory=dict)
    """Conditions that were told and still last: key -> sentence."""
    noted_at: dict[str, float] = field(default_factory=dict)
    """When each of those, or of those that ended a moment ago, last held."""
    hearing: vantage.Hearing = field(default_factory=vantage.Hearing)
    digests: digest.Rounds = field(default_factory=digest.Rounds)
    filled: space.Filled = field(default_factory=space.Filled)
    started: tasks.Started = field(default_factory=tasks.Started)
    deaths: deadly.Deaths = field(default_factory=deadly.Deaths)
    spent: deque[tuple[float, int, int]] = field(default_factory=deque)
    """Readings of the last 10 s: instant, requests, retries."""
    retries_off_since_at: float | None = None
    backend: Backend | None = None
    backend_at: float = 0.0
    counted_by: int = 0
    """The HAProxy (its pid) whose counters the next reading goes on from; 0: nobody's."""
    counted_since_at: float = 0.0
    """When its counters were first read, or first after a pause of the monitor."""
    lingering: frozenset[int] = frozenset()
    """Ports of replicas that a HAProxy which was replaced still talks to."""
    crowded_since_at: float | None = None
    """Since when requests wait at HAProxy although every replica that serves has as many as it may."""
    look_at: float = 0.0
    """When the service is looked at next, if nothing is observed before."""
    removed: bool = False
    term: Term = field(default_factory=Term)
    """Who may be active, of an active-passive service."""
    heir: int | None = None
    """The slot that a new term is being begun with: nobody but `Preserver.caught_up` writes to its state."""
    takeovers: int = 0
    """How often another slot became the owner since the daemon started."""
    preserved: Preserved = field(default_factory=Preserved)
    deaf_at: float = -math.inf
    """When no replica that serves was heard last."""
    lossy: bool = False
    """The last state of the owner's slot could not be copied: who takes over loses what it had not got yet."""

    contest: Contest | None = None
    """What the two releases of a rollout got; None: there is none."""
    rollout_waits_for: str = ""
    """What the rollout waited for when it was last looked at, in words."""
    _rules_of: dict[str, suspect.Policy] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.desired.service.name

    def want(self, desired: Desired) -> None:
        """What is wanted from now on."""
        self.desired, self.rules = desired, suspect.policy(desired.service)
        self._rules_of.clear()

    def rules_of(self, slot: SlotState) -> suspect.Policy:
        """The policy of the release that runs, or is to run, in a slot."""
        if self.desired.rollout is None:
            return self.rules
        wanted = self.desired.release_of(slot.slot.number)
        release = slot.replica.release if slot.replica is not None and slot.live else wanted
        if release == self.desired.release:
            return self.rules
        if release not in self._rules_of:
            self._rules_of[release] = suspect.policy(self.desired.service_of(release))
        return self._rules_of[release]


@dataclass(slots=True)
class World:
    """All services of this host, by name."""

    services: dict[str, ServiceState] = field(default_factory=dict)
    oom_kills: oom.Kills = field(default_factory=oom.Kills)
    """Of the whole host, whoever was killed."""

    def slots(self) -> Iterator[tuple[ServiceState, SlotState]]:
        """Every slot with its service."""
        for service in self.services.values():
            for slot in service.slots.values():
                yield service, slot

    def slot(self, slot: Slot) -> SlotState:
        """The state of one slot, made when it is new."""
        slots = self.services[slot.service].slots
        if slot.number not in slots:
            slots[slot.number] = SlotState(slot)
        return slots[slot.number]

    def ports(self) -> frozenset[int]:
        """The ports of all live replicas."""
        return frozenset(slot.replica.port for _, slot in self.slots() if slot.replica is not None and slot.live)


TOLD_MAX = 3
"""A warm replica that did not take it so often is ended."""


def standings(service: ServiceState, now: float) -> tuple[Standing, ...]:
    """How things stand with each slot of a service, as facts for the deciders; verdicts are brought up to date."""
    for number in service.desired.slots:
        if number not in service.slots:
            service.slots[number] = SlotState(Slot(service.name, number))
    serving = [slot for slot in service.slots.values() if slot.serves]
    if serving and all(suspect.silent(slot.belief, service.rules_of(slot)) for slot in serving):
        service.deaf_at = now
    silences, in_flight = _silences(service, now), _in_flight(service, now)
    found = []
    for number in sorted(service.slots):
        slot, silence = service.slots[number], silences.get(number)
        alone = not any(one.serves for one in service.slots.values() if one is not slot)
        peered = suspect.Peered(alone, in_flight.get(number, stall.Others()), silence is None or silence.counts)
        found.append(_standing(service, slot, peered, silence, now))
    return tuple(found)


def _judged(service: ServiceState, slot: SlotState, peered: suspect.Peered, now: float) -> Verdict | None:
    """The verdict on a slot's replica now; remembers since when there has been one. Who is isolated has a verdict only
    now and then if a check fails every other time, and not always of one sign: that begins nothing anew.
    """
    replica = slot.replica
    convictable = replica is not None and replica.state not in (State.STOPPING, State.STOPPED)
    rules, out = service.rules_of(slot), slot.conviction is not None
    verdict = suspect.judge(slot.belief, now, rules, peered, convicted=out) if convictable else None
    if slot.conviction is not None and replica is not None and replica.state is State.ISOLATED:
        slot.verdict_since_at = slot.conviction.at if slot.verdict_since_at is None else slot.verdict_since_at
    elif verdict is None:
        slot.verdict_since_at = None
    elif slot.verdict_since_at is None or slot.verdict is None or slot.verdict.sign is not verdict.sign:
        slot.verdict_since_at = now
    slot.verdict = verdict
    return verdict


def _in_flight(service: ServiceState, now: float) -> dict[int, stall.Others]:
    """Slots with requests that are overdue -> what the other replicas that serve show."""
    late = [number for number, slot in service.slots.items() if stall.overdue(slot.belief.stalled)]
    if not late:
        return {}
    serving = [slot for slot in service.slots.values() if slot.serves]
    known = sampled.pooled([slot.belief.endpoints for slot in service.slots.values() if slot.live])
    *each, all_of_them = stall.leave_one_out([*(slot.belief.stalled for slot in serving), stall.Stall()], known, now)
    others = {slot.slot.number: one for slot, one in zip(serving, each, strict=True)}
    return {number: others.get(number, all_of_them) for number in late}


def _silences(service: ServiceState, now: float) -> dict[int, vantage.Silence]:
    """Slots whose replicas have not answered the monitor for too long -> what HAProxy sees of them."""
    found = {}
    for number, slot in service.slots.items():
        rules = service.rules_of(slot)
        own = rules.service.asked_by_balancer
        overdue = stall.overdue(slot.belief.stalled)
        each = (one for label, one in slot.belief.asked.items() if overdue or not label.startswith(CONFIRMING))
        begun = slot.replica is not None and slot.live and slot.replica.state is not State.STARTING
        asked = vantage.silent(each, now, own.label) if begun else None
        if asked is None:
            continue
        carried = service.backend is not None
        read_at = service.backend_at if carried else -math.inf
        same, too = asked.check == own.label, own.label in rules.probe_limits
        seen = vantage.Seen(slot.down_seen_at is None, slot.check_fails, read_at, vantage.notices_s(own), same, too)
        heard = vantage.Heard(service.hearing, now, asked_every_s(service))
        found[number] = vantage.silence(asked, slot.belief.answers, slot.belief.stalled, seen, heard)
    return found


def asked_every_s(service: ServiceState) -> float:
    """How often each replica is asked something."""
    return min([check.interval_s for check in service.rules.service.asked], default=1.0)


def answered(service: ServiceState, slot: SlotState, now: float) -> bool:
    """Whether a starting replica has answered all that it is asked and, where clients reach it, listens on its port
    itself; one that stands by may do so when it is promoted.
    """
    rules, replica, belief = service.rules_of(slot), slot.replica, slot.belief
    if replica is None or slot.exited:
        return False
    for check in rules.service.asked:
        asked = belief.asked.get(check.label)
        if asked is None or asked.goods == 0:
            return False
    if rules.service.heartbeat is not None and belief.told.count == 0:
        return False
    if not rules.service.asked:
        return now - replica.since_at >= UNASKED_READY_S
    stands_by = rules.service.one_active and slot.slot.number != service.term.owner
    return slot.port_checked or rules.service.listen is None or stands_by


UNASKED_READY_S = 1.0
"""A replica that nobody can ask counts as ready when it has run this long."""


def in_flight(service: ServiceState, replica: Replica) -> int | None:
    """Requests that a replica still has, by a reading made since it left; None when that is unknown."""
    if service.backend is None or service.backend_at <= replica.since_at or replica.port in service.lingering:
        return None
    server = next((one for one in service.backend.servers if one.port == replica.port), None)
    if server is None:
        return 0
    return None if server.admin is Admin.READY else server.sessions


def _standing(
    service: ServiceState, slot: SlotState, peered: suspect.Peered, silence: vantage.Silence | None, now: float
) -> Standing:
    replica, rules = slot.replica, service.rules_of(slot)
    verdict = _judged(service, slot, peered, now)
    state = replica.state if replica is not None else None
    leaving = replica is not None and state in (State.DRAINING, State.ISOLATED)
    return Standing(
        slot.slot,
        replica,
        slot.history,
        verdict,
        slot.verdict_since_at,
        hint=suspect.hint(slot.belief, now, rules) if slot.serves else None,
        hears_s=now - service.deaf_at,
        suspected=state in (State.READY, State.SUSPECT) and suspect.suspected(slot.belief, now, rules),
        conviction=slot.conviction,
        acquitted=state is State.ISOLATED
        and slot.conviction is not None
        and readmit.acquits(slot.belief, slot.conviction, slot.history.relapses, now, rules),
        view=silence.view if silence is not None else None,
        blind=silence is not None and silence.together and not silence.counts,
        failing_share=traffic.failing_share(slot.belief.seen, now) if slot.live else None,
        failed=slot.belief.seen.tallies[1].failures,
        asked=slot.belief.seen.tallies[0].requests,
        asked_lately=slot.belief.seen.tallies[1].requests,
        idle_s=_idle_s(service, slot, now),
        failing=sampled.failing(slot.belief.endpoints, now) if slot.serves else (),
        filling=suspect.filling(slot.belief, rules) if slot.serves or state is State.DRAINING else None,
        clock_ahead_s=suspect.clock_ahead_s(slot.belief, rules) if slot.live else None,
        stopped_s=slot.belief.kernel.forgiven_s + process.stopped_s(slot.belief.kernel),
        answered=state is State.STARTING and answered(service, slot, now),
        told=slot.told,
        deaf=slot.refusals >= TOLD_MAX,
        unsaved=slot.unsaved,
        empty_s=now - replica.since_at if replica is not None and not slot.live else math.inf,
        unsettled=service.desired.service.state is not None and slot.slot.number not in service.preserved.settled,
        data_epoch=_data_epoch(service, slot),
        behind_s=_behind_s(service, slot, now),
        in_flight=in_flight(service, replica) if leaving and replica is not None else None,
    )


def _data_epoch(service: ServiceState, slot: SlotState) -> int:
    """The history that a slot's state belongs to: the first, when nobody knows that it was brought to a later one."""
    applied = service.preserved.applied.get(slot.slot.number)
    if slot.slot.number == service.term.owner or service.desired.service.state is None:
        return service.term.data_epoch
    return applied.data_epoch if applied is not None else 0


def _behind_s(service: ServiceState, slot: SlotState, now: float) -> float:
    """What a slot would lose as the next owner's: nothing, as long as the last state can still be copied to it."""
    if not service.lossy or service.desired.service.state is None:
        return 0.0
    return now - service.preserved.current_at.get(slot.slot.number, -math.inf)


def _idle_s(service: ServiceState, slot: SlotState, now: float) -> float | None:
    """For how long a replica has served without a request, as far as HAProxy's counters tell."""
    replica = slot.replica
    if replica is None or not slot.serves or service.backend is None or slot.down_seen_at is not None:
        return None
    rollout = service.desired.rollout
    if rollout is not None and rollout.idles(replica.release):
        return None
    began = (slot.ready_at, slot.history.readmitted_at, slot.belief.seen.at, service.counted_since_at)
    return max(0.0, service.backend_at - max(at for at in began if at is not None))
