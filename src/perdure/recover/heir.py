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


def heir(
    candidates: Sequence[Candidate], data_epoch: int, max_loss_s: float | None, *, accept_loss: bool = False
) -> Heir:
    """The candidate of the current history that lacks least; at the same loss one that is ready, then the lowest slot.

    One that would lose more than `max_loss_s` is refused unless somebody said that the loss is accepted, and one of an
    older history always: it would serve what was rolled back.
    """
    current = [one for one in candidates if one.data_epoch == data_epoch]
    if not current:
        if candidates:
            return Heir(refusal="all others hold data of before the last restore, and must follow it first")
        return Heir(refusal="there is no other slot")
    best = min(current, key=lambda one: (one.behind_s, not one.ready, one.slot))
    if max_loss_s is not None and best.behind_s > max_loss_s and not accept_loss:
        service = best.slot.partition("/")[0]
        loss = f"{best.behind_s:.0f} s" if best.behind_s < math.inf else "everything"
        refusal = (
            f"{best.slot} would lose {loss}, and max_loss allows {max_loss_s:g} s:"
            f" `perdure promote {service} {best.slot} --accept-loss` takes it"
        )
        return Heir(best.slot, best.host, best.behind_s, refusal)
    return Heir(best.slot, best.host, best.behind_s)
