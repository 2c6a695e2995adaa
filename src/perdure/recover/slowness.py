"""Whether the new release answers more slowly than the old one: the same test on answers that took too long.

Before the new release gets traffic, the old one's response times are gathered, and three limits are frozen: its 50th,
90th and 99th percentile, each with a fifth on top (and at least 1 ms, the step that HAProxy measures in): so much
slower is no reason to act, as failing 1.2 times as often is none. Then answers that exceed a limit are compared like
failures.

But slow answers come in bunches: one pause of a replica makes all of its requests slow. Counted each, one pause would
be ten events. If of the slow answers of a moment only the first counted, whichever release it was, a pause of a replica
with many requests and one of a replica with few would count alike, so that an innocent release with a twentieth of the
requests and a third of the replicas would seem to be slow five times as often. So it is not slow answers that are
thinned out, but looks: one second is one look, and what counts of it is the *part* of each release's answers that
exceeded the limit. With the parts f of the new and g of the old one, choose an answer of each at random. With
probability f (1-g) only the new one's is slow, with g (1-f) only the old one's, else both or none, which says nothing
(McNemar 1947). When neither is slower, the first two are equally likely, whatever makes all slow in that second, and
however many requests and replicas each has: w is 1/2, known exactly. `e_process.weigh` takes the mean over the choice.
An answer belongs to the second in which its request came; grouped by their ends, all requests of a long pause would
fall into one second, and fewer of them would count for a release with few replicas.

The old release, having lost most of its requests, may have become faster than it ever was, and the new one may be no
slower than the old one used to be. So a second test runs beside it: does the new release exceed the limit more often
than the old one did when the limit was frozen? The smaller E of the two counts. It is a fair one whichever of the two
nulls is true, for it is never larger than the other.

Hard cases: a release that has just started is slow (its first half minute does not count); the load of the day changes
(the old release is slow, too); answers that take longer than a look stays open count in the oldest open one.
Neighbours: `compare` feeds it, and asks for the verdict.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from perdure.recover import e_process
from perdure.recover.e_process import EProcess
from perdure.recover.observed import Timed

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
PER_DOUBLING = 16
BUCKETS = 17 * PER_DOUBLING
"""Up to about two minutes, right within 4.5 %."""
LINES_MIN = 100
"""From fewer answers no limit is frozen."""
SLOWER = 1.2
"""How much slower is no reason to act."""
LOOK_S = 1.0
LOOKS_OPEN = 4
"""So many seconds are open at a time: a request that came in the first of them is still counted there."""
WARM_UP_S = 30.0
"""Both releases have answered for so long before times are compared."""
EVENLY = 0.5
"""w of a pair of answers, one of each release."""


@dataclass(frozen=True, slots=True)
class Times:
    """Response times of the old release before the new one gets traffic."""

    counts: Mapping[int, int] = field(default_factory=dict)
    """Bucket -> requests, the sample scaled up."""
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """One frozen limit: an answer exceeds it that took more than `ms`, which the share `usual` did."""

    name: str
    ms: int
    usual: float


@dataclass(frozen=True, slots=True)
class Part:
    """Answers of one release: how many requests they stand for, and of those, how many exceeded each limit."""

    requests: int = 0
    over: tuple[int, ...] = ()

    def share(self, index: int) -> float:
        """Which share exceeded the limit with this index; 0 when there were none."""
        return self.over[index] / self.requests if self.requests and self.over else 0.0

    def plus(self, other: "Part") -> "Part":
        """Both together."""
        if not (self.over and other.over):
            return other if other.over else self
        over = tuple(mine + more for mine, more in zip(self.over, other.over, strict=True))
        return Part(self.requests + other.requests, over)


Look = tuple[int, Part, Part]
"""The number of a second, and what came in it: to the new release, to the old one."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one limit being exceeded more often."""

    against_old: EProcess = e_process.NOTHING
    against_past: EProcess = e_process.NOTHING
    first_at: float = 0.0
    last_at: float = 0.0
    """When what speaks against the new release began, and when the last of it came."""

    @property
    def value(self) -> float:
        """ln E, in nats."""
        return min(e_process.value(self.against_old), e_process.value(self.against_past))


@dataclass(frozen=True, slots=True)
class Slowness:
    """The comparison of response times. `new` and `old` are all that was compared."""

    limits: tuple[Limit, ...] = ()
    each: tuple[Evidence, ...] = ()
    """In the order of `limits`."""
    looks: tuple[Look, ...] = ()
    """Those that are open, the oldest first."""
    closed: int = -1
    """The number of the last one that is not."""
    new_since_at: float = math.inf
    old_since_at: float = math.inf
    """When each release was first seen to answer."""
    new: Part = Part()
    old: Part = Part()


NOTHING = Slowness()
"""Response times are not compared."""


def bucket(ms: int) -> int:
    """The bucket of a response time."""
    return min(BUCKETS - 1, int(PER_DOUBLING * math.log2(max(0, ms) + 1)))


