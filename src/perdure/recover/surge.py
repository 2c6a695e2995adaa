"""Whether a release fails much more often than it used to: a CUSUM against a share that is known from before.

Where there is nothing to compare with, the past must do. Failures of n requests, each failing with probability q0, are
about Poisson with mean n q0. For each ratio g of a grid, k failures of n requests are worth

    k ln g - n q0 (g - 1)

nats (the Poisson likelihood ratio of g q0 against q0; for requests that fail independently its mean factor is
(1 + q0 (g-1))^n e^(-n q0 (g-1)) <= 1, so it is fair for a binomial as well). A sum is never below 0, so that a good
past buys no credit (Page 1954), nor above `SUM_MAX`, so that the end of an illness is noticed soon. What counts is the
mean of the three likelihood ratios.

The limit is high, since a sum begins with a failure that is worth up to ln 30: when a release fails exactly as often as
is usual, and that is the floor, there is one false alarm in some 150,000 failures (simulated; with a limit of ln 1000
it would be one in 225). What fails always is noticed at the fifth failure all the same, and a false alarm costs no more
than a comparison that finds nothing. Rejected: fixed limits on a failing share; they are too low for some services and
too high for the others.

Neighbours: `compare` asks it of the old release during a rollout, `relapse` of the new one after it.
"""

import math
from dataclasses import dataclass

from perdure.recover import e_process

RATIOS = (3.0, 10.0, 30.0)
"""How many times as often as before a release may fail."""
FLOOR = 0.002
"""q0 is never lower: a healthy release may fail two requests in a thousand."""
LIMIT = math.log(1e6)
"""From so many nats on it fails more than before."""
SUM_MAX = LIMIT + 3.0
"""More than LIMIT + ln 3, so that one sum alone can reach the limit; and not much more, so that it soon falls below."""
DOUBT = (2, 20)
"""Failures and requests that are added to those that were counted: of few requests, the share is rather thought too
high than too low."""


@dataclass(frozen=True, slots=True)
class Surge:
    """One sum, in nats, for each of `RATIOS`."""

    sums: tuple[float, ...] = (0.0,) * len(RATIOS)

    @property
    def quiet(self) -> bool:
        """Nothing speaks for it."""
        return not any(self.sums)


NOTHING = Surge()


def usual_share(failures: float, requests: float) -> float:
    """q0: the share that fails when all is as always, given what was counted."""
    return max(FLOOR, (failures + DOUBT[0]) / (requests + DOUBT[1]))


def observe(surge: Surge, requests: float, failures: float, usual: float) -> Surge:
    """Add one reading: failures of so many requests; `usual` is q0."""
    if surge.quiet and not failures:
        return surge
    sums = (
        min(SUM_MAX, max(0.0, total + failures * math.log(ratio) - requests * usual * (ratio - 1.0)))
        for total, ratio in zip(surge.sums, RATIOS, strict=True)
    )
    return Surge(tuple(sums))


def value(surge: Surge) -> float:
    """The logarithm of the mean likelihood ratio, in nats."""
    return e_process.mean_of(surge.sums)


def lasts(surge: Surge) -> bool:
    """Whether it fails more than before, now."""
    return value(surge) >= LIMIT
