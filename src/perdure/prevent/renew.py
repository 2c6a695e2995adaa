"""Replacing a replica before it is full: the forecasts of `detect.forecast` put to use.

A replica whose memory or descriptors will reach their limit soon is drained and replaced while nobody suffers; left
alone, it would be isolated at the limit, perhaps with others that were started at the same time and leak alike. So one
at a time, only while every other slot serves, and the one that is full first.
"""

from collections.abc import Sequence

from perdure.model.decision import Advance, Decision
from perdure.model.event import Severity
from perdure.model.replica import Event
from perdure.model.standing import Desired, Standing


def decide(desired: Desired, standings: Sequence[Standing]) -> list[Decision]:
    """Drain the replica that is full first, if it is soon, and all others serve."""
    wanted = [standing for standing in standings if desired.wants(standing.slot.number)]
    filling = [one for one in wanted if one.serving and one.fills_soon]
    away = [one for one in wanted if not one.serving and one.slot.number not in desired.drained]
    if not filling or away or len(wanted) < 2:
        return []
    first = min(filling, key=lambda one: (one.filling.full_in_s if one.filling is not None else 0.0, one.slot))
    assert first.filling is not None
    sentence = f"is replaced before it is full: {first.filling.sentence}"
    change = Advance(first.slot, Event.DRAIN_WANTED)
    facts = {"full_in_s": round(first.filling.full_in_s)}
    return [Decision("P09", str(first.slot), sentence, change, facts, Severity.WARNING)]
