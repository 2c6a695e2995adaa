"""Releases and rollouts as JSON documents, for the API: `status`, `deploy --status`, `releases`, `diff`. Pure."""

from typing import Any

from perdure.control import contest
from perdure.control.world import ServiceState
from perdure.model.release import Phase, Release, Rollout
from perdure.model.standing import Desired


def told(service: ServiceState, now: float) -> dict[str, Any] | None:
    """The last rollout of a service and where it is now; None: there never was one."""
    rollout = service.desired.rollout
    if rollout is None:
        return None
    figures = contest.figures(service.contest, rollout)
    return {
        "number": rollout.number,
        "release": rollout.new.release,
        "before": rollout.old.release,
        "strategy": rollout.strategy.value,
        "phase": rollout.phase.value,
        "under_way": rollout.under_way,
        "step": rollout.step + 1,
        "steps": [{"share": step.share, "for_s": step.for_s} for step in rollout.steps],
        "share": rollout.share,
        "attempt": rollout.attempt,
        "since_s": round(max(0.0, now - rollout.phase_at), 3),
        "waits_for": service.rollout_waits_for,
        "slots": [f"{service.name}/{number}" for number in rollout.new.slots or _last_in(service, rollout.new.release)],
        "compared": dict(figures),
        "numbers": dict(rollout.numbers),
        "ended_for": rollout.ended_for,
        "capsule": list(rollout.capsule),
        "observe": rollout.observe,
        "back": rollout.back,
        "message": rollout.message,
        "group": list(rollout.group),
        "began_at": rollout.began_wall,
        "ended_at": rollout.ended_wall,
        "failed": rollout.failed,
        "result": result(rollout),
    }


def _last_in(service: ServiceState, release: str) -> list[int]:
    """Slots in which nothing ran after a release: their logs end with what it wrote."""
    slots = sorted(service.slots.items())
    return [number for number, slot in slots if slot.replica is not None and slot.replica.release == release]


def result(rollout: Rollout) -> str:
    """What came of it, in one word: `under way`, `done`, `rolled back` or `aborted`."""
    if rollout.undecided:
        return "under way"
    if rollout.phase.value in ("watching", "recalled", "done"):
        return "done"
    return "aborted" if rollout.aborted else "rolled back"


def role(release: str, desired: Desired) -> str:
    """What a release is to its service now: `serves`, `on trial`, `stands by`, or nothing."""
    if release == desired.release:
        return "serves"
    if desired.other is None or desired.other.release != release:
        return ""
    return "on trial" if desired.rollout is not None and desired.rollout.under_way else "stands by"


def listed(release: Release, service: ServiceState | None) -> dict[str, Any]:
    """One release in a list: nothing of its environment."""
    desired = service.desired if service is not None else None
    return {
        "release": release.name,
        "made_at": release.made_at,
        "message": release.message,
        "command": list(release.service.command),
        "files": release.files[:12],
        "state": role(release.name, desired) if desired is not None else "",
        "verdict": release.verdict or _taken_back(release, desired.rollout if desired is not None else None),
    }


def _taken_back(release: Release, rollout: Rollout | None) -> str:
    """Why the last rollout took a release back by command, which is no verdict on it."""
    if rollout is None or rollout.new.release != release.name or not rollout.ended_for:
        return ""
    return rollout.ended_for if rollout.phase in (Phase.GOING_BACK, Phase.ROLLED_BACK, Phase.ABORTED) else ""
