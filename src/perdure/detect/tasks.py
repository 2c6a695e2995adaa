"""Threads and processes that may still be started (evidence class E4): how many are left, and for how long.

The limit is that of a control group or a user, so it strikes all replicas there, and each of them where it needs a new
thread next; a restart of one frees only its own. So it convicts nobody and is told in time. A replica that alone fails
for it is found by what its clients get.
"""

from dataclasses import dataclass, field

from perdure.detect import forecast
from perdure.model.evidence import Tasks

FULL_SHARE = 0.95
SOON_S = 3600.0


@dataclass(frozen=True, slots=True)
class Started:
    """The last look, and the trend of what is used."""

    last: Tasks | None = None
    trend: forecast.Trend = field(default_factory=forecast.Trend)


def observe(before: Started, tasks: Tasks, at: float) -> Started:
    """Add one look."""
    return Started(tasks, forecast.observe(before.trend, at, tasks.used))


def sentence(started: Started) -> str:
    """What to tell; empty while there is room."""
    last = started.last
    if last is None or last.limit <= 0:
        return ""
    held = f"{last.whose} has {last.used:,} of {last.limit:,} threads and processes"
    if last.used >= FULL_SHARE * last.limit:
        return f"{held}: no more can be started soon"
    full_s = forecast.full_in_s(started.trend, last.limit)
    if full_s is not None and full_s <= SOON_S:
        return f"{held}, and will have all in {full_s / 60:.0f} min"
    return ""
