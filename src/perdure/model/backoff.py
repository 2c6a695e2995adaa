"""Exponential back-off with jitter: how long to wait before trying the same thing again.

One formula for all repeats of Perdure: replicas that keep ending (`recover.restart`) and commands that keep failing
(`perdure retry`). Jitter is an argument, so that the same facts give the same answer.
"""


def delay_s(failures: int, first_s: float, cap_s: float, jitter: float) -> float:
    """Seconds to wait after `failures` failures in a row (>= 1): first_s, doubled each time, at most cap_s, spread.

    `jitter` is a uniform random number in [0, 1); the result lies between 75 % and 125 % of the nominal delay, so that
    replicas that failed together do not come back together.
    """
    assert failures >= 1
    nominal = min(cap_s, first_s * 2.0 ** min(failures - 1, 60))
    return nominal * (0.75 + 0.5 * jitter)
