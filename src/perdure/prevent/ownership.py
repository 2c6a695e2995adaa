"""Exactly one active: when a right ends, and when it may be taken. Pure.

Intuition. The holder counts its right from the instant *before* it sent the renewal that succeeded; a challenger counts
from the instant at which it *saw* the record change, which is later. The holder stops a margin before ttl has passed on
its clock, the challenger waits until ttl (1 + drift) has passed on its own. So the rights cannot overlap as long as no
clock runs faster than another by more than the drift, however slow the store is, and no clocks need to agree on the
time. (The rule is that of leases: Gray and Cheriton, 1989; counting from before the request, and from the sight of
a change instead of from a time stamp, makes it independent of synchronised clocks.)

Hard cases: a renewal whose answer was lost (the right counts from before it was sent, whenever one learns that it
succeeded); a record that names this host after its right has ended (it may be renewed, for nobody took it, but what ran
was ended meanwhile); a store that was restored (epochs go on above the highest that anybody here has seen); two
hosts that see the record as released at once (compare-and-swap lets one of them win).
Rejected: leases of the store. etcd restarts all of them when its own leader changes, which doubles the time of a
takeover.
Neighbours: `control.claim` keeps the record by these rules, `sim.takeover` tries to break them.
"""

import math

from perdure.model.owner import Owner, Right, Seen, Terms

ALONE = Terms(rivals=False)
"""Of a host whose store nobody else reaches."""
KILL_SHARE = 0.5
"""Of the margin: so long has a replica that was told to end before it is killed."""


def right(owner: Owner, sent_at: float, terms: Terms) -> Right:
    """What a successful write of the record that was sent at `sent_at` (before it was sent) gives its writer."""
    if not terms.rivals:
        return Right(owner.epoch, owner.slot, math.inf, math.inf)
    until_at = sent_at + owner.ttl_s - terms.margin_s
    return Right(owner.epoch, owner.slot, until_at, until_at + KILL_SHARE * terms.margin_s)


def renew_at(sent_at: float, terms: Terms) -> float:
    """When the record is renewed next; never, where nobody could take it."""
    return sent_at + terms.renew_every_s if terms.rivals else math.inf


def takeable_at(seen: Seen, host: str, terms: Terms) -> float:
    """From when on this host may take the record: at once when it is nobody's or its own, else when its holder must
    have stopped.
    """
    owner = seen.owner
    if owner is None or owner.released or owner.host == host:
        return -math.inf
    return seen.changed_at + owner.ttl_s * (1.0 + terms.drift)


def next_epoch(seen: Seen, highest: int) -> int:
    """The epoch of the next term; `highest` is the highest that this host has ever seen, wherever."""
    return max(highest, seen.owner.epoch if seen.owner is not None else 0) + 1


def takeover_bound_s(terms: Terms, loop_s: float, start_s: float) -> float:
    """How long nobody is active, at most, when the owner dies, and its host where there are others: `status` shows it.

    `loop_s`: to see it and to write the next term; `start_s`: until whoever is next can serve.
    """
    waits_s = terms.ttl_s * (1.0 + terms.drift) if terms.rivals else 0.0
    return waits_s + loop_s + start_s
