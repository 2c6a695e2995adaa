"""Rollouts as the API tells them, for the tests of the command line."""

from typing import Any

STEPS = [
    {"share": 0.05, "for_s": 60.0},
    {"share": 0.25, "for_s": 60.0},
    {"share": 0.5, "for_s": 120.0},
    {"share": 0.9, "for_s": 600.0},
]
COMPARED = {"requests": 1234.0, "failures": 2.0, "requests_before": 3801.0, "failures_before": 5.0, "evidence": 1.38}
WHY = "web@7 fails 31 of 212 requests, web@6 2 of 688: less than 1 : 1,000,000 that chance did this"


def rollout(**other: Any) -> dict[str, Any]:
    """One that starts; `other` is what is different about it."""
    return {
        "number": 3,
        "release": "web@7",
        "before": "web@6",
        "strategy": "canary",
        "phase": "starting",
        "under_way": True,
        "step": 0,
        "steps": STEPS,
        "share": 0.0,
        "attempt": 1,
        "since_s": 18.0,
        "waits_for": "1 of 2 new replicas answer their checks",
        "slots": ["web/3"],
        "compared": {},
        "numbers": {},
        "ended_for": "",
        "capsule": [],
        "observe": False,
        "back": False,
        "message": "",
        "group": [],
        "began_at": 1_700_000_000.0,
        "ended_at": None,
        "failed": False,
        "result": "under way",
    } | other


def sharing(step: int = 2, **other: Any) -> dict[str, Any]:
    """One that is in this step, counted from 1."""
    share = STEPS[step - 1]["share"]
    known = {"phase": "sharing", "step": step, "share": share, "compared": COMPARED, "waits_for": "42 more seconds"}
    return rollout(**known | other)


def done(**other: Any) -> dict[str, Any]:
    """One whose release has all the traffic."""
    ended = {"phase": "watching", "under_way": False, "result": "done", "step": 4, "share": 1.0}
    return rollout(**ended | {"ended_at": 1_700_000_842.0, "compared": COMPARED, "waits_for": ""} | other)


def rolled_back(**other: Any) -> dict[str, Any]:
    """One whose release was thrown out, and nobody has acknowledged it."""
    ended = {"phase": "rolled back", "under_way": False, "result": "rolled back", "step": 2, "failed": True}
    told = {"numbers": {"requests": 212.0, "failures": 31.0, "e-value": 1e6}, "ended_for": WHY, "waits_for": ""}
    capsule = ["Traceback", *(f"  frame {number}" for number in range(10)), "\x1b[31mKeyError\x1b[0m \x07"]
    return rollout(**ended | told | {"ended_at": 1_700_000_016.0, "capsule": capsule} | other)


def going_back(**other: Any) -> dict[str, Any]:
    """One whose release is thrown out just now."""
    return rolled_back(**{"phase": "going back", "waits_for": "1 of its replicas still end"} | other)


def aborted(**other: Any) -> dict[str, Any]:
    """One that somebody ended."""
    ended = {"phase": "aborted", "result": "aborted", "failed": False, "ended_for": "somebody aborted it"}
    return rolled_back(**ended | {"numbers": {}, "capsule": []} | other)
