"""How long a replica takes to answer, as a histogram; and from which time on an answer is *slow*.

A limit that a person sets is wrong for most endpoints, and one learned from the mean misses the tail. So the limit is
three times the 90th percentile of what the peers showed in the last ten minutes: then a healthy replica exceeds it
seldom, whatever the shape of its times, one that is five times as slow exceeds it often, and one that is half as slow
again does not (for log-normal times with sigma = 1: less than 1 %, some 20 % and less than 3 % of the answers; with
sigma = 0.2: none, half, none; `tests/unit/test_times.py` counts). How often is too often is `traffic`'s to judge.

The histogram has logarithmic buckets, three for each doubling, from 1 ms to about a minute, so that a quantile is right
within 26 %; counts fade with a time constant of ten minutes.
"""

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BUCKETS = 50
PER_DOUBLING = 3
FADE_S = 600.0
QUANTILE = 0.9
FACTOR = 3.0
LIMIT_MS_MIN = 10.0
"""Nobody minds an answer in less than this."""
ANSWERS_MIN = 50.0
"""From fewer answers no quantile is told."""

Counts = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """Faded counts of answers by bucket, as of `at`."""

    counts: Counts = (0.0,) * BUCKETS
    at: float = 0.0
    since_at: float = math.inf
    """When the first answer was seen."""


def bucket(taken_ms: float) -> int:
    """The bucket of a response time in milliseconds."""
    return min(BUCKETS - 1, int(PER_DOUBLING * math.log2(taken_ms + 1.0)))


def upper_ms(index: int) -> float:
    """The longest time that belongs into a bucket, in milliseconds."""
    return float(2.0 ** ((index + 1) / PER_DOUBLING) - 1.0)


def observe(times: Times, new: Mapping[int, int], now: float) -> Times:
    """Add answers, counted by bucket."""
    kept = math.exp((times.at - now) / FADE_S) if times.at else 0.0
    counts = [count * kept for count in times.counts]
    for index, number in new.items():
        counts[index] += number
    return Times(tuple(counts), now, min(times.since_at, now))


def quantile_ms(times: Times, share: float = QUANTILE) -> float | None:
    """The time within which this share of the answers came, in milliseconds; None when they are too few to say."""
    below = list(itertools.accumulate(times.counts))
    if below[-1] < ANSWERS_MIN:
        return None
    return upper_ms(min(BUCKETS - 1, bisect.bisect_left(below, share * below[-1])))


def share_above(times: Times, limit_ms: float) -> float:
    """Which share of the answers may have taken longer than `limit_ms`, whose whole bucket counts; 0 when there are
    none.
    """
    total = sum(times.counts)
    return sum(times.counts[bucket(limit_ms) :]) / total if total else 0.0


def longest_ms(times: Times) -> float:
    """The longest time that any answer took, in milliseconds; 0 when there are none."""
    return max((upper_ms(index) for index, count in enumerate(times.counts) if count > 0.01), default=0.0)


def merged(each: Iterable[Times]) -> Times:
    """All answers together; those of replicas that are not asked any more have faded less than they should."""
    every = list(each)
    counts = tuple(map(sum, zip(*(one.counts for one in every), strict=True)))
    if not every:
        return Times()
    return Times(counts, max(one.at for one in every), min(one.since_at for one in every))


def limit_ms(peers_ms: Sequence[float]) -> float | None:
    """From which time on an answer is slow, given the quantiles of the peers; None: nobody knows.

    Of the peers the median counts, so that one that is ill itself excuses nobody. That a replica was always slower than
    its peers is in its own past, by which `traffic` judges.
    """
    ordered = sorted(peers_ms)
    return max(LIMIT_MS_MIN, FACTOR * ordered[(len(ordered) - 1) // 2]) if ordered else None


def slow(new: Mapping[int, int], limit: float) -> int:
    """How many of the answers took longer than `limit` milliseconds for sure: their whole bucket lies above it."""
    first = bucket(limit) + 1
    return sum(count for index, count in new.items() if index >= first)
