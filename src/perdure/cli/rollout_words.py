"""A rollout in words: where it is, what it waits for, and what became of it; one sentence each.

Pure functions of the API's document, for the lines of `deploy` without a terminal, for `status` and `explain`, and for
the pictures of `rollout_view`. What a release or a test wrote is made harmless here.
"""

import re
from collections.abc import Mapping
from typing import Any

from perdure.cli import terminal

Document = Mapping[str, Any]

VERDICT_AT = 6.9
"""ln 1000: evidence (ln E) that convicts the new release."""
GOING_BACK = "going back"
_FRESH_S = 0.3
"""For so long after a step what it waits for may still be what the step before waited for."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def service(rollout: Document) -> str:
    """`web` of a rollout of `web@7`."""
    return str(rollout["release"]).rpartition("@")[0]


def is_over(rollout: Document) -> bool:
    """Whether nothing is left to be waited for: the new release has all the traffic, or nothing of it runs any more."""
    return str(rollout["result"]) != "under way" and str(rollout["phase"]) != GOING_BACK


def is_fresh(rollout: Document) -> bool:
    """Whether its step began so shortly ago that what it waits for is not known yet."""
    return not is_over(rollout) and float(rollout.get("since_s") or 0.0) < _FRESH_S


def stage(rollout: Document) -> tuple[object, ...]:
    """Equal for two looks at a rollout between which nothing happened but that time went by and numbers grew."""
    waits = _NUMBER.sub("#", str(rollout.get("waits_for") or ""))
    return (rollout["number"], rollout["phase"], rollout["step"], rollout["attempt"], rollout["ended_for"], waits)


def sentence(rollout: Document) -> str:
    """Where it is, or what became of it."""
    release, before, why = str(rollout["release"]), str(rollout["before"]), reason(rollout)
    match str(rollout["phase"]), str(rollout["result"]):
        case "recalled", _:
            return f"{release} has turned bad: {before} gets a share again, to compare"
        case _, "under way":
            what = "is brought back" if rollout.get("back") else "is deployed"
            return "; ".join(filter(None, (f"{release} {what}: {_has(rollout)}", waits_for(rollout))))
        case "watching", _:
            return f"{release} has all the traffic"
        case "done", _:
            return f"{release} has all the traffic, and stays"
        case "going back", _:
            return f"{release} goes back to {before}: {why}"
        case _, "aborted":
            return f"{release} was aborted, and {before} serves: {why}"
    return f"{release} was rolled back to {before}: {why}"


def colour(rollout: Document) -> str:
    """The colour of `sentence`."""
    match str(rollout["phase"]), str(rollout["result"]):
        case "recalled", _:
            return "yellow"
        case _, "under way":
            return "cyan"
        case _, "rolled back":
            return "bold red"
        case _, "aborted":
            return "yellow"
    return "green"


def observed(rollout: Document) -> str:
    """The verdict on a rollout that is only observed; empty: there is none."""
    spared = rollout.get("observe") and rollout["result"] in ("under way", "done")
    return f"only observed; it would have been rolled back: {reason(rollout)}" if spared and reason(rollout) else ""


def reason(rollout: Document) -> str:
    """Why it was rolled back or aborted."""
    return terminal.harmless(str(rollout.get("ended_for") or ""))


def waits_for(rollout: Document) -> str:
    """What it waits for now."""
    return terminal.harmless(str(rollout.get("waits_for") or ""))


def compared(rollout: Document) -> str:
    """How often both releases failed while they were compared; empty: they were not."""
    counts = rollout.get("compared") or {}
    if not counts.get("requests"):
        return ""
    new, old = (_failed(counts, arm) for arm in ("", "_before"))
    return f"{rollout['release']} failed {new} requests, {rollout['before']} {old}"


def numbers(rollout: Document) -> str:
    """The numbers behind the last verdict; empty: there was none that rests on numbers."""
    return ", ".join(f"{name} {figure(value)}" for name, value in (rollout.get("numbers") or {}).items())


def figure(value: float) -> str:
    """Write a number for people: `1,234`, `0.0123`, `3,215.4`."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100.0 else f"{value:.3g}"


def _failed(counts: Document, arm: str) -> str:
    return f"{counts[f'failures{arm}']:,.0f} of {counts[f'requests{arm}']:,.0f}"


def _has(rollout: Document) -> str:
    """What the new release has of the traffic, and at which step."""
    tried = ", second attempt" if int(rollout["attempt"]) > 1 else ""
    if not rollout["share"]:
        return f"no traffic yet{tried}"
    of = "replicas" if rollout["strategy"] == "rolling" else "requests"
    return f"{rollout['share']:.0%} of the {of}, step {rollout['step']} of {len(rollout['steps'])}{tried}"
