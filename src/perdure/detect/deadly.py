"""A request that ends whoever gets it: deaths that coincide with broken requests to the same endpoint.

Each death alone looks like a crash, and the retry that hides a crash hands the request to the next replica, which dies
as well: a service can lose all its replicas to one client. So each end that nobody planned is compared with the
requests that broke in the same instant (HAProxy logs them, with how often each was tried). An ordinary death breaks a
request to endpoint e with probability p, as many as are under way there at any time; that it did is worth ln(1 / p).
Two deaths or more that e explains, more than it does not, and a sum of ln 1000 make e suspect.

Hard cases: long or frequent requests are under way at nearly every death, and so worth nothing; one request that is
tried on three replicas leaves one line in the log, which explains up to three deaths; an endpoint that nobody ever got
an answer from has no known duration, and is taken for a quick one. What is done about it is `prevent.notice`'s and the
retry budget's: requests are not tried again for a while, so that each costs one replica at the most.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from perdure.model.verdict import Deadly

KEPT_S = 300.0
"""For so long a death is remembered."""
BEFORE_S = 0.5
AFTER_S = 2.5
"""A broken request explains a death from so long before its line to so long after; it may have been tried elsewhere."""
DEATHS_MIN = 2
CONVINCING = math.log(1000.0)
CHANCE_MIN = 0.001
ENDPOINTS_MAX = 128
BROKEN_MAX = 200
FADE_S = 300.0
COUNTED_S_MIN = 1.0
UNKNOWN_S = 0.1
"""How long a request takes to an endpoint that has answered none."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A request that got no answer: when its line was read, where it went, and how often it was tried."""

    at: float
    endpoint: str
    tries: int


@dataclass(frozen=True, slots=True)
class Load:
    """What an endpoint has been asked: faded requests and seconds of work, as of `at`, counted from `since_at` on."""

    requests: float = 0.0
    answered: float = 0.0
    busy_s: float = 0.0
    at: float = 0.0
    since_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Deaths:
    """The unplanned ends of a service's replicas, the broken requests, and what each endpoint is asked."""

    ended_at: tuple[float, ...] = ()
    broken: tuple[Broken, ...] = ()
    loads: Mapping[str, Load] = field(default_factory=dict)


def died(deaths: Deaths, at: float) -> Deaths:
    """Add an end that nobody planned."""
    ended_at = (*(one for one in deaths.ended_at if at - one < KEPT_S), at)
    return replace(deaths, ended_at=ended_at, broken=_coinciding(deaths.broken, ended_at, at))


def broke(deaths: Deaths, broken: Broken) -> Deaths:
    """Add a broken request; only those that coincide with a death, or still may, are remembered."""
    return replace(deaths, broken=_coinciding((*deaths.broken, broken), deaths.ended_at, broken.at))


def asked(loads: Mapping[str, Load], new: Mapping[str, Load], at: float) -> dict[str, Load]:
    """Add what was asked since the last call; of many endpoints the busiest are remembered."""
    found = {name: _faded(load, at) for name, load in loads.items()}
    for name, load in new.items():
        before = found.get(name, Load(since_at=at - COUNTED_S_MIN))
        found[name] = Load(
            before.requests + load.requests,
            before.answered + load.answered,
            before.busy_s + load.busy_s,
            at,
            before.since_at,
        )
    if len(found) <= ENDPOINTS_MAX:
        return found
    busiest = sorted(found, key=lambda name: found[name].requests, reverse=True)
    return {name: found[name] for name in busiest[: ENDPOINTS_MAX // 2]}


def chance(load: Load, replicas: int) -> float:
    """The probability that a request to the endpoint is under way on one of `replicas` at a given moment (Poisson, by
    Little's law), in [0.001, 1]. What fades with e^(-t / T) and was counted for t tells of T (1 - e^(-t / T)) seconds.
    """
    seen_s = FADE_S * (1.0 - math.exp(-max(COUNTED_S_MIN, load.at - load.since_at) / FADE_S))
    taken_s = load.busy_s / load.answered if load.answered > 0.0 else UNKNOWN_S
    under_way = load.requests / seen_s * taken_s / max(1, replicas)
    return max(CHANCE_MIN, 1.0 - math.exp(-under_way))


def judge(deaths: Deaths, replicas: int, now: float) -> Deadly | None:
    """The endpoint that explains the deaths of the last five minutes, if one does."""
    recent = sorted(at for at in deaths.ended_at if now - at < KEPT_S)
    if len(recent) < DEATHS_MIN:
        return None
    found: list[Deadly] = []
    for endpoint in {one.endpoint for one in deaths.broken}:
        explained = _explained([one for one in deaths.broken if one.endpoint == endpoint], recent)
        score = len(explained) * -math.log(chance(deaths.loads.get(endpoint, Load()), replicas))
        if len(explained) >= DEATHS_MIN and 2 * len(explained) > len(recent) and score >= CONVINCING:
            found.append(Deadly(endpoint, len(explained), len(recent), explained[0], score))
    return max(found, key=lambda one: (one.score, one.endpoint), default=None)


def _faded(load: Load, at: float) -> Load:
    kept = math.exp((load.at - at) / FADE_S)
    return Load(load.requests * kept, load.answered * kept, load.busy_s * kept, at, load.since_at)


def _coinciding(broken: Sequence[Broken], ended_at: Sequence[float], now: float) -> tuple[Broken, ...]:
    return tuple(
        one
        for one in broken[-BROKEN_MAX:]
        if now - one.at <= AFTER_S or any(at - BEFORE_S <= one.at <= at + AFTER_S for at in ended_at)
    )


def _explained(broken: Sequence[Broken], ended_at: Sequence[float]) -> list[float]:
    """The deaths that these requests explain: each as many as it was tried, the latest first."""
    left = list(ended_at)
    explained: list[float] = []
    for one in broken:
        near = [at for at in left if at - BEFORE_S <= one.at <= at + AFTER_S][-one.tries :]
        explained += near
        left = [at for at in left if at not in near]
    return sorted(explained)