def upper_ms(index: int) -> int:
    """The longest time, in whole milliseconds, that belongs into a bucket or below."""
    return math.ceil(math.pow(2.0, (index + 1) / PER_DOUBLING)) - 2


def gather(times: Times, timed: Sequence[Timed]) -> Times:
    """Add answers of the old release; those of the new one are left out."""
    old = [one for one in timed if not one.new]
    if not old:
        return times
    counts = dict(times.counts)
    for one in old:
        index = bucket(one.ms)
        counts[index] = counts.get(index, 0) + one.stands_for
    return Times(counts, times.lines + len(old))


def freeze(times: Times) -> tuple[Limit, ...]:
    """The limits, the lowest first; none when there are too few answers."""
    if times.lines < LINES_MIN:
        return ()
    buckets = sorted(times.counts)
    below = list(itertools.accumulate(times.counts[index] for index in buckets))
    limits = []
    for name, quantile in QUANTILES.items():
        within = next(index for index, total in zip(buckets, below, strict=True) if total >= quantile * below[-1])
        ms = max(upper_ms(within) + 1, math.floor(SLOWER * upper_ms(within)))
        limits.append(Limit(name, ms, _usual(times, ms, 1.0 - quantile)))
    return tuple(limits)


def _usual(times: Times, ms: int, at_most: float) -> float:
    """The share that exceeded a limit. It is not thought to be nothing because it was never seen in so few lines."""
    total = sum(times.counts.values())
    over = sum(count for index, count in times.counts.items() if upper_ms(index) > ms) / total
    return min(at_most, (over * times.lines + 1.0) / (times.lines + 1.0))


def begin(limits: tuple[Limit, ...]) -> Slowness:
    """Nothing was compared yet."""
    return Slowness(limits, (Evidence(),) * len(limits))


def observe(slowness: Slowness, at: float, timed: Sequence[Timed]) -> Slowness:
    """Add one reading."""
    if not slowness.limits:
        return slowness
    if timed and math.inf in (slowness.new_since_at, slowness.old_since_at):
        slowness = replace(
            slowness,
            new_since_at=min(slowness.new_since_at, at if any(one.new for one in timed) else math.inf),
            old_since_at=min(slowness.old_since_at, at if not all(one.new for one in timed) else math.inf),
        )
    if timed and at >= max(slowness.new_since_at, slowness.old_since_at) + WARM_UP_S:
        slowness = replace(slowness, looks=_entered(slowness, at, timed))
    newest_closed = math.floor(at / LOOK_S) - LOOKS_OPEN
    while slowness.looks and slowness.looks[0][0] <= newest_closed:
        slowness = _closed(slowness, slowness.looks[0])
    return slowness


def _entered(slowness: Slowness, at: float, timed: Sequence[Timed]) -> tuple[Look, ...]:
    """The open looks with these answers in them, each in the second in which its request came."""
    looks = {number: [new, old] for number, new, old in slowness.looks}
    oldest = max(slowness.closed + 1, math.floor(at / LOOK_S) - LOOKS_OPEN + 1)
    for one in timed:
        over = tuple(one.stands_for if one.ms > limit.ms else 0 for limit in slowness.limits)
        number = max(oldest, math.floor((at - one.ms / 1000.0) / LOOK_S))
        parts = looks.setdefault(number, [Part(), Part()])
        side = 0 if one.new else 1
        parts[side] = parts[side].plus(Part(one.stands_for, over))
    return tuple((number, new, old) for number, (new, old) in sorted(looks.items()))


def _closed(slowness: Slowness, look: Look) -> Slowness:
    """Take the oldest look out, and let it speak when it had answers of both releases."""
    number, new, old = look
    slowness = replace(slowness, looks=slowness.looks[1:], closed=number)
    if not (new.requests and old.requests):
        return slowness
    each = tuple(
        _seen(evidence, limit, (new.share(index), old.share(index)), (number + 1) * LOOK_S)
        for index, (evidence, limit) in enumerate(zip(slowness.each, slowness.limits, strict=True))
    )
    return replace(slowness, each=each, new=slowness.new.plus(new), old=slowness.old.plus(old))


def _seen(evidence: Evidence, limit: Limit, parts: tuple[float, float], at: float) -> Evidence:
    """One look more at one limit; `parts` are those that exceeded it, of the new release and of the old."""
    new, old = parts
    against_old = evidence.against_old
    if new or old:
        against_old = e_process.weigh(against_old, EVENLY, new * (1.0 - old), old * (1.0 - new))
    against_past = e_process.weigh(evidence.against_past, limit.usual, new, 1.0 - new)
    first_at, last_at = evidence.first_at, evidence.last_at
    if new > old:
        first_at, last_at = (at if evidence.value <= 0.0 else first_at), at
    return Evidence(against_old, against_past, first_at, last_at)
