"""How the two releases of a rollout stand, as facts: who serves, who is ill, who has ended, who is to rest.

Neighbours: `rollouts` asks, and remembers between two looks; `recover.roll_out` decides.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from perdure.control.world import ServiceState, SlotState
from perdure.model.evidence import MEASURED
from perdure.model.release import Arm, Rollout
from perdure.model.replica import State
from perdure.recover.rollout_facts import Side


def side(service: ServiceState, arm: Arm, now: float) -> Side:
    """The replicas of one release, in its slots."""
    slots = [service.slots[number] for number in arm.slots if number in service.slots]
    own = [slot for slot in slots if is_of(slot, arm) and slot.live]
    serving = [slot for slot in own if slot.serves or _stands_by(service, slot)]
    since = [_since_at(slot) for slot in serving]
    wanted = sum(number not in service.desired.drained for number in arm.slots)
    whole = len(serving) >= wanted
    # Half of them must be ill: of many, one may be so by itself.
    ranked = sorted(((_ill_s(slot, now), slot) for slot in own), key=lambda pair: -pair[0])
    half = max(0, (wanted + 1) // 2 - 1)
    ill = ranked[half] if half < len(ranked) else None
    why = next((slot.capsule.sentence for slot in slots if is_of(slot, arm) and slot.capsule is not None), "")
    if ill is not None and ill[0] > 0.0:
        shown = ill[1].conviction or ill[1].verdict
        why = shown.sentence if shown is not None else why
    return Side(
        wanted,
        len(serving),
        sum(slot.live and is_of(slot, arm) for slot in service.slots.values()),
        max(since, default=0.0) if whole else math.inf,
        convicted=sum(slot.conviction is not None for slot in own),
        failing=sum(slot.conviction is not None and slot.conviction.evidence in MEASURED for slot in own),
        ill_s=ill[0] if ill is not None else 0.0,
        ill_for=why,
    )


def deaths(service: ServiceState, arm: Arm, restarts: Mapping[tuple[str, int], int]) -> int:
    """How often replicas of a release ended by themselves, those without a successor included."""
    count = 0
    for (release, number), before in restarts.items():
        slot = service.slots.get(number)
        if release != arm.release or slot is None or not is_of(slot, arm):
            continue
        ended = slot.replica is not None and not slot.live and not slot.end_wanted
        count += slot.history.restarts - before + ended
    return count


def active(known: Side, service: ServiceState, arm: Arm) -> Side:
    """Of an active-passive service one replica is enough: the active one."""
    serving = [slot for slot in service.slots.values() if slot.serves and is_of(slot, arm)]
    since_at = max((_since_at(slot) for slot in serving), default=math.inf)
    return replace(known, wanted=1, serving=len(serving), since_at=since_at)


def rests(service: ServiceState, arm: Arm) -> bool:
    """Whether all replicas of a release that do not serve do so because somebody wanted that: they are drained, or
    restarted.
    """
    slots = [service.slots[number] for number in arm.slots if number in service.slots]
    return all(slot.serves or _rests_by_command(service, slot) for slot in slots)


def _rests_by_command(service: ServiceState, slot: SlotState) -> bool:
    if slot.slot.number in service.desired.drained or slot.end_wanted:
        return True
    starts = slot.replica is not None and slot.replica.state is State.STARTING
    return starts and not slot.history.failures


def is_of(slot: SlotState, arm: Arm) -> bool:
    """Whether the last replica in a slot was one of this release."""
    return slot.replica is not None and slot.replica.release == arm.release


def _stands_by(service: ServiceState, slot: SlotState) -> bool:
    return service.desired.service.one_active and slot.replica is not None and slot.replica.state is State.PASSIVE


def _since_at(slot: SlotState) -> float:
    return max(at for at in (slot.ready_at, slot.history.readmitted_at, 0.0) if at is not None)


def before(rollout: Rollout) -> Arm:
    """The release before, in the slots that it still has: in place, the new one takes them one after the other."""
    if not (rollout.in_place and rollout.under_way):
        return rollout.old
    return replace(rollout.old, slots=tuple(one for one in rollout.old.slots if one not in rollout.new.slots))


def troubled(service: ServiceState, number: int, arm: Arm) -> bool:
    """Whether something is wrong with the replica of a release in this slot, or it has ended by itself."""
    slot = service.slots.get(number)
    if slot is None or slot.replica is None or not is_of(slot, arm):
        return False
    return slot.verdict is not None or slot.conviction is not None or (not slot.live and not slot.end_wanted)


def _ill_s(slot: SlotState, now: float) -> float:
    """For how long a replica has been convicted, or there has been a verdict on it."""
    since = [slot.conviction.at] if slot.conviction is not None else []
    if slot.verdict is not None and slot.verdict_since_at is not None and slot.serves:
        since.append(slot.verdict_since_at)
    return max((now - at for at in since), default=0.0)
