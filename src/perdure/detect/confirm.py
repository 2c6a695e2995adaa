"""What clients ask most, asked by the monitor in their place, of a replica that seems to be stuck and of its peers.

A request that takes long is no sign by itself: somebody may have asked for much, or all replicas wait for the same. So
as soon as one stays open, the monitor asks the path that clients ask most and that is usually answered well within half
a second (`control.monitor`). Who answers it is not stuck, only slow at something. When the peers do not answer it soon
either, their hint is the same as the verdict (`Sign.STALLED`), and what half of the replicas show is shared (`scope`).

Hard cases: what was silent an hour ago says nothing now, for nobody watched it meanwhile; so an answer counts for three
seconds, and a silence goes on only while it is asked about. Neighbours: `stall` judges the requests, `probe` the
silence, `suspect` adds them up.
"""

from collections.abc import Mapping

from perdure.detect.probe import Asked
from perdure.model.check import CONFIRMING
from perdure.model.evidence import Outcome

TELLS_S = 3.0
"""For so long an answer tells how the replica is."""
SLOW_TELLS_S = 10.0
"""And for so long one that did not come soon tells that it waits for something: what a dependency delays comes now and
then at once, and three times in a row by chance."""


def answers(each: Mapping[str, Asked], now: float) -> bool:
    """Whether the replica has just answered; `each` maps the labels of checks to their evidence."""
    return any(
        not asked.misses and asked.last_good_at is not None and now - asked.last_good_at < TELLS_S
        for label, asked in each.items()
        if label.startswith(CONFIRMING)
    )


def late(each: Mapping[str, Asked], now: float) -> bool:
    """Whether one of the last questions got no answer, or an answer that did not come soon."""
    return any(_late(asked, now) for label, asked in each.items() if label.startswith(CONFIRMING))


def watched(each: Mapping[str, Asked], now: float) -> Mapping[str, Asked]:
    """The evidence before the replica is asked anew: a silence that was not watched any more is forgotten."""
    kept = {}
    for label, asked in each.items():
        if not label.startswith(CONFIRMING) or _fresh(asked, now):
            kept[label] = asked
        elif _slow(asked, now):
            kept[label] = Asked(label, slow_at=asked.slow_at)
    return kept


def _late(asked: Asked, now: float) -> bool:
    return _fresh(asked, now) and (_slow(asked, now) or Outcome.TIMEOUT in asked.recent)


def _slow(asked: Asked, now: float) -> bool:
    return asked.slow_at is not None and now - asked.slow_at < SLOW_TELLS_S


def _fresh(asked: Asked, now: float) -> bool:
    return asked.ended_at is not None and now - asked.ended_at < TELLS_S
