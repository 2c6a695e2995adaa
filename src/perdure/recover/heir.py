"""Who is next: which of the other slots loses least when it becomes active.

A slot whose state is of before a restore would serve what was rolled back, so it is never chosen; one that would lose
more than its service allows is not chosen unless a person accepts the loss. `take_over` asks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.model.owner import Candidate


@dataclass(frozen=True, slots=True)
class Heir:
    """Who takes over, or why nobody does; `behind_s` is what would be lost."""

    slot: str = ""
    host: str = ""
    behind_s: float = 0.0
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Bearable:
    """Which loss is borne: the declared `max_loss` (None: any), none at all where nobody needs to lose anything, or
    whatever it is, because a person accepts it.
    """

    max_loss_s: float | None = None
    needless: bool = False
    accepted: bool = False


def heir(candidates: Sequence[Candidate], data_epoch: int, bearable: Bearable) -> Heir:
    """The candidate of the current history that lacks least; at the same loss one that is ready, then the lowest slot.

    One that would lose more than can be borne is refused, and one of an older history always: it would serve what was
    rolled back.
    """
    current = [one for one in candidates if one.data_epoch == data_epoch]
    if not current:
        if candidates:
            return Heir(refusal="all others hold data of before the last restore, and must follow it first")
        return Heir(refusal="there is no other slot")
    best = min(current, key=lambda one: (one.behind_s, not one.ready, one.slot))
    most_s = 0.0 if bearable.needless else bearable.max_loss_s
    if most_s is None or best.behind_s <= most_s or bearable.accepted:
        return Heir(best.slot, best.host, best.behind_s)
    service = best.slot.partition("/")[0]
    loss = f"{best.behind_s:.0f} s" if best.behind_s < math.inf else "everything"
    why = (
        "the last changes of the active one cannot be copied" if bearable.needless else f"max_loss allows {most_s:g} s"
    )
    refusal = (
        f"{best.slot} would lose {loss}, and {why}: `perdure promote {service} {best.slot} --accept-loss` takes it"
    )
    return Heir(best.slot, best.host, best.behind_s, refusal)
