"""What HAProxy is to carry for a service: which replicas, in which state, and how much each weighs. Pure.

`agent` asks it each time that something changed; `carry` brings it about. While two releases share the traffic, the
weights of their replicas are what makes the shares, and HAProxy deals requests out exactly by weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from perdure.control.world import ServiceState, SlotState
from perdure.detect import suspect
from perdure.model.check import Check, CheckKind
from perdure.model.release import ENDED, Phase, Rollout
from perdure.model.replica import SERVING, State
from perdure.model.service import Service
from perdure.model.standing import Desired
from perdure.model.traffic import WEIGHT, Admin
from perdure.prevent import balance


@dataclass(frozen=True, slots=True)
class Cargo:
    """What the agent wants of one service's traffic."""

    service: Service
    members: tuple[balance.Member, ...]
    retry_allowed: bool = True
    epoch: int = 0
    """What requests carry; 0: nothing, the service is active-active."""
    by_weight: bool = False
    """Two releases share the traffic."""


def of(service: ServiceState, now: float) -> Cargo:
    """What is wanted of a service's traffic now."""
    desired = service.desired
    weights = _weights(service)
    found = (_member(service, slot, weights, now) for slot in service.slots.values())
    members = tuple(member for member in found if member is not None)
    epoch = service.term.epoch if desired.service.one_active else 0
    return Cargo(_carried(desired), members, service.retries_off_since_at is None, epoch, desired.shares)


def _carried(desired: Desired) -> Service:
    """The service as HAProxy must know it: as many replicas as there may be, and a check that all of them pass."""
    sized = replace(desired.service, replicas=max(len(desired.slots), desired.replicas, 1))
    other = desired.other
    if other is None or other.service.asked_by_balancer == sized.asked_by_balancer:
        return sized
    return replace(sized, checks=(Check(CheckKind.TCP),))


def _weights(service: ServiceState) -> Mapping[str, int]:
    """Release -> what each of its replicas weighs, when not all weigh the same."""
    rollout = service.desired.rollout
    if rollout is None or rollout.phase in ENDED or service.desired.service.one_active:
        return {}
    new, old = _serving(service, rollout)
    if rollout.phase is Phase.GOING_BACK:
        # Until somebody of the old release serves, the new one is better than nobody.
        return {rollout.new.release: 0} if old else {}
    if rollout.in_place:
        return {}
    for_new, for_old = balance.shares(rollout.share, new, old)
    return {rollout.new.release: for_new, rollout.old.release: for_old}


def share(service: ServiceState, rollout: Rollout) -> float:
    """The share of the requests that the new release is to have, by which replicas serve."""
    new, old = _serving(service, rollout)
    if not new or not old:
        return float(new > 0)
    return new / (new + old) if rollout.in_place else rollout.share


def _serving(service: ServiceState, rollout: Rollout) -> tuple[int, int]:
    """How many replicas of the new and of the old release serve."""
    serving = [slot.replica.release for slot in service.slots.values() if slot.serves and slot.replica is not None]
    return serving.count(rollout.new.release), serving.count(rollout.old.release)


def _member(service: ServiceState, slot: SlotState, weights: Mapping[str, int], now: float) -> balance.Member | None:
    """What HAProxy must know of a slot's replica; None when nothing of it is left there. A slot that a person drained
    gets no request, not even between its replica's first good answer and the drain that follows.
    """
    replica = slot.replica
    if replica is None or slot.exited:
        return None
    if replica.state in SERVING and slot.slot.number not in service.desired.drained:
        down_at, good_at = slot.down_seen_at, suspect.good_at(slot.belief, service.rules_of(slot))
        proved = down_at is not None and good_at is not None and good_at > down_at
        readmitted_at = slot.history.readmitted_at
        tried = balance.weight(now - readmitted_at if readmitted_at is not None else None)
        weight = weights.get(replica.release, WEIGHT) * tried / WEIGHT
        return balance.Member(replica.port, Admin.READY, proved, round(weight) or min(1, int(weight > 0.0)))
    if replica.state not in (State.STARTING, State.STOPPED):
        # While it is being ended, too: what it still answers is an answer, and what its end breaks is retried.
        return balance.Member(replica.port, Admin.DRAIN)
    return None
