"""Which of two releases fails more, or answers more slowly, while both serve: the evidence for and against a rollout.

What is usual was frozen before the new release got traffic (`usual`). Then every reading of the balancer adds to four
tests, each an e-process that may be looked at after every event: one on failed requests (`e_process`), three on
response times (`slowness`). What both releases show is not the new one's fault and moves none of them; that the old one
fails more than usual, too, is told apart (`common_mode`), so that the rollout holds.

w, the new release's share of the requests, is estimated from the readings *before* the failure: requests of the last
ten seconds, fading, and as many as `PRIOR` that follow the intended share. When that changes, what was counted before
is dropped: the prior makes w right from the first request on. Failures of requests that came before belong to the share
that there was then, so they do not count: when all requests went to one release until now, all of them are its own.

Hard cases: few requests (the test waits for failures, not for requests), one client with a bug (`observed`), a release
that turns bad after a long good time (what spoke for it must be outweighed first).
Neighbours: `blame` tells the verdict; `roll_out` decides on it; `relapse` goes on when the new release has all traffic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from perdure.recover import e_process, observed, slowness, surge
from perdure.recover.e_process import EProcess
from perdure.recover.observed import Arms, Clients, Failed, Observed
from perdure.recover.slowness import Slowness
from perdure.recover.surge import Surge
from perdure.recover.usual import Frozen

FADE_S = 10.0
PRIOR = 20.0
"""Requests that the intended share is worth."""
SURGE_MIN = surge.RATIOS[0]
"""A release that now fails less than this many times its usual share is well."""
EXPECTED_MIN = 3.0
"""When the new release shows no failure where so many are to be expected, the old one fails alone (exp(-3) = 0.05)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks against the new release in failed requests."""

    process: EProcess = e_process.NOTHING
    first_at: float = 0.0
    """The first of its failures since E was last at most 1: before it, nothing spoke against the release."""
    last_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attempt of a rollout, from when the new release first gets traffic."""

    frozen: Frozen
    at: float
    """Of the last reading."""
    failures: Evidence = Evidence()
    times: Slowness = slowness.NOTHING
    total: Arms = observed.NO_REQUESTS
    step: Arms = observed.NO_REQUESTS
    """Since the present step began."""
    lately: Arms = observed.NO_REQUESTS
    """In the last 10 s, fading."""
    sharing: Arms = observed.NO_REQUESTS
    """The same since the present share began: from it w is estimated."""
    share: float = 0.0
    """The intended one."""
    share_at: float = -math.inf
    """In the reading of this instant it changed."""
    clients: Clients = observed.NOBODY
    old_surge: Surge = surge.NOTHING
    """Whether the old release fails more than usual."""
    asked_at: float = -math.inf
    """When the new release got a request last."""


def begin(frozen: Frozen, at: float) -> Comparison:
    """Nothing was compared yet: a first attempt, or a fresh one."""
    return Comparison(frozen, at, times=slowness.begin(frozen.limits))


def next_step(comparison: Comparison) -> Comparison:
    """Count the requests of a step from nothing; the evidence stays."""
    return replace(comparison, step=observed.NO_REQUESTS)


def observe(comparison: Comparison, seen: Observed) -> Comparison:
    """Add one reading."""
    if seen.intended_share != comparison.share:
        comparison = replace(comparison, share=seen.intended_share, share_at=seen.at, sharing=observed.NO_REQUESTS)
    clients, first = observed.first_of_second(comparison.clients, seen.at, seen.failures)
    arms = observed.counted(seen, first)
    kept = math.exp((comparison.at - seen.at) / FADE_S)
    sharing = comparison.sharing.plus(observed.NO_REQUESTS, kept)
    # Nobody knows which requests of the reading in which the share changed came before: neither share has them.
    own = [one for one in first if seen.at - one.waited_s > comparison.share_at]
    w = estimated(sharing, seen.intended_share)
    return Comparison(
        comparison.frozen,
        seen.at,
        _added(comparison.failures, seen, own, w) if own else comparison.failures,
        slowness.observe(comparison.times, seen.at, seen.timed),
        comparison.total.plus(arms),
        comparison.step.plus(arms),
        comparison.lately.plus(arms, kept),
        sharing.plus(arms) if seen.at > comparison.share_at else sharing,
        seen.intended_share,
        comparison.share_at,
        clients,
        surge.observe(comparison.old_surge, arms.old.requests, arms.old.counted, comparison.frozen.failing),
        seen.at if seen.requests_new else comparison.asked_at,
    )


def share(comparison: Comparison) -> float:
    """w for the next failure."""
    return estimated(comparison.sharing, comparison.share)


def estimated(sharing: Arms, intended: float) -> float:
    """w: the new release's share of these requests and of `PRIOR` others that follow the intended share."""
    new, old = sharing.new.requests, sharing.old.requests
    return (new + PRIOR * intended) / (new + old + PRIOR)


def common_mode(comparison: Comparison) -> str:
    """What both releases show, for a person; empty when the old one is well, or fails alone."""
    new, old = comparison.lately.new, comparison.lately.old
    usual = comparison.frozen.failing
    if not surge.lasts(comparison.old_surge) or old.share < SURGE_MIN * usual:
        return ""
    if new.failures < 0.5 and new.requests * old.share >= EXPECTED_MIN:
        return ""
    return (
        f"both releases fail: {old.share:.0%} of the requests to the old one in the last {FADE_S:.0f} s,"
        f" {new.share:.0%} of those to the new one; usual are {usual:.1%}"
    )


def usual_share(comparison: Comparison) -> float:
    """Which share of the requests failed during the rollout, of both releases together: what `relapse` begins with."""
    new, old = comparison.total.new, comparison.total.old
    return surge.usual_share(new.counted + old.counted, new.requests + old.requests)


def _added(evidence: Evidence, seen: Observed, failures: Sequence[Failed], w: float) -> Evidence:
    """Add failures that count; `w` was known before them."""
    if not 0.0 < seen.intended_share < 1.0:
        return evidence  # one of the releases is to get no requests: there is nothing to compare
    process, first_at, last_at = evidence.process, evidence.first_at, evidence.last_at
    for one in failures:
        if one.new:
            first_at = seen.at if e_process.value(process) <= 0.0 else first_at
            last_at = seen.at
        process = e_process.observe(process, w, one.new)
    return Evidence(process, first_at, last_at)
