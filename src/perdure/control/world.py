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
    space,
    suspect,
    tasks,
    vantage,
)
from perdure.model.owner import Term
from perdure.model.replica import LIVE, SERVING, Replica, Slot
from perdure.model.snapshot import Kept, Manifest
from perdure.model.standing import Desired, History
from perdure.model.traffic import Backend
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
    rewritten: set[int] = field(default_factory=set)
    """Slots whose data are being replaced while nobody runs there: nobody is started on them meanwhile."""
    born: dict[str, float] = field(default_factory=dict)
    """Snapshots that this daemon took -> the monotonic instant whose state they hold."""
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
    heard_at: float = math.inf
    """See `Standing.heard_at`; brought up to date with the standings."""
    stuck_until_at: float = -math.inf
    """See `Term.stuck`."""
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

    @property
    def asked_every_s(self) -> float:
        """How often each replica is asked something."""
        return min([check.interval_s for check in self.rules.service.asked], default=1.0)

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
