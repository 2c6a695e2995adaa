"""How systemd spells times, sizes, counts and signals, and which key of Perdure means the same.

Each rule turns the text of one setting into what the file would hold; None when there is no equal. Used by `unit`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from perdure.config import units

_TIME = re.compile(
    r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *"
    r"(usec|us|msec|ms|sec|s|seconds?|minutes?|min|m|hours?|hr|h|days?|d)?(?: +|(?=[0-9])|$)"
)
_TIME_UNITS_S = {"u": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)")
_SIZE_UNITS = {"": "B", "K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a setting goes: section and key of the service, and how its value is converted."""

    section: str
    key: str
    convert: Callable[[str], str | int | None]


def duration(value: str) -> str | None:
    """Turn `5min 20s`, `90` (seconds) or `100ms` into a duration of the file; None for `infinity` and the like."""
    text, position, seconds = value.strip(), 0, 0.0
    while position < len(text):
        found = _TIME.match(text, position)
        if found is None:
            return None
        seconds += float(found[1]) * _unit_s(found[2] or "s")
        position = found.end()
    return units.duration_text(seconds) if text else None


def size(value: str) -> str | None:
    """Turn `512M` (of 1024 each) into a size of the file; None for percentages and `infinity`."""
    found = _SIZE.fullmatch(value.strip())
    return f"{found[1]}{_SIZE_UNITS[found[2]]}" if found else None


def count(value: str) -> int | None:
    """Turn `1024:65536` into the larger (hard) limit; None for `infinity`."""
    parts = value.strip().split(":")
    if not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        return None
    return max(int(part) for part in parts)


RULES: dict[str, Rule] = {
    "RestartSec": Rule("restart", "backoff", duration),
    "RestartMaxDelaySec": Rule("restart", "backoff_max", duration),
    "TimeoutStartSec": Rule("restart", "start_timeout", duration),
    "TimeoutStopSec": Rule("restart", "stop_timeout", duration),
    "KillSignal": Rule("restart", "stop_signal", str),
    "WatchdogSec": Rule("heartbeat", "every", duration),
    "LimitNOFILE": Rule("limits", "open_files", count),
    "MemoryMax": Rule("limits", "memory", size),
    "MemoryLimit": Rule("limits", "memory", size),
}
"""Setting of the unit -> its place here; of two with the same place the first one wins."""


def _unit_s(name: str) -> float:
    short = "ms" if name.startswith("ms") else name[0]
    return _TIME_UNITS_S[short]
