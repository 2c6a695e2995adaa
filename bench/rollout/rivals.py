"""The rules by which other tools roll back a release, as their documentation gives them, on a stream of requests.

Their rules, not their code: what they look at, how often, and what they do. What their pages leave open is read in
their favour: the metrics see every request at once, a decision moves the traffic at once, and only requests of the new
release are measured.

Flagger: https://docs.flagger.app/tutorials/istio-progressive-delivery (analysis: interval 1m, threshold 5, maxWeight
50, stepWeight 10), https://docs.flagger.app/usage/metrics (request-success-rate at least 99 %, request-duration p99 at
most 500 ms, both over 1m) and https://docs.flagger.app/usage/deployment-strategies (a failed check halts the
advancement and is counted; a rollback takes interval x threshold). A check without any request fails, too:
https://github.com/fluxcd/flagger/issues/883.

Argo Rollouts: https://raw.githubusercontent.com/argoproj/argo-rollouts/v1.10.0/docs/features/analysis.md, "Background
Analysis" (setWeight 20, 40, 60, 80 with pauses of 10m; from the second weight on a success rate of at least 0.95 is
measured every 5m; failureLimit 3). Its text says that the third failed measurement ends the rollout, which is taken
here; in its logs one more than the limit does (https://github.com/argoproj/argo-rollouts/issues/1411). The query is
`irate`, which looks at the last two samples: one minute apart by Prometheus's default. Without any request there is no
result, and no failure.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """One request, and what would become of it at either release; times in seconds from the first traffic."""

    at: float
    draw: float
    """In [0, 1): the new release gets it when this is below its share."""
    fails_new: bool
    fails_old: bool
    ms_new: float = 0.0
    ms_old: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a rollout."""

    moves: tuple[tuple[float, float], ...]
    """(instant, new share of the new release)."""
    requests_new: int
    failed_new: int
    failed_old: int
    rolled_back_at: float | None = None
    promoted_at: float | None = None
    """When the new release got everything for good."""


@dataclass(frozen=True, slots=True)
class Flagger:
    """Its settings, named as in its documentation; times in seconds."""

    interval_s: float = 60.0
    threshold: int = 5
    max_weight: int = 50
    step_weight: int = 10
    success_rate_min: float = 99.0
    duration_p99_max_ms: float = 500.0
    metrics_interval_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Argo:
    """Its settings, named as in its documentation; times in seconds."""

    weights: tuple[int, ...] = (20, 40, 60, 80)
    pause_s: float = 600.0
    starting_step: int = 1
    """Index of the weight with which the analysis begins."""
    interval_s: float = 300.0
    success_min: float = 0.95
    failure_limit: int = 3
    samples_apart_s: float = 60.0


def flagger(requests: Iterable[Request], rules: Flagger = Flagger()) -> Outcome:
    """Play Flagger's rules on requests in the order of time."""
    return _play(requests, _FlaggersWay(rules), rules.metrics_interval_s)


def argo(requests: Iterable[Request], rules: Argo = Argo()) -> Outcome:
    """Play Argo Rollouts' rules on requests in the order of time."""
    return _play(requests, _ArgosWay(rules), rules.samples_apart_s)


class _Way(Protocol):
    """How a tool proceeds: the share it gives now, and when it looks next (infinity: never again)."""

    share: float
    look_at: float
    rolled_back: bool

    def look(self, seen: Sequence[Request]) -> None:
        """Decide, given the requests that the new release got in the window before `look_at`."""


def _play(requests: Iterable[Request], way: _Way, window_s: float) -> Outcome:
    moves = [(0.0, way.share)]
    seen: deque[Request] = deque()
    requests_new = failed_new = failed_old = 0
    for one in requests:
        while way.look_at <= one.at:
            _look(way, seen, window_s, moves)
        if one.draw < way.share:
            requests_new, failed_new = requests_new + 1, failed_new + one.fails_new
            if way.look_at < math.inf:
                seen.append(one)
        else:
            failed_old += one.fails_old
    last_at, share = moves[-1]
    rolled_back_at = last_at if way.rolled_back else None
    return Outcome(
        tuple(moves), requests_new, failed_new, failed_old, rolled_back_at, last_at if share >= 1.0 else None
    )


def _look(way: _Way, seen: deque[Request], window_s: float, moves: list[tuple[float, float]]) -> None:
    now, before = way.look_at, way.share
    while seen and seen[0].at < now - window_s:
        seen.popleft()
    way.look(seen)
    if way.share != before:
        moves.append((now, way.share))


class _FlaggersWay:
    """Every interval: a check fails, or the weight grows; after the largest one the new release is promoted."""

    def __init__(self, rules: Flagger) -> None:
        self._rules = rules
        self._weight = rules.step_weight
        self._failed = 0
        self.share = self._weight / 100
        self.look_at = rules.interval_s
        self.rolled_back = False

    def look(self, seen: Sequence[Request]) -> None:
        """One run of the analysis."""
        self.look_at += self._rules.interval_s
        if not self._passes(seen):
            self._failed += 1
            if self._failed >= self._rules.threshold:
                self.share, self.look_at, self.rolled_back = 0.0, math.inf, True
        elif self._weight >= self._rules.max_weight:
            self.share, self.look_at = 1.0, math.inf
        else:
            self._weight = min(self._rules.max_weight, self._weight + self._rules.step_weight)
            self.share = self._weight / 100

    def _passes(self, seen: Sequence[Request]) -> bool:
        if not seen:
            return False
        good = sum(not one.fails_new for one in seen)
        times = sorted(one.ms_new for one in seen)
        p99_ms = times[math.ceil(0.99 * len(times)) - 1]
        return 100.0 * good / len(seen) >= self._rules.success_rate_min and p99_ms <= self._rules.duration_p99_max_ms


class _ArgosWay:
    """Weights grow with the clock, whatever is measured; the analysis runs beside them."""

    def __init__(self, rules: Argo) -> None:
        self._rules = rules
        self._failed = 0
        self._index = 0
        self._grow_at = rules.pause_s
        self._measure_at = rules.starting_step * rules.pause_s
        self.share = rules.weights[0] / 100
        self.look_at = min(self._grow_at, self._measure_at)
        self.rolled_back = False

    def look(self, seen: Sequence[Request]) -> None:
        """A measurement, the next weight, or both, the measurement first."""
        now = self.look_at
        if now >= self._measure_at:
            self._measure_at += self._rules.interval_s
            self._failed += bool(seen) and _success(seen) < self._rules.success_min
        if self._failed >= self._rules.failure_limit:
            self.share, self.look_at, self.rolled_back = 0.0, math.inf, True
            return
        if now >= self._grow_at:
            self._grow_at += self._rules.pause_s
            self._index += 1
            if self._index == len(self._rules.weights):
                self.share, self.look_at = 1.0, math.inf
                return
            self.share = self._rules.weights[self._index] / 100
        self.look_at = min(self._grow_at, self._measure_at)


def _success(seen: Sequence[Request]) -> float:
    return sum(not one.fails_new for one in seen) / len(seen)
