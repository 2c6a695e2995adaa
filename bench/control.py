"""What Perdure itself costs at rest: CPU and memory of the daemon for 10, 100 and 1,000 replicas checked each second.

The replicas are the smallest servers there are (`tiny.c`), so that a thousand fit on any machine; nothing fails and no
client asks, so all that is measured is looking: probes, the state of processes, HAProxy's counters, bookkeeping.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import processes
from bench.processes import BenchError
from bench.program import Program
from bench.report import Report, progress
from bench.sides import PerdureSide

PROBE_PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How many replicas, for how long the daemon is watched, and how long it may settle before."""

    sizes: tuple[int, ...] = (10, 100, 1000)
    watch_s: float = 30.0
    settle_s: float = 10.0
    start_s: float = 300.0


QUICK = Extent(sizes=(10, 100), watch_s=10.0, settle_s=4.0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What it cost to look after `replicas`; CPU as a share of one core."""

    replicas: int
    cpu: float
    cpu_us_per_probe: float
    rss_bytes: int
    balancer_cpu: float
    loop_age_s_max: float
    start_s: float
    disturbed: int
    """Replicas that were not ready at the end: must be 0."""


def run(extent: Extent, directory: Path) -> Report:
    """Measure every size; a size that cannot be measured has a row that says why."""
    costs: list[Cost] = []
    errors: list[str] = []
    for number, size in enumerate(extent.sizes, 1):
        tiny = Program((str(processes.compiled("tiny")),), port_option="")
        side = PerdureSide(directory / f"perdure-{size}", tiny, size)
        try:
            costs.append(_cost(side, size, extent))
        except BenchError as error:
            errors.append(f"{size:,} replicas: {error}")
        finally:
            side.stop()
        progress("control: size", number, len(extent.sizes))
    return _report(costs, errors, extent)


def _cost(side: PerdureSide, size: int, extent: Extent) -> Cost:
    begun_at = time.monotonic()
    side.start()
    processes.wait_until(lambda: _ready(side) == size, f"{size:,} replicas are ready", extent.start_s)
    start_s = time.monotonic() - begun_at
    time.sleep(extent.settle_s)
    status = side.status()
    daemon, balancer = [status["daemon"]["pid"]], [status["balancer"]["pid"]]
    before, balancer_before, watched_at = processes.usage(daemon), processes.usage(balancer), time.monotonic()
    # Asking the daemon costs it CPU, so it is not asked while it is watched.
    time.sleep(extent.watch_s)
    after, balancer_after, passed_s = (
        processes.usage(daemon),
        processes.usage(balancer),
        time.monotonic() - watched_at,
    )
    ages = [side.status()["daemon"]["loop_age_s"] for _ in range(5)]
    cpu_s = after.cpu_s - before.cpu_s
    return Cost(
        replicas=size,
        cpu=cpu_s / passed_s,
        cpu_us_per_probe=cpu_s / (passed_s / PROBE_PERIOD_S * size) * 1e6,
        rss_bytes=after.rss_bytes,
        balancer_cpu=(balancer_after.cpu_s - balancer_before.cpu_s) / passed_s,
        loop_age_s_max=max(ages),
        start_s=start_s,
        disturbed=size - _ready(side),
    )


def _ready(side: PerdureSide) -> int:
    replicas = side.status()["services"]["web"]["replicas"]
    return sum(replica["state"] == "ready" and replica["restarts"] == 0 for replica in replicas)


def _report(costs: Sequence[Cost], errors: Sequence[str], extent: Extent) -> Report:
    rows = tuple(
        (
            f"{cost.replicas:,}",
            f"{cost.cpu:.2%}",
            f"{cost.cpu_us_per_probe:,.0f}",
            f"{cost.rss_bytes / 1e6:.0f}",
            f"{cost.balancer_cpu:.2%}",
            f"{cost.start_s:.1f}",
            f"{cost.disturbed}",
        )
        for cost in costs
    )
    growth = marginal(costs)
    notes = [f"{extent.watch_s:g} s at rest, each replica checked once a second; CPU as a share of one core."]
    notes += [
        f"each replica more costs {cost:.0f} µs a second between {low:,} and {high:,}" for low, high, cost in growth
    ]
    return Report(
        "control",
        "Control: what Perdure costs at rest",
        ("replicas", "daemon CPU", "µs/probe", "daemon MB", "HAProxy CPU", "start, s", "disturbed"),
        rows,
        tuple(notes),
        {
            "costs": [asdict(cost) for cost in costs],
            "marginal_us": growth,
            "extent": asdict(extent),
        },
        tuple(errors),
    )


def marginal(costs: Sequence[Cost]) -> list[tuple[int, int, float]]:
    """What one replica more costs between neighbouring sizes, in microseconds of CPU a second; equal when linear."""
    return [
        (low.replicas, high.replicas, (high.cpu - low.cpu) / (high.replicas - low.replicas) * 1e6)
        for low, high in itertools.pairwise(costs)
    ]
