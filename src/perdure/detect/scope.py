"""Whose fault is it? Before anybody is isolated, look at what the replicas have in common.

When half of the replicas or more (and at least two) show the same sign, it is not one replica's fault: a dependency,
the release, overload. Then nobody is isolated for it, and one event names the common cause. Definitive signs are
exempt: a process that the kernel stopped is stopped, whatever its peers do. A common cause ends for all, but they are
asked one after the other; so a sign stays shared for a while after it was, or the last ones to be asked would be
blamed for it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from perdure.model.service import Check
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
    before: Mapping[Sign, float], shared: frozenset[Sign], checks: Sequence[Check], now: float
) -> dict[Sign, float]:
    """Signs that count as shared -> when they last were."""
    lingers_s = max([LINGERS_S, *(check.interval_s for check in checks)])
    kept = {sign: at for sign, at in before.items() if sign in LINGERING and now - at < lingers_s}
    return kept | dict.fromkeys(shared, now)


SHARED_SHARE = 0.1
"""Half of the replicas failing this share of their requests have a common cause, whatever their checks say."""


def failing_together(shares: Sequence[float | None], replicas: int) -> bool:
    """Whether half of the replicas or more, and at least two, fail requests of clients now."""
    failing = sum(1 for share in shares if share is not None and share >= SHARED_SHARE)
    return failing >= 2 and 2 * failing >= replicas


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
