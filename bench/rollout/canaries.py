"""Rollouts by chance, to try the comparison on: requests of two releases, split between them as a plan of shares says.
Tests and benches feed them to the code that judges real rollouts.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from perdure.recover import blame, compare
from perdure.recover.blame import Judgement
from perdure.recover.compare import Comparison
from perdure.recover.observed import Failed, Observed, Timed
from perdure.recover.usual import Frozen

PLAN = ((0.05, 60.0), (0.25, 60.0), (0.5, 120.0), (0.9, 600.0))
"""Share of the new release, and for how many seconds."""
REQUESTS_PER_S = 50.0
BACKGROUND = 0.002
READING_S = 0.1
BEGAN_AT = 1_000.0


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended: failed requests of the new release until then, and the judgement, if there was one."""

    failed: int
    after_s: float
    judgement: Judgement | None


def poisson(chance: random.Random, mean: float) -> int:
    """A Poisson number (Knuth); the mean is small."""
    limit, product, number = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        number += 1
    return number


def attempt(chance: random.Random, failing: float, frozen: Frozen | None = None) -> Verdict:
    """One attempt of a release that fails this share of its requests, besides what always fails."""
    comparison, failed, at = compare.begin(frozen or Frozen(), BEGAN_AT), 0, BEGAN_AT
    for seen in readings(chance, failing):
        comparison, at = compare.observe(comparison, seen), seen.at
        failed += sum(one.new for one in seen.failures)
        judgement = blame.judge(comparison) if seen.failures else None
        if judgement is not None:
            return Verdict(failed, at - BEGAN_AT, judgement)
    return Verdict(failed, at - BEGAN_AT, None)


def readings(chance: random.Random, failing: float) -> Iterator[Observed]:
    """The readings of a whole rollout, of a thousand clients."""
    at = BEGAN_AT
    for share, for_s in PLAN:
        for _ in range(round(for_s / READING_S)):
            at += READING_S
            new = [chance.random() < share for _ in range(poisson(chance, REQUESTS_PER_S * READING_S))]
            failures = [
                Failed(mine, str(chance.randrange(1_000)))
                for mine in new
                if chance.random() < BACKGROUND + (failing if mine else 0.0)
            ]
            yield Observed(at, sum(new), len(new) - sum(new), failures, (), share)


def until_given_up(chance: random.Random, failing: float) -> int:
    """Failed requests of the new release in all: after a burst of failures it is tried once more."""
    first = attempt(chance, failing)
    if first.judgement is None or first.judgement.burst_s >= 30.0:
        return first.failed
    return first.failed + attempt(chance, failing).failed


def failures_only(chance: random.Random, ratio: float, failures_per_s: float) -> Comparison | None:
    """A whole rollout in readings that end with a failure each, which is quick; the new release fails `ratio` times as
    often a request. None when it was blamed.
    """
    comparison, at = compare.begin(Frozen(), BEGAN_AT), BEGAN_AT
    for share, for_s in PLAN:
        # The reading in which the share changes counts for neither.
        comparison = compare.observe(comparison, Observed(at, 0, 0, (), (), share))
        end_at, of_new = at + for_s, ratio * share / (ratio * share + 1.0 - share)
        while (next_at := at + chance.expovariate(failures_per_s)) < end_at:
            requests = REQUESTS_PER_S * (next_at - at)
            new = max(0.0, chance.gauss(share * requests, math.sqrt(share * (1.0 - share) * requests)))
            failed = [Failed(chance.random() < of_new, str(chance.randrange(1_000)))]
            at = next_at
            seen = Observed(at, round(new), max(0, round(requests - new)), failed, (), share)
            comparison = compare.observe(comparison, seen)
            if blame.judge(comparison) is not None:
                return None
        at = end_at
    return comparison


@dataclass(frozen=True)
class Pauses:
    """Every so often one replica of all answers nothing for a while; how many replicas each release has."""

    every_s: float
    length_s: float
    fewer: int = 1
    more: int = 2
    """The release with most of the requests has so many replicas, the other one `fewer`."""

    def replicas(self, share: float) -> tuple[int, int]:
        """Of the new and of the old release."""
        return (self.more, self.fewer) if share > 0.5 else (self.fewer, self.more)


@dataclass(frozen=True)
class Answers:
    """How long answers take: the old release's median, log-normal, and how many times as long the new one's."""

    median_ms: float = 20.0
    sigma: float = 0.5
    factor: float = 1.0
    per_s: float = REQUESTS_PER_S


def answered(
    chance: random.Random, plan: tuple[tuple[float, float], ...], answers: Answers, pauses: Pauses | None = None
) -> Iterator[tuple[float, list[Timed]]]:
    """Readings (instant, answers) of a whole rollout, twice a second. A paused replica answers after its pause."""
    lines: dict[int, list[Timed]] = {}
    at, paused, start_s = 0.0, (math.inf, 0.0, (True, 0)), 0.0
    if pauses:
        paused = _next_pause(chance, pauses, 0.0, plan[0][0])
    for share, for_s in plan:
        start_s += for_s
        while (at := at + chance.expovariate(answers.per_s)) < start_s:
            new = chance.random() < share
            took_s = answers.median_ms * math.exp(chance.gauss(0.0, answers.sigma)) / 1000.0
            took_s *= answers.factor if new else 1.0
            if pauses:
                if at > paused[1]:
                    paused = _next_pause(chance, pauses, paused[0], share)
                replicas = pauses.replicas(share)[not new]
                if paused[0] <= at <= paused[1] and (new, chance.randrange(replicas)) == paused[2]:
                    took_s += paused[1] - at
            lines.setdefault(int((at + took_s) * 2.0), []).append(Timed(new, int(took_s * 1000.0)))
    for number in range(max(lines) + 12):
        yield BEGAN_AT + (number + 1) / 2.0, lines.get(number, [])


def _next_pause(
    chance: random.Random, pauses: Pauses, since_s: float, share: float
) -> tuple[float, float, tuple[bool, int]]:
    """When the next one begins and ends, and which replica has it."""
    new, old = pauses.replicas(share)
    which = chance.randrange(new + old)
    begins_s = since_s + pauses.every_s
    return begins_s, begins_s + pauses.length_s, (which < new, which if which < new else which - new)
