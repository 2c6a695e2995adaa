"""Page's CUSUM of log-likelihood ratios over a small grid of failure shares.

What it estimates: whether yes/no observations (a probe failed, a response was an error) come from a replica that
fails a share q of them, rather than q0, which is what a healthy one would show. The intuition: every bad observation
is worth ln(q/q0), every good one ln((1-q)/(1-q0)) < 0, and the sum is never allowed below 0, so that a long healthy
past buys no credit. No other test notices a change faster, on average, at the same rate of false alarms (Page 1954;
Moustakides 1986).

Hard cases: the share is unknown, so the test runs for each q of a grid and the largest sum counts. A rare failure
needs a small q, which the counters "five in a row" of other tools never see: at 20 % they need 3,906 requests on
average, this about 16. Rejected: a sliding window with a limit on its failure rate; it forgets on a schedule, and is
slow or trigger-happy.

`suspect` adds the classes up; `probe` and `traffic` feed it.
"""

import math

GRID = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of failed observations that are tested against the healthy one."""

NOTHING = (0.0,) * len(GRID)
"""The scores before any observation."""

SCORE_MAX = 30.0
"""No sum grows beyond this many nats: a long illness is not held against a replica for hours after it is over."""

Scores = tuple[float, ...]
"""One sum for each share of the grid."""


def observe(scores: Scores, bad: int, good: int, healthy_share: float) -> Scores:
    """Add `bad` failed and `good` good observations; `healthy_share` is q0, in (0, 1).

    The order within one batch is unknown, so it counts as a whole. A share that is not clearly above q0 (1.5 times)
    speaks against nobody.
    """
    assert 0.0 < healthy_share < 1.0
    if not bad and not any(scores):
        return NOTHING
    return tuple(
        _added(score, bad, good, share, healthy_share) if share > 1.5 * healthy_share else 0.0
        for score, share in zip(scores, GRID, strict=True)
    )


def _added(score: float, bad: int, good: int, share: float, healthy_share: float) -> float:
    if good and share >= 1.0:
        return 0.0
    gained = bad * math.log(share / healthy_share)
    lost = good * math.log((1.0 - share) / (1.0 - healthy_share)) if good else 0.0
    return min(SCORE_MAX, max(0.0, score + gained + lost))


def strongest(scores: Scores) -> float:
    """The largest sum: the suspicion, in nats (natural log-likelihood)."""
    return max(scores)


def threshold(false_alarms_per_s: float, looks_per_s: float) -> float:
    """ln(1/alpha), in nats: what a sum must reach so that a healthy replica is convicted `false_alarms_per_s` at most.

    The mean time between false alarms of a CUSUM with limit h is at least e^h looks (Lorden 1971, theorem 2), whatever
    the distribution; so h = ln(looks between two tolerated alarms), and at most SCORE_MAX, which can be reached. That
    the largest of six sums is looked at would add ln 6 at the worst; but sums jump past the limit rather than onto it,
    so that together they still alarm less often than promised (a test counts).
    """
    assert false_alarms_per_s > 0.0 and looks_per_s > 0.0
    return min(SCORE_MAX, max(0.0, math.log(looks_per_s / false_alarms_per_s)))
