"""What would change the verdict on a slot, in words: which observation convicts or clears it, and what readmits it.

`status` shows it for each piece of evidence, for `perdure explain`; what decides is `detect`.
"""

from typing import Any

from perdure.control.world import ServiceState, SlotState
from perdure.detect import digest, heartbeat, probe, process, readmit, suspect
from perdure.model.evidence import MEASURED, EvidenceClass
from perdure.model.replica import State


def changes_with(service: ServiceState, slot: SlotState, one: suspect.Suspicion, now: float) -> str:
    """The observation that would change what one class of evidence says: convict, or speak for the replica again."""
    belief, rules = slot.belief, service.rules_of(slot)
    match one.evidence:
        case EvidenceClass.HEARTBEAT:
            return _beat(belief, now, rules)
        case EvidenceClass.PROCESS:
            if belief.kernel.stopped_since_at is not None or belief.kernel.blocked_since_at is not None:
                return "it runs again"
            return f"stopped for {process.STOPPED_CONVICTS_S:g} s"
        case EvidenceClass.LIMIT:
            return _limit(belief, rules)
        case EvidenceClass.DIGEST:
            apart = belief.compared.apart
            return "agrees with its peers" if apart else f"apart {digest.ROUNDS} rounds in a row"
        case EvidenceClass.STALL:
            return "answers one request"
    own = ", if its own" if one.evidence in MEASURED else ""
    return f"{one.bad_to_convict} bad in a row{own}" if one.bad_to_convict is not None else ""


def readmission(service: ServiceState, slot: SlotState, now: float) -> dict[str, Any] | None:
    """What readmits an isolated slot; None when it is not isolated for evidence against it."""
    conviction, rules = slot.conviction, service.rules_of(slot)
    if slot.replica is None or slot.replica.state is not State.ISOLATED or conviction is None:
        return None
    left = readmit.remaining(slot.belief, conviction, slot.history.relapses, now, rules)
    return {
        "evidence": conviction.evidence.value,
        "endpoint": conviction.endpoint,
        "hold_down_s": round(left.hold_down_s, 3),
        "good_answers": dict(left.goods),
        "sentence": _readmitted(left),
    }


def _beat(belief: suspect.Belief, now: float, rules: suspect.Policy) -> str:
    every = rules.service.heartbeat
    if every is None or not belief.told.count:
        return "a beat"
    left_s = heartbeat.convicts_at(belief.told, every.every_s, rules.heartbeat_limit) - now
    return f"a beat within {left_s:.1f} s" if left_s > 0.0 else "a beat"


def _limit(belief: suspect.Belief, rules: suspect.Policy) -> str:
    holdings, memory_bytes = belief.holdings, rules.service.limits.memory_bytes
    if memory_bytes is not None and belief.kernel.memory_over:
        return f"below {memory_bytes / 1e6:.0f} MB"
    if holdings.backlog_full_since_at is not None:
        return "it accepts connections"
    if holdings.descriptors_full:
        return "it closes descriptors"
    above = f"above {memory_bytes / 1e6:.0f} MB, or " if memory_bytes is not None else ""
    return f"{above}backlog full for {probe.PAUSE_TOLERATED_S:g} s"


def _readmitted(left: readmit.Remaining) -> str:
    needed = [
        f"{number} more good answer{'s' if number > 1 else ''} to {label}" for label, number in left.goods.items()
    ]
    needed += [left.evidence] if left.evidence else []
    needed += [f"{left.hold_down_s:.1f} s of hold-down"] if left.hold_down_s > 0.0 else []
    if left.verdict is not None:
        needed.append(f"an end of what convicts it now ({left.verdict.sentence})")
    return f"is readmitted after {', '.join(needed)}" if needed else "is readmitted at the next look"
