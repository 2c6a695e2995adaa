"""Which snapshots count for those that stand by, which is the newest, and how old what a slot holds is.

The clock of the host may be set back, so what this daemon took is ordered by its own. `preserve` takes snapshots and
brings slots to them.
"""

import math

from perdure.control.world import ServiceState, SlotState
from perdure.model.snapshot import Manifest
from perdure.ports.clock import Clock
from perdure.prevent import snapshot

CLOCKS_DIFFER_S = 1.0
"""What seems to be taken so much later than now was taken before the clock was set back."""


def newest(service: ServiceState) -> Manifest | None:
    """The newest snapshot of the owner in its present term; None: those that stand by have the best there is.

    One that an earlier owner was saved into later is none, and neither is one of an earlier term of the owner's: to
    hand over, the others were brought to what came after it.
    """
    taken = (one for one in owners(service) if one.epoch == service.term.epoch)
    return max(taken, key=lambda one: order(service, one), default=None)


def owners(service: ServiceState) -> list[Manifest]:
    """All snapshots of the owner's slot in the present history."""
    active, history = f"{service.name}/{service.term.owner}", service.term.data_epoch
    found = [one.manifest for one in service.preserved.kept if not snapshot.aside(one)]
    return [one for one in found if one.slot == active and one.data_epoch == history]


def order(service: ServiceState, manifest: Manifest) -> tuple[float, float]:
    """Later ones are greater: first by this daemon's own clock, for that of the host may have been set back."""
    return service.preserved.born.get(manifest.id, -math.inf), manifest.taken_at


def applied(service: ServiceState, number: int, manifest: Manifest, clock: Clock) -> None:
    """Note what a slot was brought to. What this daemon took is as old as its own clock says; of another one, which
    seems to be of the future, nobody knows how old it is.
    """
    service.preserved.applied[number] = manifest
    age_s = clock.wall() - manifest.taken_at
    known_at = clock.now() - age_s if age_s >= -CLOCKS_DIFFER_S else -math.inf
    service.preserved.current_at[number] = service.preserved.born.get(manifest.id, known_at)


def lag_s(service: ServiceState, slot: SlotState, wall: float) -> float | None:
    """How much of the present a slot's state lacks, in seconds; 0 for the owner's, None when nobody knows."""
    if slot.slot.number == service.term.owner:
        return 0.0
    manifest = service.preserved.applied.get(slot.slot.number)
    if manifest is None or manifest.taken_at > wall + CLOCKS_DIFFER_S:
        return None  # a clock was set back, and nobody knows
    return max(0.0, wall - manifest.taken_at)
