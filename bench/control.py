"""What Perdure itself costs: CPU and memory of the daemon for 10, 100 and 1,000 replicas checked each second.

The replicas are the smallest servers there are (`tiny.c`), so that a thousand fit on any machine; nothing fails. At
rest no client asks, so all that is measured is looking: probes, the state of processes, HAProxy's counters,
bookkeeping. Then clients send 20,000 requests a second through HAProxy, which are counted, and sampled from its log:
first to all replicas of the large service, then to the ten of another one, for a machine with few cores is not able to
wake a thousand processes so often.
"""

import itertools
import json
import subprocess
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
    rate: float = 20_000.0
    """Requests a second, in the busy part."""


QUICK = Extent(sizes=(10, 100), watch_s=10.0, settle_s=4.0)
CONNECTIONS = 64
FEW = 10
"""So many of the replicas belong to a service of their own, when there are more."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The same under load; CPU as a share of one core."""

    cpu: float
    balancer_cpu: float
    requests_per_s: float
    failed: int


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
    busy: Busy
    """All replicas of `web`, which has all of them or all but the few."""
    few_busy: Busy | None


def run(extent: Extent, directory: Path) -> Report:
    """Measure every size; a size that cannot be measured has a row that says why."""
    costs: list[Cost] = []
    errors: list[str] = []
    for number, size in enumerate(extent.sizes, 1):
        tiny = Program((str(processes.compiled("tiny")),), port_option="")
        few_port = processes.free_ports(1)[0] if size > FEW else None
        few = _few(tiny, few_port) if few_port is not None else ""
        side = PerdureSide(directory / f"perdure-{size}", tiny, size - FEW if few else size, checks=few)
        try:
            costs.append(_cost(side, size, few_port, extent))
        except BenchError as error:
            errors.append(f"{size:,} replicas: {error}")
        finally:
            side.stop()
        progress("control: size", number, len(extent.sizes))
    return _report(costs, errors, extent)


def _few(tiny: Program, port: int) -> str:
    """The declaration of a second, small service."""
    return (
        f'[service.few]\nreplicas = {FEW}\nlisten = "127.0.0.1:{port}"\ncommand = {json.dumps(tiny.on("$PORT"))}\n'
        f'[[service.few.check]]\nhttp = "{tiny.health}"\ninterval = "{PROBE_PERIOD_S:g}s"\n'
    )


def _cost(side: PerdureSide, size: int, few_port: int | None, extent: Extent) -> Cost:
    begun_at = time.monotonic()
    side.start()
    processes.wait_until(lambda: _ready(side) == size, f"{size:,} replicas are ready", extent.start_s)
    start_s = time.monotonic() - begun_at
    time.sleep(extent.settle_s)
    status = side.status()
    daemon, balancer = [status["daemon"]["pid"]], [status["balancer"]["pid"]]
    cpu, balancer_cpu = _watched(daemon, balancer, extent.watch_s)
    rss_bytes = processes.usage(daemon).rss_bytes
    busy = _busy(side.port, daemon, balancer, extent)
    few_busy = _busy(few_port, daemon, balancer, extent) if few_port is not None else None
    ages = [side.status()["daemon"]["loop_age_s"] for _ in range(5)]
    return Cost(
        replicas=size,
        cpu=cpu,
        cpu_us_per_probe=cpu * PROBE_PERIOD_S / size * 1e6,
        rss_bytes=rss_bytes,
        balancer_cpu=balancer_cpu,
        loop_age_s_max=max(ages),
        start_s=start_s,
        disturbed=size - _ready(side),
        busy=busy,
        few_busy=few_busy,
    )


def _watched(daemon: Sequence[int], balancer: Sequence[int], seconds: float) -> tuple[float, float]:
    """What both use meanwhile, each as a share of one core. Asking the daemon costs it CPU, so it is not asked."""
    before, balancer_before, watched_at = processes.usage(daemon), processes.usage(balancer), time.monotonic()
    time.sleep(seconds)
    after, balancer_after = processes.usage(daemon), processes.usage(balancer)
    passed_s = time.monotonic() - watched_at
    return (after.cpu_s - before.cpu_s) / passed_s, (balancer_after.cpu_s - balancer_before.cpu_s) / passed_s


def _busy(port: int, daemon: Sequence[int], balancer: Sequence[int], extent: Extent) -> Busy:
    """Watch while clients ask; the first second of their load is left out."""
    seconds = extent.watch_s / 2.0
    words = [processes.compiled("press"), str(port), str(CONNECTIONS), str(seconds + 2.0), str(extent.rate)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as press:
        time.sleep(1.0)
        cpu, balancer_cpu = _watched(daemon, balancer, seconds)
        output, _ = press.communicate(timeout=60.0)
    pressed = json.loads(output)
    return Busy(cpu, balancer_cpu, pressed["answered"] / pressed["seconds"], pressed["failed"])


def _ready(side: PerdureSide) -> int:
    replicas = [replica for service in side.status()["services"].values() for replica in service["replicas"]]
    return sum(replica["state"] == "ready" and replica["restarts"] == 0 for replica in replicas)


def _report(costs: Sequence[Cost], errors: Sequence[str], extent: Extent) -> Report:
    rows = tuple(
        (
            f"{cost.replicas:,}",
            f"{cost.cpu:.2%}",
            f"{cost.cpu_us_per_probe:,.0f}",
            f"{cost.rss_bytes / 1e6:.0f}",
            f"{cost.balancer_cpu:.2%}",
            f"{cost.busy.cpu:.2%}",
            f"{cost.busy.balancer_cpu:.2%}",
            f"{cost.busy.requests_per_s:,.0f}",
            f"{cost.few_busy.cpu:.2%}" if cost.few_busy is not None else "",
            f"{cost.few_busy.requests_per_s:,.0f}" if cost.few_busy is not None else "",
            f"{cost.start_s:.1f}",
            f"{cost.disturbed}",
        )
        for cost in costs
    )
    growth = marginal(costs)
    notes = [
        f"{extent.watch_s:g} s at rest, each replica checked once a second; CPU as a share of one core.",
        f"Busy: {extent.rate:,.0f} requests a second are due, over {CONNECTIONS} connections; all cores are shared.",
        f"{FEW} busy: the same, but to the {FEW} replicas of a service of their own; all others are at rest.",
    ]
    failed = [(c.replicas, sum(one.failed for one in (c.busy, c.few_busy) if one is not None)) for c in costs]
    errors = [*errors, *(f"{size:,} replicas: {count} requests failed" for size, count in failed if count)]
    notes += [
        f"each replica more costs {cost:.0f} µs a second between {low:,} and {high:,}" for low, high, cost in growth
    ]
    return Report(
        "control",
        "Control: what Perdure costs",
        (
            "replicas",
            "daemon CPU",
            "µs/probe",
            "daemon MB",
            "HAProxy CPU",
            "daemon, busy",
            "HAProxy, busy",
            "requests/s",
            f"daemon, {FEW} busy",
            "requests/s",
            "start, s",
            "disturbed",
        ),
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
