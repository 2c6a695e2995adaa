"""How good a detector is on a trace: detection time against mistakes (Chen, Toueg and Aguilera 2002).

After each arrival a detector names a deadline: until then the process is trusted, and then suspected until the next
arrival. A crash right after a heartbeat was sent is detected at the deadline that its arrival sets; the mean over all
heartbeats of deadline - sending is the detection time. A mistake is a suspicion that an arrival refutes.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.detectors.traces import Trace

WARM_UP = 100
"""The first arrivals are not judged, so that estimates have something to stand on."""
HALVINGS = 40
PARAMETER_MAX = 1e9

Deadlines = Sequence[float]
"""One for each arrival of a trace: until when the next is waited for."""
DeadlinesOf = Callable[[float], Deadlines]
"""A detector on one trace: its parameter -> deadlines, none earlier for a greater parameter."""
Detector = Callable[[Trace], DeadlinesOf]


@dataclass(frozen=True, slots=True)
class Quality:
    """What a detector did on a trace of `span_s` seconds."""

    detection_s: float
    mistakes: int
    mistaken_s: float
    span_s: float


def judge(trace: Trace, deadlines: Deadlines) -> Quality:
    """Count the mistakes; a deadline that had passed at the arrival itself counts from the arrival."""
    mistakes, mistaken_s = 0, 0.0
    judged = list(zip(trace.arrivals, deadlines, strict=True))[WARM_UP:]
    for (one, deadline), (following, _) in itertools.pairwise(judged):
        late_s = following.arrived_s - max(deadline, one.arrived_s)
        if late_s > 0.0:
            mistakes += 1
            mistaken_s += late_s
    span_s = judged[-1][0].arrived_s - judged[0][0].arrived_s
    return Quality(detection_s_mean(trace, deadlines), mistakes, mistaken_s, span_s)


def detection_s_mean(trace: Trace, deadlines: Deadlines) -> float:
    """Mean time from sending a heartbeat to the deadline that it sets, over the judged arrivals."""
    judged = list(zip(trace.arrivals, deadlines, strict=True))[WARM_UP:-1]
    return math.fsum(max(deadline, one.arrived_s) - one.sent_s for one, deadline in judged) / len(judged)


def at_detection_time(trace: Trace, deadlines_of: DeadlinesOf, target_s: float) -> Quality | None:
    """The quality at the parameter whose mean detection time is `target_s`, found by bisection; None: never so quick.

    A detector that moves in steps is taken at the last step below, and its deadlines are moved by what is left.
    """
    low, high = -1.0, 1.0
    while detection_s_mean(trace, deadlines_of(low)) > target_s:
        low *= 2.0
        if low < -PARAMETER_MAX:
            return None
    while detection_s_mean(trace, deadlines_of(high)) < target_s:
        high *= 2.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        if detection_s_mean(trace, deadlines_of(middle)) <= target_s:
            low = middle
        else:
            high = middle
        if high - low < 1e-6:
            break
    deadlines = deadlines_of(low)
    left_s = target_s - detection_s_mean(trace, deadlines)
    return judge(trace, [deadline + left_s for deadline in deadlines])
