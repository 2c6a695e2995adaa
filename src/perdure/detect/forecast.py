"""When will it be full? A robust trend of what a replica holds, and the time until it reaches its limit (class E4).

A leak grows through noise: caches fill and are emptied, requests come and go. So the trend is the median of the slopes
between all pairs of points (Theil 1950, Sen 1968), which a third of wild points does not change, over the last ten
minutes. It is a forecast only when it was watched for long enough, when what is held has grown by a good part of the
limit meanwhile, and when most steps went up: a sawtooth, which is what garbage collection looks like, goes down too.
A forecast convicts nobody; it lets one replica be replaced in good time (`prevent.renew`).
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

POINT_EVERY_S = 10.0
POINTS = 60
POINTS_MIN = 12
GROWN_MIN = 0.1
"""Of the limit, within what is remembered."""
NEAR_MIN = 0.7
"""Of the limit: what fills a cache after a start grows steadily as well, and stops by itself."""
RISING_MIN = 0.7
"""Share of the steps that do not go down."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What was held: (instant, amount), at most one point each ten seconds, the oldest first."""

    points: tuple[tuple[float, float], ...] = ()


def observe(trend: Trend, at: float, amount: float) -> Trend:
    """Add a look; those that come too soon after the last point are left out."""
    if trend.points and at - trend.points[-1][0] < POINT_EVERY_S:
        return trend
    return Trend((*trend.points[-(POINTS - 1) :], (at, amount)))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median slope between all pairs of points, in amounts a second; 0 for fewer than two."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in itertools.combinations(points, 2)
        if later[0] > earlier[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def full_in_s(trend: Trend, limit: float) -> float | None:
    """Seconds until the trend reaches `limit`, from the last point; None when nothing grows there steadily."""
    points = trend.points
    if len(points) < POINTS_MIN or limit <= 0.0 or points[-1][1] < NEAR_MIN * limit:
        return None
    amounts = [amount for _, amount in points]
    rising = sum(1 for before, after in itertools.pairwise(amounts) if after >= before) / (len(amounts) - 1)
    grown = amounts[-1] - min(amounts)
    if grown < GROWN_MIN * limit or rising < RISING_MIN:
        return None
    rate = slope(points)
    return max(0.0, limit - amounts[-1]) / rate if rate > 0.0 else None
