"""How strongly failures say that they are the new release's: an e-process, evidence that may be looked at always.

Look only at failures, and ask of each: was it the new release's? With w, the new release's share of the requests at
that moment, a failure belongs to it with probability

    p(r) = r w / (r w + 1 - w)

when it fails r times as often as the old one. That it fails at most r0 = 1.2 times as often is no reason to act (the
null). For each r of a grid, multiply p(r)/p(r0) for a failure of the new release, and (1-p(r))/(1-p(r0)) for one of the
old (Wald's likelihood ratio, 1945); E is the mean of the products. When the truth is r' <= r0, one more failure
multiplies a product by

    p(r') p(r)/p(r0) + (1-p(r')) (1-p(r))/(1-p(r0))

on average, which is 1 for r' = r0, and less for a smaller r', for its slope in p(r') is positive. So each product is a
supermartingale that begins at 1, their mean is one, too, and P(E ever reaches 1/alpha) <= alpha (Ville 1939). "Ever" is
why looking after every event costs nothing, and why any rule may stop: whatever the look was made to depend on, it is
one of those that the bound holds for. How often requests fail in all does not matter, and may change: a dependency that
breaks both splits its failures by w. The same idea for canary tests: Lindon, Sanden and Shirikian, arXiv 2205.14762.

w must be known before the event (be predictable): the mean above is taken over which release the failure falls on, with
w fixed. A w that counts the failed request itself would be larger for a failure of the new release than for one of the
old, and E would not be fair any more: it would hide a part of what speaks against the new one. For the same reason it
may be decided which failures count, but only by what came before them.

Neighbours: `compare` feeds failures, `slowness` answers that took long.
"""

import math
from dataclasses import dataclass

RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times as often the new release may fail."""
NULL_RATIO = 1.2
"""Up to so many times as often, it is not to blame."""
SHARE_MIN = 1e-4
"""w is kept so far away from 0 and 1, where a single failure would be proof."""


@dataclass(frozen=True, slots=True)
class EProcess:
    """The six products, as logarithms (nats), in the order of `RATIOS`."""

    logs: tuple[float, ...] = (0.0,) * len(RATIOS)


NOTHING = EProcess()
"""E = 1: nothing was seen."""


def belongs(ratio: float, w: float) -> float:
    """p(r): the probability that a failure is the new release's, when it fails `ratio` times as often."""
    return ratio * w / (ratio * w + 1.0 - w)


def factors(ratio: float, w: float) -> tuple[float, float]:
    """What a failure of the new release, and one of the old, multiplies the product of `ratio` by.

    p(r)/p(r0) and (1-p(r))/(1-p(r0)), written so that nothing is divided by zero: r w + 1 - w = 1 + w (r-1).
    """
    w = min(1.0 - SHARE_MIN, max(SHARE_MIN, w))
    of_old = (1.0 + w * (NULL_RATIO - 1.0)) / (1.0 + w * (ratio - 1.0))
    return ratio / NULL_RATIO * of_old, of_old


def observe(e: EProcess, w: float, new: bool) -> EProcess:
    """Add one failure; `w` is the new release's share of the requests (0 to 1), estimated from what came before it."""
    return weigh(e, w, float(new), float(not new))


def weigh(e: EProcess, w: float, new_part: float, old_part: float) -> EProcess:
    """Add one event that is a failure of the new release to the part `new_part`, one of the old to `old_part`, and none
    to what is left of 1: the mean factor over the possible readings of the event. A mean of fair factors is fair.
    """
    assert new_part >= 0.0 and old_part >= 0.0 and new_part + old_part <= 1.0 + 1e-9
    logs = []
    for log, ratio in zip(e.logs, RATIOS, strict=True):
        of_new, of_old = factors(ratio, w)
        logs.append(log + math.log(1.0 + new_part * (of_new - 1.0) + old_part * (of_old - 1.0)))
    return EProcess(tuple(logs))


def value(e: EProcess) -> float:
    """ln E, in nats: the logarithm of the mean of the products."""
    return mean_of(e.logs)


def mean_of(logs: tuple[float, ...]) -> float:
    """The logarithm of the mean of numbers given by their logarithms."""
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs) / len(logs))


def limit(alpha: float) -> float:
    """What ln E must reach, so that it does with probability `alpha` at most when the new release is not to blame."""
    return -math.log(alpha)
