"""False alarms: simulated rollouts of releases that are no worse than the one before, judged by the code that judges
real ones.

Failures at 50 requests a second with 0.2 % that fail anyway, over the default steps of fourteen minutes; once as often
as the old release, once 1.2 times as often, which is the most that is to be tolerated. Response times are log-normal.
"""

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.rollout import canaries
from perdure.recover import blame, compare, e_process, slowness, usual
from perdure.recover.observed import Observed
from perdure.recover.slowness import Times

PIECE = 50
"""Rollouts that one process plays at a time."""
FAILURES_PER_S = canaries.REQUESTS_PER_S * canaries.BACKGROUND
BEFORE_S = 60.0
"""So long the old release is seen alone."""
TIMES_SHARE = 0.05
"""Each answer is played one by one, so there are fewer of these."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How innocent they are; `ratio` None: response times are what is compared."""

    name: str
    ratio: float | None


KINDS = (
    Kind("simulated: fails as often", 1.0),
    Kind("simulated: fails 1.2 times as often", e_process.NULL_RATIO),
    Kind("simulated: answers as fast", None),
)


def rows(kinds: Sequence[Kind], number: int, processes: int) -> list[tuple[str, ...]]:
    """One for each kind: how many of `number` rollouts came to their end."""
    found = []
    with multiprocessing.Pool(processes) as pool:
        for kind in kinds:
            count = max(1, round(number * TIMES_SHARE)) if kind.ratio is None else number
            blamed = sum(pool.imap_unordered(_blamed, _pieces(kind, count)))
            found.append((kind.name, f"{count - blamed:,} of {count:,}", "", "", "", ""))
    return found


def _pieces(kind: Kind, number: int) -> Iterator[tuple[Kind, int, int]]:
    """The kind, the number of the first rollout, and how many."""
    for first in range(0, number, PIECE):
        yield kind, first, min(PIECE, number - first)


def _blamed(piece: tuple[Kind, int, int]) -> int:
    kind, first, number = piece
    return sum(_is_blamed(kind, random.Random(f"{kind.name} {first + one}")) for one in range(number))


def _is_blamed(kind: Kind, chance: random.Random) -> bool:
    if kind.ratio is not None:
        return canaries.failures_only(chance, kind.ratio, FAILURES_PER_S) is None
    return _slow(chance, canaries.PLAN)


def _slow(chance: random.Random, plan: Sequence[tuple[float, float]]) -> bool:
    """Whether a release was found slower than the other, which it is not."""
    answers = canaries.Answers()
    before = [one for _, lines in canaries.answered(chance, ((0.0, BEFORE_S),), answers) for one in lines]
    history = usual.History(times=slowness.gather(Times(), before))
    comparison = compare.begin(usual.freeze(history), canaries.BEGAN_AT)
    ends = [sum(for_s for _, for_s in plan[: number + 1]) for number in range(len(plan))]
    for at, lines in canaries.answered(chance, tuple(plan), answers):
        after_s = at - canaries.BEGAN_AT
        share = next((share for (share, _), end_s in zip(plan, ends, strict=True) if after_s < end_s), plan[-1][0])
        new = sum(one.new for one in lines)
        comparison = compare.observe(comparison, Observed(at, new, len(lines) - new, (), lines, share))
        if blame.judge(comparison) is not None:
            return True
    return False
