"""A margin that is bought where it is worth most: an experiment, better than the published detectors near one interval.

At a given mean detection time, seconds of margin are a budget. One more second after this heartbeat is worth the
mistakes that it avoids: the density of lateness given what just happened. Losses are not independent of the past (a
link that just lost a packet may be about to lose more, or be safe for a while), so lateness beyond the 2W-FD estimate
is counted apart for each *state*: arrivals since the last gap, and lateness of the last arrival. The margin after each
arrival minimises

    P(later than margin | state) + price x margin

so that all states pay the same price for their last millisecond, which is what minimises mistakes at a given mean
(Lagrange). The parameter is -ln(price x interval).

Rare, long outages are the same in all states: beyond `REACH` the tail is a fixed exponential, and when the price is low
enough for that, the margin is a constant, as in 2W-FD. Rejected: an empirical tail there (it spends the margin on
outages that never come again), a margin with an exponential memory of lateness (wins nothing).
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from bench.detectors import published
from bench.detectors.quality import Deadlines, DeadlinesOf
from bench.detectors.traces import Trace

DESIGNED_ON = frozenset({"bad_wifi_2022-50ms", "planetlab-1_a-1s", "planetlab-2_a-1s", "planetlab-4_a-1s"})
SINCE_GAP = (1, 2, 4, 7, 10, 14, 20, 40)
LATENESS = (-0.3, 0.0, 0.3, 0.8)
"""Bounds of the states: arrivals since the last gap, and intervals of lateness."""
STEP = 0.1
FIRST, REACH = -2.0, 1.2
"""Margins are looked for on a grid of STEP between FIRST and REACH, in intervals."""
FAR_SHARE, FAR_SCALE = 0.005, 0.5
"""The tail beyond REACH: how many heartbeats are later, and how it falls, in intervals."""
POOLED_WEIGHT = 100.0
"""The tail of a state counts as much as that of all states together when it has been seen this often."""
UNSEEN = 1.0
UNSEEN_OF = 100.0
POOLED_AGAIN = 50
"""The tail of all states is summed anew after so many arrivals."""

GRID = tuple(FIRST + STEP * number for number in range(round((REACH - FIRST) / STEP) + 1))


@dataclass(slots=True)
class Counts:
    """How often lateness fell below each margin of the grid (the last: beyond all), and how often in all."""

    cells: list[float] = field(default_factory=lambda: [0.0] * (len(GRID) + 1))
    total: float = 0.0

    def add(self, cell: int) -> None:
        """Count one."""
        self.cells[cell] += 1.0
        self.total += 1.0


def deadlines(trace: Trace) -> DeadlinesOf:
    """See the module."""
    estimates = published.two_windows(trace)(0.0)
    states, cells = _states(trace, estimates), _cells(trace, estimates)

    def of(parameter: float) -> Deadlines:
        margins = _margins(states, cells, price=math.exp(-parameter))
        return [base + margin * trace.interval_s for base, margin in zip(estimates, margins, strict=True)]

    return of


def _states(trace: Trace, estimates: Deadlines) -> list[int]:
    """After each arrival, the state in which the next is awaited."""
    found, since = [0], 0
    for number in range(1, len(trace.arrivals)):
        one, before = trace.arrivals[number], trace.arrivals[number - 1]
        since = 0 if one.sequence > before.sequence + 1 else since + 1
        late = (one.arrived_s - estimates[number - 1]) / trace.interval_s
        found.append(bisect_right(SINCE_GAP, since) * (len(LATENESS) + 1) + bisect_right(LATENESS, late))
    return found


def _cells(trace: Trace, estimates: Deadlines) -> list[int]:
    """For each arrival, the first margin of the grid that would have been enough for it."""
    late = [
        (one.arrived_s - estimate) / trace.interval_s
        for one, estimate in zip(trace.arrivals[1:], estimates, strict=False)
    ]
    return [0, *(min(len(GRID), max(0, math.ceil((one - FIRST) / STEP))) for one in late)]


def _margins(states: list[int], cells: list[int], price: float) -> list[float]:
    """The margin after each arrival, in intervals, from what was counted until then."""
    by_state: dict[int, Counts] = {}
    pooled, known = Counts(), {}
    tail = _pooled_tail(pooled)
    margins: list[float] = []
    for number, (state, cell) in enumerate(zip(states, cells, strict=True)):
        if number:
            by_state.setdefault(states[number - 1], Counts()).add(cell)
            pooled.add(cell)
            if number < POOLED_AGAIN or number % POOLED_AGAIN == 0:
                tail, known = _pooled_tail(pooled), {}
        if state not in known:
            known[state] = _cheapest(by_state.get(state, Counts()), tail, price)
        margins.append(known[state])
    return margins


def _pooled_tail(pooled: Counts) -> list[float]:
    """P(later than each margin of the grid), over all states, with a prior for what was never seen."""
    later, tail = pooled.cells[-1], []
    for cell in reversed(range(len(GRID))):
        tail.append((later + UNSEEN) / (pooled.total + UNSEEN_OF))
        later += pooled.cells[cell]
    return tail[::-1]


def _cheapest(counts: Counts, tail: list[float], price: float) -> float:
    """The margin with the least P(later) + price x margin, in intervals."""
    beyond = max(0.0, FAR_SCALE * math.log(FAR_SHARE / (FAR_SCALE * price)))
    best, least = REACH + beyond, FAR_SHARE * math.exp(-beyond / FAR_SCALE) + price * (REACH + beyond)
    later = counts.cells[-1]
    for cell in reversed(range(len(GRID))):
        share = (later + POOLED_WEIGHT * tail[cell]) / (counts.total + POOLED_WEIGHT)
        cost = share + price * GRID[cell]
        if cost < least:
            best, least = GRID[cell], cost
        later += counts.cells[cell]
    return best
