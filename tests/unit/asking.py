"""A replica that is silent for a while, asked as the monitor asks: ordinary probes, and a burst after the first miss.

The schedule is that of `control.monitor`, driven by the same functions of `detect.probe`, without its tasks.
"""

import heapq
import itertools

from perdure.detect import probe
from perdure.model.check import Check
from perdure.model.evidence import Outcome, Probed

LATENCY_S = 0.003


def convicted_at(
    check: Check, limit: float, first_at: float, silent: tuple[float, float], until_at: float
) -> float | None:
    """When the replica is convicted; it answers nothing during `silent`, and then all that still waits."""
    asked = probe.Asked(check.label)
    numbers = itertools.count()
    queue = [(first_at, next(numbers), "ask", first_at, Outcome.GOOD)]
    while queue and queue[0][0] <= until_at:
        now, _, what, started_at, outcome = heapq.heappop(queue)
        if what != "ask" and what != "burst":
            asked = probe.observe(asked, Probed("web/1#1", check.label, started_at, now, outcome))
            if what == "asked":
                if probe.wants_burst(asked):
                    for number in range(probe.BURST):
                        heapq.heappush(
                            queue, (now + number * probe.BURST_SPACING_S, next(numbers), "burst", now, outcome)
                        )
                next_at = max(started_at + probe.interval_s(check, asked, False, 0.0), now + probe.SPACING_S_MIN)
                heapq.heappush(queue, (next_at, next(numbers), "ask", next_at, Outcome.GOOD))
        else:
            timeout_s = check.timeout_s if what == "ask" else min(check.timeout_s, probe.BURST_TIMEOUT_S)
            ended_at, outcome = _answer(now, timeout_s, silent)
            heapq.heappush(queue, (ended_at, next(numbers), "asked" if what == "ask" else "burst asked", now, outcome))
        soonest_at = queue[0][0] if queue else until_at
        for at in (now, probe.silence_convicts_at(asked)):
            if now <= at <= soonest_at and probe.judge(asked, at, limit) is not None:
                return at
    return None


def _answer(started_at: float, timeout_s: float, silent: tuple[float, float]) -> tuple[float, Outcome]:
    from_at, to_at = silent
    answered_at = started_at + LATENCY_S
    if from_at <= answered_at and started_at < to_at:
        answered_at = max(answered_at, to_at + LATENCY_S)
    if answered_at > started_at + timeout_s:
        return started_at + timeout_s, Outcome.TIMEOUT
    return answered_at, Outcome.GOOD
