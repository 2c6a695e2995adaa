"""What somebody means by `--to`: a marker, a snapshot, how long ago, or a time; and the snapshot of that moment."""

import re
from collections.abc import Sequence
from datetime import datetime

from perdure.model.errors import ConfigError, UnavailableError
from perdure.model.snapshot import Kept
from perdure.prevent import snapshot

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
FORMS = "a marker, a snapshot (s-0193), how long ago (14m, 2h, 3d), or a time (2026-11-25 21:50)"


def find(kept: Sequence[Kept], to: str, wall: float, service: str) -> Kept:
    """The snapshot with that name or id, or else the owner's newest one of that moment or before.

    A time without a zone is one of this machine's. `wall`: Unix time now. ConfigError when `to` is nothing of all that,
    UnavailableError when no snapshot is so old."""
    hint = f"perdure snapshot list {service}"
    named = next((one for one in kept if to in one.marks or to == one.manifest.id), None)
    if named is not None:
        return named
    if re.fullmatch(r"s-\d+", to):
        raise UnavailableError(f"there is no snapshot {to} of {service}", hint)
    at = _moment(to, wall)
    if at is None:
        names = ", ".join(sorted({mark for one in kept for mark in one.marks})) or "none"
        raise ConfigError(f"{to!r} is no marker of {service} (there are: {names}), and no moment", f"say {FORMS}")
    before = [one for one in kept if one.manifest.taken_at <= at and not snapshot.aside(one)]
    if not before:
        raise UnavailableError(f"no snapshot of {service} is from {to} or before", hint)
    return max(before, key=lambda one: (one.manifest.taken_at, one.manifest.id))


def _moment(to: str, wall: float) -> float | None:
    ago = _AGO.fullmatch(to)
    if ago is not None:
        return wall - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        return datetime.fromisoformat(to).timestamp()
    except ValueError:
        return None
