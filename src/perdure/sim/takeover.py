"""Takeovers between simulated hosts: can two be active at once, whatever the store, the clocks and the pauses do?

Each host runs the real `control.tenure` and `control.claim` on a clock of its own rate, a replica that takes a while to
start and to end, and a fence that kills at its deadline though the daemon is paused. The store is one map, with answers
that are slow, lost before or after the write, or written long after the caller gave up. What is checked is the truth,
which no host knows: who was active when. Two kinds of pause differ. A daemon that is paused leaves its fence running,
so nothing may overlap at all. A whole host that is paused wakes up with everything on it, and for a moment its replica
may answer before its fence has acted. That no program on that host can prevent; receivers refuse its older epoch then,
and so it is counted apart.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from perdure.control.claim import Claim
from perdure.control.tenure import Tenure
from perdure.model.errors import ConflictError, UnavailableError
from perdure.model.owner import Right, Terms
from perdure.ports.store import Record, Snapshot, Transaction
from perdure.sim.life import context_of
from perdure.sim.loop import VirtualLoop

SERVICE = "notes"
TURN_S = 0.05
START_S = 0.1
GIVE_UP_S = 2.0
FENCE_LATE_S = 0.005
"""So long after its deadline, or after it woke up, the fence has killed."""
ENDS_S = 0.3
"""A replica that was told to end takes up to this long."""
ROUNDING_S = 1e-6
FENCES = 100
"""The contexts of what else runs on a host, its fence and its replica, are that of its daemon and this."""


@dataclass(slots=True)
class Ether:
    """The store itself, and what is wrong with the way to it."""

    loop: VirtualLoop
    random: Random
    record: Record | None = None
    revision: int = 0
    cut: set[int] = field(default_factory=set)
    """Hosts that do not reach it."""
    slow_s: float = 0.0
    lossy: float = 0.0
    """Which share of the writes gets no answer."""

    def write(self, transaction: Transaction) -> int:
        """Everything or nothing, now."""
        (expected,) = transaction.expect.values()
        if expected != (self.record.revision if self.record is not None else 0):
            raise ConflictError("somebody else changed it", "look again")
        self.revision += 1
        (document,) = transaction.put.values()
        self.record = Record(document, self.revision)
        return self.revision


@dataclass(slots=True)
class Wire:
    """The store as one host reaches it: the two methods of `ports.store.Store` that a claim uses."""

    ether: Ether
    host: int

    async def read(self, prefix: str) -> Snapshot:
        """See the port."""
        await self._pass()
        record = self.ether.record
        return Snapshot(self.ether.revision, {prefix: record} if record is not None else {})

    async def commit(self, transaction: Transaction) -> int:
        """See the port; what is lost may have been written before, may never be, or may be later."""
        ether, random = self.ether, self.ether.random
        await self._pass()
        if random.random() < ether.lossy:
            fate = random.random()
            if fate < 0.4:
                self._later(transaction, 0.0)
            elif fate < 0.7:
                self._later(transaction, random.uniform(0.0, 8.0))
            await asyncio.sleep(GIVE_UP_S)
            raise UnavailableError("no answer", "try later")
        revision = ether.write(transaction)
        await asyncio.sleep(self._delay_s())
        return revision

    def _later(self, transaction: Transaction, delay_s: float) -> None:
        def write() -> None:
            with contextlib.suppress(ConflictError):  # it may come too late
                self.ether.write(transaction)

        self.ether.loop.outside(lambda: self.ether.loop.call_later(delay_s, write))

    async def _pass(self) -> None:
        delay_s = self._delay_s()
        if self.host in self.ether.cut or delay_s >= GIVE_UP_S:
            await asyncio.sleep(GIVE_UP_S)
            raise UnavailableError("no answer", "try later")
        await asyncio.sleep(delay_s)

    def _delay_s(self) -> float:
        return self.ether.random.expovariate(1.0 / (0.002 + self.ether.slow_s))


@dataclass(slots=True)
class RatedClock:
    """A host's monotonic clock: it runs at its own rate, from an instant of its own."""

    loop: VirtualLoop
    rate: float
    since: float

    def now(self) -> float:
        """Seconds by this clock."""
        return self.since + self.loop.time() * self.rate

    def wall(self) -> float:
        """The same; nobody decides by it."""
        return self.now()

    async def sleep_until(self, at: float) -> None:
        """Until this clock says `at`, and what rounding may lack."""
        await asyncio.sleep(max(0.0, at - self.now()) / self.rate + ROUNDING_S)


@dataclass(slots=True)
class Replica:
    """A process that is active, in the truth of the simulation."""

    epoch: int
    since_at: float
    told_to_end: bool = False


