"""Setting markers when all is well: for how long a service has been healthy, and the names that its snapshots get.

Healthy: the active replica answers and nobody suspects it, all others stand by as they should, and snapshots are taken
and followed. Each replica says itself since when it is in its state; for the rest the instant is kept here, so that it
begins anew with the daemon. Neighbours: `preserve` calls it, `prevent.marker` decides.
"""

import time

from perdure.control.tell import Tell
from perdure.control.world import ServiceState, SlotState
from perdure.model.replica import State
from perdure.model.service import Standby
from perdure.model.snapshot import Manifest
from perdure.ports.clock import Clock
from perdure.ports.keeper import Archive
from perdure.prevent import marker


async def step(service: ServiceState, newest: Manifest | None, archive: Archive, clock: Clock, tell: Tell) -> None:
    """Mark the newest snapshot of the present history when that is due. Raises what the archive raises."""
    preserved, now = service.preserved, clock.now()
    marking = marker.decide(preserved.kept, newest, settled_s(service, now), clock.wall())
    if marking.add is None or newest is None:
        return
    name = named(newest)
    await archive.mark(service.name, name, marking.add)
    preserved.healthy_since_at = now
    for other in marking.forget:
        await archive.unmark(service.name, other)
    preserved.kept = tuple(await archive.kept(service.name))
    sentence = f"{marking.add} is marked {name}: all has been well for an hour"
    tell("D20", service.name, sentence, facts={"snapshot": marking.add, "forgotten": ", ".join(marking.forget)})


def settled_s(service: ServiceState, now: float) -> float:
    """For how long all has been well since the last marker, in seconds; to be asked all the while."""
    preserved = service.preserved
    if not _healthy(service):
        preserved.healthy_since_at = None
        return 0.0
    if preserved.healthy_since_at is None:
        preserved.healthy_since_at = now
    since_at = [slot.replica.since_at for slot in service.slots.values() if slot.replica is not None]
    return now - max([preserved.healthy_since_at, *since_at])


def named(manifest: Manifest) -> str:
    """The automatic marker of a snapshot: when it was taken (UTC)."""
    return time.strftime("healthy-%Y%m%d-%H%M", time.gmtime(manifest.taken_at))


def _healthy(service: ServiceState) -> bool:
    desired, term = service.desired, service.term
    if desired.stopped or service.removed or service.preserved.problem or service.lossy or not term.holds:
        return False
    numbers = desired.numbers
    if any(slot.live for number, slot in service.slots.items() if number not in numbers):
        return False
    return all(number in service.slots and _as_wanted(service, service.slots[number]) for number in numbers)


def _as_wanted(service: ServiceState, slot: SlotState) -> bool:
    """Whether a slot does what it should, and nothing speaks against its replica."""
    replica, desired = slot.replica, service.desired
    active = slot.slot.number == service.term.owner
    if not active and desired.service.standby is Standby.COLD:
        return not slot.live and not slot.unsaved
    if replica is None or slot.exited or desired.outdated(replica) or slot.verdict is not None or slot.unsaved:
        return False
    return replica.state is (State.READY if active else State.PASSIVE)
