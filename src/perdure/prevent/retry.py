"""The retry budget: retries hide single failures, and must never finish off a service that is overloaded.

Over the last 10 s, retries may be at most a share of the requests (20 % by default), plus a few that are always
allowed, so that a service with little traffic can retry at all. Above it HAProxy's L7 retries are switched off; they
come back when the service has kept within half of the budget for a while. Failed connections are always retried
elsewhere.
"""

from dataclasses import dataclass

SPAN_S = 10.0
ALWAYS_ALLOWED = 30
"""Retries in the span that need no requests to pay for them."""
OFF_S_MIN = 5.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Requests and retries of one service over the last `SPAN_S`, and since when retries are switched off."""

    requests: int
    retries: int
    off_since_at: float | None = None


def allowed(spent: Spent, budget: float, now: float) -> bool:
    """Whether requests may be retried; `budget` is a share of the requests, 0 to 1."""
    limit = budget * spent.requests + ALWAYS_ALLOWED
    if spent.off_since_at is None:
        return spent.retries <= limit
    return now - spent.off_since_at >= OFF_S_MIN and spent.retries <= limit / 2.0