@dataclass(slots=True)
class Stint:
    """One host was active from `since_at` to `until_at`; `woke_at`: when it ran on after its host was paused."""

    host: int
    epoch: int
    since_at: float
    until_at: float
    woke_at: float | None


@dataclass(slots=True)
class Host:
    """One machine: its daemon, its replica, its fence."""

    number: int
    clock: RatedClock
    tenure: Tenure
    arena: "Arena"
    replica: Replica | None = None
    fence: Right | None = None
    stopped: bool = False
    """The whole machine is paused: its replica answers nobody."""
    woke_at: float | None = None
    alive: bool = True

    async def run(self) -> None:
        """The daemon: keep the term, take what is nobody's, run what may run."""
        keeping = asyncio.create_task(self.tenure.run())
        try:
            while True:
                await self._turn()
                await self.clock.sleep_until(self.clock.now() + TURN_S)
        finally:
            keeping.cancel()

    async def _turn(self) -> None:
        claim, now = self.tenure.claim, self.clock.now()
        if not claim.holds(now):
            if self.replica is not None and not self.replica.told_to_end:
                self.replica.told_to_end = True
                ends_s = self.arena.random.uniform(0.0, ENDS_S)
                self.arena.loop.call_later(ends_s, self.end, self.replica, context=self.arena.fences[self.number])
            if self.replica is None:
                await self.tenure.take(f"{SERVICE}/{self.number}")
            return
        assert claim.right is not None
        if self.replica is not None and self.replica.epoch != claim.right.epoch:
            self.end(self.replica)
        if self.replica is None:
            await self.clock.sleep_until(self.clock.now() + START_S * self.arena.random.random())
            right = claim.right
            if right is not None and claim.holds(self.clock.now()):
                self.replica = Replica(right.epoch, self.arena.loop.time())
                self.woke_at = None
                self.arena.takeovers += 1

    def hold(self, right: Right) -> None:
        """Tell the fence; it looks at its file again before it acts, so a later deadline replaces an earlier one."""
        self.fence = right
        delay_s = max(0.0, right.kill_at - self.clock.now()) / self.clock.rate + FENCE_LATE_S
        self.arena.loop.call_later(delay_s, self._kill, right, context=self.arena.fences[self.number])

    def _kill(self, right: Right) -> None:
        if self.fence == right and self.replica is not None:
            self.end(self.replica)

    def end(self, replica: Replica) -> None:
        """The process is gone."""
        if self.replica is replica:
            now = self.arena.loop.time()
            self.arena.stints.append(Stint(self.number, replica.epoch, replica.since_at, now, self.woke_at))
            self.replica = None


