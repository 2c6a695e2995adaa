"""The published heartbeat detectors, each as a family of deadlines with one parameter.

All of them are linear in it: deadline = estimate + parameter x scale. The window is 1,000 arrivals, as in the papers.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence

from bench.detectors.quality import DeadlinesOf, Detector
from bench.detectors.traces import Trace
from perdure.detect import heartbeat

WINDOW = 1000
BERTIER_GAIN = 0.1


def fixed(trace: Trace) -> DeadlinesOf:
    """A time-out from the last arrival."""
    return _linear([one.arrived_s for one in trace.arrivals])


def chen(trace: Trace) -> DeadlinesOf:
    """The expected arrival over the window plus a constant margin (Chen, Toueg and Aguilera 2002)."""
    return _linear(expected(trace, WINDOW))


def two_windows(trace: Trace) -> DeadlinesOf:
    """2W-FD: the later of the expected arrivals over 1 and over 1,000 arrivals, plus a margin (Tomsic et al. 2015)."""
    return _linear([max(pair) for pair in zip(expected(trace, 1), expected(trace, WINDOW), strict=True)])


def bertier(trace: Trace) -> DeadlinesOf:
    """Chen's estimate, with Jacobson's adaptive margin; the parameter is the weight of the deviation (Bertier 2002)."""
    estimates = expected(trace, WINDOW)
    delay_s = deviation_s = 0.0
    bases, scales = [estimates[0]], [0.0]
    for number in range(1, len(estimates)):
        one, before = trace.arrivals[number], trace.arrivals[number - 1]
        missed_s = (one.sequence - before.sequence - 1) * trace.interval_s
        error_s = one.arrived_s - (estimates[number - 1] + missed_s) - delay_s
        delay_s += BERTIER_GAIN * error_s
        deviation_s += BERTIER_GAIN * (abs(error_s) - deviation_s)
        bases.append(estimates[number] + delay_s)
        scales.append(deviation_s)
    return _linear(bases, scales)


def phi_normal(trace: Trace) -> DeadlinesOf:
    """Phi accrual: gaps are taken as normal; the parameter is the quantile in deviations (Hayashibara et al. 2004)."""
    means, deviations = zip(*_gaps(trace), strict=True)
    bases = [one.arrived_s + mean_s for one, mean_s in zip(trace.arrivals, means, strict=True)]
    return _linear(bases, deviations)


def phi_exponential(trace: Trace) -> DeadlinesOf:
    """Phi accrual with exponential gaps, as in Cassandra; the parameter is phi x ln 10."""
    return _linear([one.arrived_s for one in trace.arrivals], [mean_s for mean_s, _ in _gaps(trace)])


def perdure(trace: Trace) -> DeadlinesOf:
    """What Perdure does: beats carry no numbers, only a promised interval (see `perdure.detect.heartbeat`)."""
    told, bases = heartbeat.Told(), []
    for one in trace.arrivals:
        told = heartbeat.observe(told, one.arrived_s)
        bases.append(heartbeat.expected_by(told, trace.interval_s))
    return _linear(bases)


def expected(trace: Trace, window: int) -> list[float]:
    """Chen's expected arrival of the heartbeat after each, from the last `window` arrivals (2002, equation 6.3)."""
    shifts: deque[float] = deque()
    total_s, found = 0.0, []
    for one in trace.arrivals:
        shifts.append(one.arrived_s - one.sequence * trace.interval_s)
        total_s += shifts[-1]
        if len(shifts) > window:
            total_s -= shifts.popleft()
        found.append(total_s / len(shifts) + (one.sequence + 1) * trace.interval_s)
    return found


def _gaps(trace: Trace) -> Iterator[tuple[float, float]]:
    """After each arrival: mean and standard deviation of the gaps in the window."""
    gaps: deque[float] = deque()
    total_s = squares = 0.0
    yield trace.interval_s, 0.0
    for before, one in itertools.pairwise(trace.arrivals):
        gap_s = one.arrived_s - before.arrived_s
        gaps.append(gap_s)
        total_s, squares = total_s + gap_s, squares + gap_s**2
        if len(gaps) > WINDOW:
            oldest_s = gaps.popleft()
            total_s, squares = total_s - oldest_s, squares - oldest_s**2
        mean_s = total_s / len(gaps)
        yield mean_s, math.sqrt(max(0.0, squares / len(gaps) - mean_s**2))


def _linear(bases: Sequence[float], scales: Sequence[float] | None = None) -> DeadlinesOf:
    if scales is None:
        return lambda parameter: [base + parameter for base in bases]
    pairs = list(zip(bases, scales, strict=True))
    return lambda parameter: [base + parameter * scale for base, scale in pairs]


DETECTORS: dict[str, Detector] = {
    "fixed": fixed,
    "Chen": chen,
    "Bertier": bertier,
    "phi, normal": phi_normal,
    "phi, exponential": phi_exponential,
    "2W-FD": two_windows,
    "Perdure": perdure,
}
