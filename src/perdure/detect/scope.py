"""Whose fault is it? Before anybody is isolated, look at what the replicas have in common.

When half of the replicas or more (and at least two) show the same sign, it is not one replica's fault: a dependency,
the release, overload. Then nobody is isolated for it, and one event names the common cause. Definitive signs are
exempt: a process that the kernel stopped is stopped, whatever its peers do.
"""

from collections import Counter
from collections.abc import Sequence

from perdure.model.verdict import DEFINITIVE, Sign


def shared_signs(signs: Sequence[Sign | None], replicas: int) -> frozenset[Sign]:
    """Signs whose scope is SHARED, given the sign of each live replica (None: healthy) and how many there should be."""
    counted = Counter(sign for sign in signs if sign is not None and sign not in DEFINITIVE)
    return frozenset(sign for sign, count in counted.items() if count >= 2 and 2 * count >= replicas)


SHARED_SHARE = 0.1
"""Half of the replicas failing this share of their requests have a common cause, whatever their checks say."""


def failing_together(shares: Sequence[float | None], replicas: int) -> bool:
    """Whether half of the replicas or more, and at least two, fail requests of clients now."""
    failing = sum(1 for share in shares if share is not None and share >= SHARED_SHARE)
    return failing >= 2 and 2 * failing >= replicas
