"""Whether the new release of a rollout is to blame, and for what: the verdict, its numbers, and how it is told.

The four tests of `compare` are looked at together. A release that fails at most 1.2 times as often as the other is
blamed with a probability of `ALPHA` at most for its failures, ever, and for its response times likewise (a third for
each of the three limits).
Neighbours: `compare` gathers the evidence, `roll_out` acts on the verdict.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from perdure.recover import e_process
from perdure.recover.compare import Comparison
from perdure.recover.slowness import Slowness

ALPHA = 0.001
ODDS_MAX = 1e6
"""Nobody tells larger ones apart."""


class Kind(StrEnum):
    """What the new release is blamed for."""

    FAILURES = "failures"
    P50 = "p50"  # its answers exceed a limit above the old release's median more often
    P90 = "p90"
    P99 = "p99"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The new release is to blame. `sentence` has its name as the subject, which is left out."""

    kind: Kind
    evidence: float
    """ln E, in nats."""
    sentence: str
    burst_s: float
    """From the first to the last of what speaks against it."""
    numbers: tuple[tuple[str, float], ...]


def judge(comparison: Comparison, old: str = "the release before") -> Judgement | None:
    """Blame the new release for what is proven best, if anything is; `old` is the name of the other."""
    found = []
    if e_process.value(comparison.failures.process) >= e_process.limit(ALPHA):
        found.append(_failing(comparison, old))
    for index, evidence in enumerate(comparison.times.each):
        if evidence.value >= e_process.limit(ALPHA / len(comparison.times.each)):
            found.append(_slow(comparison.times, index, old))
    return max(found, key=lambda one: one.evidence, default=None)


def _failing(comparison: Comparison, old: str) -> Judgement:
    mine, theirs, evidence = comparison.total.new, comparison.total.old, comparison.failures
    value = e_process.value(evidence.process)
    sentence = (
        f"fails {mine.failures:,.0f} of {mine.requests:,.0f} requests,"
        f" {old} {theirs.failures:,.0f} of {theirs.requests:,.0f}: {_odds(value)} that chance did this"
    )
    numbers = (
        ("requests", mine.requests),
        ("failures", mine.failures),
        ("requests of the old release", theirs.requests),
        ("failures of the old release", theirs.failures),
        ("e-value", _e_value(value)),
    )
    return Judgement(Kind.FAILURES, value, sentence, evidence.last_at - evidence.first_at, numbers)


def _slow(times: Slowness, index: int, old: str) -> Judgement:
    limit, evidence = times.limits[index], times.each[index]
    mine, theirs = times.new.share(index), times.old.share(index)
    sentence = (
        f"takes longer than {limit.ms} ms for {mine:.1%} of its answers, {old} for {theirs:.1%} at the same time and"
        f" {limit.usual:.1%} before: {_odds(evidence.value)} that chance did this"
    )
    numbers = (
        ("limit in ms", float(limit.ms)),
        ("share of slow answers", round(mine, 4)),
        ("share of the old release", round(theirs, 4)),
        ("share before", round(limit.usual, 4)),
        ("e-value", _e_value(evidence.value)),
    )
    return Judgement(Kind(limit.name), evidence.value, sentence, evidence.last_at - evidence.first_at, numbers)


def _e_value(value: float) -> float:
    """E itself, as far as anybody can tell the difference."""
    return round(math.exp(min(value, math.log(ODDS_MAX))), 1)


def _odds(value: float) -> str:
    odds = _e_value(value)
    return f"1 : {odds:,.0f}" if odds < ODDS_MAX else f"less than 1 : {ODDS_MAX:,.0f}"
