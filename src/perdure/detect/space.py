"""Room on the disk that a service writes to (evidence class E4): how much is left, and for how long.

A full disk is a fault of the host, shared by all replicas on it, and a restart frees nothing; so it convicts nobody and
is told, early enough to do something about it. A replica that alone fails for it (a volume, a quota of its own) is
found by what its clients get.
"""

from dataclasses import dataclass, field

from perdure.detect import forecast
from perdure.model.evidence import Space

FULL_SHARE = 0.02
"""So little left counts as full: programs reserve, and file systems become slow."""
SOON_S = 3600.0


@dataclass(frozen=True, slots=True)
class Filled:
    """The last look, and the trend of the bytes in use."""

    last: Space | None = None
    trend: forecast.Trend = field(default_factory=forecast.Trend)


def observe(before: Filled, space: Space, at: float) -> Filled:
    """Add one look."""
    return Filled(space, forecast.observe(before.trend, at, space.total_bytes - space.free_bytes))


def sentence(filled: Filled, path: str) -> str:
    """What to tell of the disk at `path`; empty while there is room."""
    last = filled.last
    if last is None or last.total_bytes <= 0:
        return ""
    share = last.free_bytes / last.total_bytes
    left = f"{share:.1%} ({last.free_bytes / 1e6:,.0f} MB) left"
    if share <= FULL_SHARE:
        return f"the disk of {path} is full: {left}"
    if last.total_files > 0 and last.free_files <= FULL_SHARE * last.total_files:
        return f"the disk of {path} has no inodes left: {last.free_files:,} of {last.total_files:,}"
    full_s = forecast.full_in_s(filled.trend, last.total_bytes)
    if full_s is not None and full_s <= SOON_S:
        return f"the disk of {path} will be full in {full_s / 60:.0f} min: {left}"
    return ""
