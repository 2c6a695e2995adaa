"""How things stand with one service at one moment: what is wanted, and what is known of each slot.

These are the facts of the deciders in `prevent` and `recover`; `control.world` makes them from beliefs and readings.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from perdure.model.owner import Handover
from perdure.model.release import ENDED, Arm, Phase, Rollout
from perdure.model.replica import LIVE, SERVING, Replica, Slot, State
from perdure.model.rollback import Rollback
from perdure.model.service import Service
from perdure.model.verdict import Conviction, Failing, Sign, Verdict


@dataclass(frozen=True, slots=True)
class Desired:
    """What the controller wants of a service; stored as `desired/service/NAME`, changed only by commands."""

    service: Service
    release: str
    """The one that counts: on trial or not, the other one of a rollout is in `rollout`."""
    replicas: int
    placed: tuple[int, ...] = ()
    """The slots of its replicas, where a rollout has given it others than 1 to `replicas`."""
    rollout: Rollout | None = None
    """The last deploy, and where it is."""
    generation: int = 1
    """Replicas of an older generation are replaced, one after the other."""
    slot_generations: tuple[tuple[int, int], ...] = ()
    """Slot number -> generation, where one slot alone was told to restart."""
    handover: Handover | None = None
    """The last command that another slot be active."""
    rollback: Rollback | None = None
    """The last command to go back to older data."""
    earlier: tuple[Rollback, ...] = ()
    """Those before it of which something is still kept."""
    drained: tuple[int, ...] = ()
    """Slots that get no traffic because a person said so."""
    stopped: bool = False

    @property
    def numbers(self) -> tuple[int, ...]:
        """The slots of the release that counts."""
        return self.placed or tuple(range(1, self.replicas + 1))

    @property
    def other(self) -> Arm | None:
        """The other release of a rollout, while it has slots: on trial, on its way out, or ready for the way back."""
        if self.rollout is None or self.rollout.phase in ENDED:
            return None
        arm = self.rollout.old if self.release == self.rollout.new.release else self.rollout.new
        return arm if arm.slots else None

    @property
    def slots(self) -> tuple[int, ...]:
        """All slots that should have a replica, of either release."""
        if self.stopped:
            return ()
        other = self.other
        return tuple(sorted({*self.numbers, *(other.slots if other is not None else ())}))

    def release_of(self, number: int) -> str:
        """Which release belongs into a slot."""
        other = self.other
        return other.release if other is not None and number in other.slots else self.release

    def service_of(self, release: str) -> Service:
        """What a release was declared as; the present declaration for one that has no part in a rollout."""
        if self.rollout is not None and release != self.release:
            for arm in (self.rollout.old, self.rollout.new):
                if arm.release == release:
                    return arm.service
        return self.service

    @property
    def shares(self) -> bool:
        """Whether two releases share the traffic, or may have to in the next moment."""
        rollout = self.rollout
        return rollout is not None and rollout.phase not in {*ENDED, Phase.WATCHING} and not rollout.in_place

    @property
    def serving(self) -> int:
        """How many replicas should get requests."""
        return min(1, self.replicas) if self.service.one_active else self.replicas

    @property
    def rollbacks(self) -> tuple[Rollback, ...]:
        """All that are remembered, the oldest first."""
        return (*self.earlier, self.rollback) if self.rollback is not None else self.earlier

    def generation_of(self, number: int) -> int:
        """The generation that a replica in slot `number` must have."""
        return max([self.generation, *(generation for slot, generation in self.slot_generations if slot == number)])

    def wants(self, number: int) -> bool:
        """Whether there should be a replica in slot `number`."""
        if self.stopped:
            return False
        other = self.other
        return self.has(number) or (other is not None and number in other.slots)

    def has(self, number: int) -> bool:
        """Whether a slot is one of the release that counts."""
        return number in self.placed if self.placed else number <= self.replicas

    def outdated(self, replica: Replica) -> bool:
        """Whether a replica must be replaced: another release, or started before the last restart command."""
        number = replica.slot.number
        return replica.release != self.release_of(number) or replica.generation < self.generation_of(number)


@dataclass(frozen=True, slots=True)
class History:
    """What a slot remembers across its replicas."""

    restarts: int = 0
    """Replicas that were started because the one before failed; planned restarts do not count."""
    failures: int = 0
    """Replicas in a row that ended without a healthy spell."""
    next_start_at: float = 0.0
    relapses: int = 0
    """Convictions soon after a readmission; each doubles the hold-down."""
    readmitted_at: float | None = None


class View(StrEnum):
    """What HAProxy sees of a replica that does not answer the monitor: a second vantage point."""

    ANSWERS = "answers"  # it has answered clients, or HAProxy's own checks, since
    UP = "up"  # nothing speaks against it, and nothing proves yet that it answers
    WAITS = "waits"  # a request of a client gets no answer
    UNSEEN = "unseen"  # HAProxy does not reach it, or nobody looks from there


FULL_SOON_S = 600.0
"""A replica that is full within so long is replaced."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A forecast: what a replica holds will reach its limit."""

    full_in_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One slot now. `replica` is None before the first run; a STOPPED one stays until the next begins."""

    slot: Slot
    replica: Replica | None = None
    history: History = field(default_factory=History)
    verdict: Verdict | None = None
    verdict_since_at: float | None = None
    """Since when there has been one of this sign; of an isolated replica, since its conviction."""
    hint: Sign | None = None
    """What its last bad answer looked like, when that is too little for a verdict."""
    hears_s: float = math.inf
    """For how long the monitor has heard at least one of the replicas that serve, of other services while none of this
    one does; 0: it hears none of them.
    """
    heard_at: float = math.inf
    """When the last question was asked that a replica of the service has answered; infinite while nobody who serves is
    asked any.
    """
    suspected: bool = False
    conviction: Conviction | None = None
    acquitted: bool = False
    """The evidence that convicted it has turned, and the hold-down is over."""
    view: View | None = None
    """What HAProxy sees of it while it does not answer the monitor; None: it does."""
    blind: bool = False
    """Its silence does not count, for nobody answers the monitor."""
    failing_share: float | None = None
    """Which share of its clients' requests it failed in the last 10 s; None: too few to say."""
    failed: float = 0.0
    """How many those are, the older ones faded."""
    asked: float = 0.0
    """Requests in the last second, the older ones faded."""
    asked_lately: float = 0.0
    """The same for the last 10 s."""
    idle_s: float | None = None
    """Since when it has served without a request; None: it does not serve, or nobody counts."""
    failing: tuple[Failing, ...] = ()
    """The endpoints at which it fails, refuses, or is slow now."""
    filling: Filling | None = None
    """What of it will be full first."""
    clock_ahead_s: float | None = None
    """By how much its clock is wrong; None: it is not, as far as anybody knows."""
    stopped_s: float = 0.0
    """For how long its process was stopped, or is."""
    awaits: str = "its first answer"
    """What a starting replica has not shown yet; empty: it answered all its checks on its own port."""
    told: int = 0
    """The epoch that a warm replica has been told, and has taken."""
    deaf: bool = False
    """It was told several times, and did not take it."""
    unsaved: bool = False
    """It holds changes of a former term that nobody has copied yet."""
    empty_s: float = math.inf
    """For how long nothing has run in it."""
    unsettled: bool = False
    """Nobody has looked yet whether an exchange of its data was cut short: nothing may start on them."""
    data_epoch: int = 0
    behind_s: float = 0.0
    """How much of the present its state lacks."""
    in_flight: int | None = None
    """Requests it still has, by a reading of HAProxy made since its state began; None: unknown."""

    @property
    def fills_soon(self) -> bool:
        """Whether it should be replaced for what it will hold soon."""
        return self.filling is not None and self.filling.full_in_s <= FULL_SOON_S

    @property
    def live(self) -> bool:
        """Whether a process may exist."""
        return self.replica is not None and self.replica.state in LIVE

    @property
    def serving(self) -> bool:
        """Whether it gets new requests."""
        return self.replica is not None and self.replica.state in SERVING

    def state_is(self, *states: State) -> bool:
        """Whether the replica is in one of these states."""
        return self.replica is not None and self.replica.state in states