@dataclass(slots=True)
class Arena:
    """Some hosts, one store, and what befalls them."""

    loop: VirtualLoop
    random: Random
    ether: Ether
    hosts: list[Host] = field(default_factory=list)
    stints: list[Stint] = field(default_factory=list)
    fences: dict[int, Context] = field(default_factory=dict)
    daemons: dict[int, Context] = field(default_factory=dict)
    takeovers: int = 0

    def later(self, delay_s: float, act: Callable[..., None], *arguments: Any) -> None:
        """Do it later, whatever is paused."""
        self.loop.outside(lambda: self.loop.call_later(delay_s, act, *arguments))

    def strike(self) -> None:
        """Something happens to a host or to the store, mostly to whoever is active; and again a while later."""
        random = self.random
        active = [one for one in self.hosts if one.replica is not None]
        host = random.choice(active or self.hosts) if random.random() < 0.8 else random.choice(self.hosts)
        lasts_s = random.uniform(0.1, 8.0)
        random.choice((self._crash, self._pause_daemon, self._pause_host, self._cut, self._slow, self._lose))(
            host, lasts_s
        )
        self.later(random.uniform(1.0, 9.0), self.strike)

    def _crash(self, host: Host, lasts_s: float) -> None:
        """The machine dies, and comes back: what it knew is gone."""
        if not host.alive or host.stopped:
            return
        host.alive = False
        if host.replica is not None:
            host.end(host.replica)
        self.loop.cancel(host.number)
        self.loop.thaw(host.number)
        self.later(lasts_s, self.boot, host.number)

    def _pause_daemon(self, host: Host, lasts_s: float) -> None:
        if not host.stopped:
            self.loop.freeze(host.number)
            self.later(lasts_s, self._resume_daemon, host)

    def _resume_daemon(self, host: Host) -> None:
        if not host.stopped:
            self.loop.thaw(host.number)

    def _pause_host(self, host: Host, lasts_s: float) -> None:
        """Nothing on it runs: its replica answers nobody meanwhile."""
        if not host.alive or host.stopped:
            return
        host.stopped = True
        self.loop.freeze(host.number)
        self.loop.freeze(FENCES + host.number)
        replica = host.replica
        if replica is not None:
            now = self.loop.time()
            self.stints.append(Stint(host.number, replica.epoch, replica.since_at, now, host.woke_at))
        self.later(lasts_s, self._resume_host, host)

    def _resume_host(self, host: Host) -> None:
        host.stopped = False
        if host.replica is not None:
            host.replica.since_at = host.woke_at = self.loop.time()
        self.loop.thaw(host.number)
        self.later(FENCE_LATE_S, self.loop.thaw, FENCES + host.number)

    def _cut(self, host: Host, lasts_s: float) -> None:
        self.ether.cut.add(host.number)
        self.later(lasts_s, self.ether.cut.discard, host.number)

    def _slow(self, _: Host, lasts_s: float) -> None:
        self.ether.slow_s = self.random.choice((0.05, 0.3, 1.0))
        self.later(lasts_s, self._quick)

    def _lose(self, _: Host, lasts_s: float) -> None:
        self.ether.lossy = self.random.choice((0.2, 0.6, 1.0))
        self.later(lasts_s, self._quick)

    def _quick(self) -> None:
        self.ether.slow_s = self.ether.lossy = 0.0

    def boot(self, number: int) -> None:
        """A host starts, or starts again, with a clock that means nothing to anybody else."""
        known = next((one for one in self.hosts if one.number == number), None)
        rate = known.clock.rate if known is not None else 1.0
        self.add(number, rate)

    def add(self, number: int, rate: float) -> None:
        """Put a host with this clock rate into the place of `number`."""
        clock = RatedClock(self.loop, rate, self.random.uniform(0.0, 1e6))
        wire = Wire(self.ether, number)
        words = iter(range(1 << 60))
        tag = self.random.getrandbits(64)
        claim = Claim(SERVICE, f"h{number}", clock, wire, TERMS, lambda: f"{tag:x}-{next(words)}")
        host: Host
        tenure = Tenure(claim, clock, lambda right: host.hold(right), lambda: None)
        host = Host(number, clock, tenure, self)
        self.hosts = [one for one in self.hosts if one.number != number] + [host]
        self.daemons[number], self.fences[number] = context_of(number), context_of(FENCES + number)
        self.loop.call_soon(lambda: self._begin(host), context=self.daemons[number])

    def _begin(self, host: Host) -> None:
        self.loop.create_task(host.run(), name=f"host {host.number}", context=self.daemons[host.number])


TERMS = Terms()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    seed: int
    takeovers: int
    overlaps: tuple[str, ...]
    """Two were active at once: violations."""
    stale: int
    """A replica ran on for a moment after its whole host had been paused, under an older epoch."""
    epochs_fell: int
    """Later stints with an older epoch than an earlier one had: violations."""
    idle_s: float
    """For how long nobody was active."""


def played(seed: int, length_s: float = 600.0, hosts: int = 3, drift: float = TERMS.drift) -> Outcome:
    """One run; the rates of the clocks differ by up to `drift`, the fastest against the slowest."""
    loop, random = VirtualLoop(), Random(seed)
    arena = Arena(loop, random, Ether(loop, random))
    rates = [1.0, 1.0 + drift, *(1.0 + drift * random.random() for _ in range(hosts - 2))]
    random.shuffle(rates)
    for number, rate in enumerate(rates, 1):
        arena.add(number, rate)
    arena.later(5.0, arena.strike)
    loop.run_until_at(length_s)
    assert not loop.errors, loop.errors
    for host in arena.hosts:
        if host.replica is not None and not host.stopped:
            host.end(host.replica)
    stints = sorted(arena.stints, key=lambda one: one.since_at)
    overlaps, stale = _overlaps(stints)
    fell = sum(later.epoch < earlier.epoch for earlier, later in pairwise(stints) if later.woke_at is None)
    covered_s = until_at = 0.0
    for one in stints:
        covered_s += max(0.0, one.until_at - max(one.since_at, until_at))
        until_at = max(until_at, one.until_at)
    return Outcome(seed, arena.takeovers, tuple(overlaps), stale, fell, length_s - covered_s)


def _overlaps(stints: Sequence[Stint]) -> tuple[list[str], int]:
    """Sentences about stints that overlap, and how many do so because a whole host woke up."""
    found: list[str] = []
    stale = 0
    for index, one in enumerate(stints):
        for other in stints[index + 1 :]:
            if other.since_at >= one.until_at:
                break
            older = min(one, other, key=lambda stint: stint.epoch)
            if older.woke_at is not None and older.until_at - older.woke_at <= 2.0 * FENCE_LATE_S:
                stale += 1
                continue
            found.append(
                f"h{one.host} was active with epoch {one.epoch} until {one.until_at:.3f},"
                f" h{other.host} with epoch {other.epoch} from {other.since_at:.3f}"
            )
    return found, stale
