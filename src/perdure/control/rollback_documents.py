"""What the API says of going back: a plan with what it would cost, and the last rollback for `status`."""

from dataclasses import dataclass
from typing import Any

from perdure.control.world import ServiceState
from perdure.model import codec
from perdure.model.rollback import Outcome, Rollback, undoable
from perdure.model.snapshot import Loss

PLAN_LASTS_S = 1800.0
"""So long may somebody think about what would be lost."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found, and what would be done; `rollback` lacks its safety snapshot yet."""

    rollback: Rollback
    token: str
    loss: Loss
    taken_at: float
    """Of the snapshot, or of when the state that is gone back to was replaced (Unix time)."""
    made_at: float
    """Monotonic."""


def document(name: str, plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    rollback = plan.rollback
    return {
        "service": name,
        "token": plan.token,
        "rollback": rollback.name,
        "undoes": f"r{rollback.undoes}" if rollback.undoes is not None else None,
        "snapshot": rollback.base if rollback.undoes is None else None,
        "taken_at": plan.taken_at,
        "loss": codec.encode(plan.loss),
        "undo_until": rollback.undo_until,
        "lasts_s": PLAN_LASTS_S,
    }


def told(service: ServiceState, wall: float) -> dict[str, Any] | None:
    """What `status` says of the last rollback; None when there was none."""
    last = service.desired.rollback
    if last is None:
        return None
    can = next(iter(undoable(service.desired.rollbacks, wall)), None) if last.outcome is not Outcome.OPEN else None
    return {
        "name": last.name,
        "outcome": last.outcome.value,
        "target": last.target,
        "undoes": f"r{last.undoes}" if last.undoes is not None else None,
        "at": last.at,
        "safety": last.safety or None,
        "undo": f"r{can.number}" if can is not None else None,
        "undo_s": round(can.undo_until - wall, 3) if can is not None else None,
        "kept": can.outgoing if can is not None else None,
        "rescued": last.rescued,
    }
