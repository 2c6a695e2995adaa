"""From a parsed TOML document to the checked sections, with every problem at once.

pydantic stops at the keys; the relations between keys (`relations`) still have to be checked when some keys are
wrong, or the user would correct one half of the file to be shown the other. So what is wrong is cut out of a copy,
the rest is read again, and each relation is checked where all its keys are sound. `load` calls this; `explain` words
what pydantic found.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from perdure.config import explain, schema
from perdure.config.explain import Location
from perdure.model.errors import Problem

_STAND_INS: dict[Location, object] = {
    ("command",): "true",
    ("heartbeat", "every"): "1s",
    ("canary", "path"): "/",
    ("state", "kind"): "files",
    ("deploy", "steps", "share"): 0.5,
    ("deploy", "steps", "for"): "0s",
}
"""For required keys of a service that are missing or wrong; no relation looks at them."""
_ITEMS: dict[Location, dict[str, object]] = {
    ("check",): {"tcp": True},
    ("deploy", "steps"): {"share": 0.5, "for": "0s"},
    ("deploy", "test"): {"command": "true"},
}
"""For tables in lists that are none; they keep the places of the others."""
_DEPTH_MAX = 8  # down to the tables in `deploy.test[0].expect`; deeper values are never changed, so they need no copy


@dataclass(frozen=True, slots=True)
class Reading:
    """A document as far as it could be read: `failed` are the locations whose values are only stand-ins or defaults."""

    raw: dict[str, Any]
    document: schema.Document
    failed: frozenset[Location]

    def sound(self, *location: str | int) -> bool:
        """Tell whether the value at this location, and everything above and below it, was read without a problem."""
        return not any(one[: len(location)] == location or location[: len(one)] == one for one in self.failed)


def read(raw: dict[str, Any]) -> tuple[Reading, list[Problem]]:
    """Read all sections; the problems are those of single keys."""
    try:
        return Reading(raw, schema.Document.model_validate(raw), frozenset()), []
    except ValidationError as error:
        found = list(explain.problems(error, raw))
    failed = frozenset(location for location, _ in found)
    rest = schema.Document.model_validate(_without(raw, failed))
    return Reading(raw, rest, failed), [problem for _, problem in found]


def _without(raw: dict[str, Any], failed: Iterable[Location]) -> dict[str, Any]:
    copy = _copied(raw, _DEPTH_MAX)
    assert isinstance(copy, dict)
    for location in sorted(failed, key=len, reverse=True):
        parent = explain.value_at(copy, location[:-1])
        key = location[-1]
        # The name of the service and the places in lists are left out.
        names = tuple(part for part in location[2:] if isinstance(part, str)) if location[0] == "service" else ()
        if isinstance(parent, dict):
            parent.pop(key, None)
            if names in _STAND_INS:
                parent[key] = _STAND_INS[names]
        elif isinstance(parent, list) and isinstance(key, int):
            parent[key] = dict(_ITEMS[names])
    return copy


def _copied(value: object, depth: int) -> object:
    if depth and isinstance(value, dict):
        return {key: _copied(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list):
        return [_copied(item, depth - 1) for item in value]
    return value
