"""What must come of a fault beyond who gets requests: questions to the side, each asked again and again until it is so.

Only Perdure tells anything; of the other sides HAProxy's view is all there is.
"""

from collections.abc import Callable
from typing import Any

from bench import runtime, sides
from bench.faults.catalogue import Expected, Row
from bench.sides import PerdureSide, Side

ALARMS = frozenset({"R05", "R07", "R08"})
NEVER_S = 3600.0
ASK_EVERY_S = 0.1
Noticed = Callable[[], bool]


def question(side: Side, row: Row) -> tuple[Noticed, float]:
    """Tells whether what must come of the row has come of it, and how often to ask, in seconds."""
    if row.expected is Expected.PUT_RIGHT:
        return lambda: _all_weigh_the_same(side), ASK_EVERY_S
    if not isinstance(side, PerdureSide):
        return lambda: False, NEVER_S
    perdure = side
    match row.expected:
        case Expected.ALARM:
            after = newest(side)
            return lambda: any(one["rule"] in ALARMS for one in events(perdure, after)), ASK_EVERY_S
        case Expected.TOLD:
            return lambda: row.words in str(perdure.status()["services"]["web"]["sentence"]), ASK_EVERY_S
        case _:
            return lambda: False, NEVER_S


def newest(side: PerdureSide) -> int:
    """The number of the last event."""
    return max((int(event["number"]) for event in events(side, -1)), default=0)


def events(side: PerdureSide, after: int) -> list[dict[str, Any]]:
    """The events after this number; below 0: so many of the last."""
    found: list[dict[str, Any]] = side.get(f"/v1/events?after={after}")
    return found


def _all_weigh_the_same(side: Side) -> bool:
    stats = side.stats()
    weights = runtime.weights(stats, side.backends) if stats is not None else {}
    return len(weights) == sides.REPLICAS and len(set(weights.values())) == 1
