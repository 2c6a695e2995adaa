"""Whose fault is it? Before anybody is isolated, look at what the replicas have in common.

When half of the replicas or more (and at least two) show the same sign, it is not one replica's fault: a dependency,
the release, overload. Then nobody is isolated for it, and one event names the common cause. Definitive signs are
exempt: a process that the kernel stopped is stopped, whatever its peers do. A common cause ends for all, but they are
asked one after the other; so a sign stays shared for a while after it was, or the last ones to be asked would be
blamed for it.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perdure.model.check import Check
from perdure.model.verdict import DEFINITIVE, Common, Failing, Sign

LINGERING = frozenset({Sign.REFUSED, Sign.STATUS, Sign.CONTENT})
"""Signs that end when their cause does. What hangs must be taken out of the way, and failed requests have a memory of
their own.
"""
LINGERS_S = 3.0
"""A sign counts as shared for so long after it was, or for the longest interval between two checks."""


def shared_signs(signs: Sequence[Sign | None], replicas: int) -> frozenset[Sign]:
    """Signs whose scope is SHARED, given the sign of each live replica (None: healthy) and how many there should be."""
    counted = Counter(sign for sign in signs if sign is not None and sign not in DEFINITIVE)
    return frozenset(sign for sign, count in counted.items() if count >= 2 and 2 * count >= replicas)


def remembered(
    before: Mapping[Sign, float], shared: frozenset[Sign], checks: Sequence[Check], now: float, *, heard: bool = True
) -> dict[Sign, float]:
    """Signs that count as shared -> when they last were. While nobody is `heard`, nothing says that it is over."""
    lingers_s = max([LINGERS_S, *(check.interval_s for check in checks)])
    kept = {
        sign: at if heard else now
        for sign, at in before.items()
        if sign in LINGERING and (not heard or now - at < lingers_s)
    }
    return kept | dict.fromkeys(shared, now)


CULPRITS_MIN = math.log(1000.0)
"""As sure as `traffic` must be that one replica alone fails."""
CULPRITS_TIMES = 5.0
"""Each of them fails more than so many times the share of any other."""
SHARED_SHARE = 0.1
"""Half of the replicas failing this share of their requests have a common cause, whatever their checks say."""
STILL_SHARED_SHARE = 0.05
"""It is over when they fail less than this: a share near the threshold crosses it again and again, and whoever fails a
little more than the others would be blamed in between."""


def failing_together(shares: Sequence[float | None], replicas: int, *, already: bool = False) -> bool:
    """Whether half of the replicas or more, and at least two, fail requests of clients now; `already`: they did in the
    turn before.
    """
    enough = STILL_SHARED_SHARE if already else SHARED_SHARE
    failing = sum(1 for share in shares if share is not None and share >= enough)
    return failing >= 2 and 2 * failing >= replicas


@dataclass(frozen=True, slots=True)
class Asked:
    """What clients got from one replica: the share of failures in the last 10 s and their number, and the requests of
    the last second.
    """

    share: float
    failed: float
    requests: float


def culprits(asked: Sequence[Asked]) -> frozenset[int]:
    """Those of the replicas (by their place) that fail while the others demonstrably do not; nobody when it is not
    clear.

    Two of three that fail at once are half of the replicas or more, but what they suffer from is not shared as long as
    the third one answers what they do not. The likelihood of the best split into failing and well ones is compared with
    that of one cause for all: failures then fall on the well ones as often as requests do, or as often as on any other
    replica, whichever is less, for a request that fails everywhere is tried on all alike, and a busy replica gets
    little else. A binomial likelihood ratio; any of the 2^n splits may look good by chance.
    """
    ranked = sorted(range(len(asked)), key=lambda place: -asked[place].share)
    requests, failed = sum(one.requests for one in asked), sum(one.failed for one in asked)
    if requests <= 0.0 or failed <= 0.0:
        return frozenset()
    well_requests, well_failed = requests, failed
    for count, (worse, better) in enumerate(itertools.pairwise(asked[place] for place in ranked), 1):
        well_requests, well_failed = well_requests - worse.requests, well_failed - worse.failed
        if worse.share <= CULPRITS_TIMES * better.share:
            continue
        expected = min(well_requests / requests, 1.0 - count / len(asked))
        found = max(0.0, well_failed / failed)
        if found < expected and failed * _divergence(found, expected) >= CULPRITS_MIN + len(asked) * math.log(2.0):
            return frozenset(ranked[:count])
    return frozenset()


def _divergence(found: float, expected: float) -> float:
    """Kullback and Leibler's, of two coins, in nats."""
    well = found * math.log(found / expected) if found > 0.0 else 0.0
    return well + (1.0 - found) * math.log((1.0 - found) / (1.0 - expected))


def common(each: Sequence[Sequence[Failing]], replicas: int) -> tuple[Common, ...]:
    """What half of the replicas or more, and at least two, show at the same endpoint, the worst first; `each` is what
    every serving one shows.
    """
    shown: dict[tuple[Sign, str], list[Failing]] = {}
    for failings in each:
        for failing in failings:
            shown.setdefault((failing.sign, failing.endpoint), []).append(failing)
    found = []
    for (sign, endpoint), several in shown.items():
        if len(several) >= 2 and 2 * len(several) >= replicas:
            worst = max(several, key=lambda one: one.share)
            found.append(Common(sign, endpoint, len(several), worst.share, worst.status))
    return tuple(sorted(found, key=lambda one: (one.sign is not Sign.REQUESTS, -one.share, one.endpoint)))
