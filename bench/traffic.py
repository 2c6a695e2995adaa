"""What a request costs: CPU per request and latency of Perdure's HAProxy against its rivals, in the same run.

All proxies get the same three backends and the same generator. The proxy has one core for itself, generator and
backends have the other; CPU per request is measured under a closed loop that keeps the proxy busy, latency at a fixed
rate well below that. In each round every variant is a new process, and they take turns in short slices (A B C, C B A,
...), so that neither the drift of the machine, nor what else runs on it, nor one lucky process decides. A ratio is
taken within a pass over the variants, whose slices are less than a few seconds apart; the table shows medians.

Perdure's HAProxy runs the configuration that Perdure renders, with replicas put in over the runtime socket; its
counters are read ten times a second meanwhile, and its log as it comes, as the daemon does.
"""

import dataclasses
import json
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import processes, runtime
from bench.processes import Ward, bound_to
from bench.report import Report, progress, spread
from bench.rivals import HANDWRITTEN, RIVALS, Rival, Site, haproxy_program
from perdure.adapters.balancer import render
from perdure.model.check import Check, CheckKind
from perdure.model.service import Address, Service
from perdure.model.traffic import BackendSpec

PROXY_CORE, OTHER_CORE = 0, 1
CONNECTIONS = 32
READING_PERIOD_S = 0.1
SETTLE_S = 1.0
"""Before each slice the same load runs for so long: how much of it is logged for Perdure follows the rate of the last
second, and until then it is what an idle service logs.
"""
LINE_BYTES = 1024
SERVERS = 8
PERDURE = "HAProxy, Perdure's"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: rounds with new processes, slices of each variant in a round, and the latency part."""

    rounds: int = 5
    slices: int = 8
    slice_s: float = 0.4
    paced_s: float = 2.0
    rate: float = 2000.0


QUICK = Extent(rounds=2, slices=5, paced_s=1.0)


@dataclass(frozen=True, slots=True)
class Slice:
    """One short closed loop through one proxy: CPU per request (microseconds), requests a second, share of its core."""

    cpu_us: float
    requests_per_s: float
    busy: float


@dataclass(frozen=True, slots=True)
class Paced:
    """Latency at the fixed rate, and the resident memory after it."""

    p50_us: float
    p99_us: float
    rss_bytes: float


@dataclass(slots=True)
class Variant:
    """A proxy that takes part, and what was measured of it so far."""

    rival: Rival
    port: int
    perdure: "Perdure | None" = None
    slices: list[Slice] = field(default_factory=list)
    paced: list[Paced] = field(default_factory=list)
    failed: int = 0
    process: "subprocess.Popen[bytes] | None" = None


class Perdure:
    """Perdure's configuration as a rival: rendered by the product, fed and read over the runtime socket."""

    def __init__(self) -> None:
        self.stats: Path | None = None
        self.log: socket.socket | None = None

    def prepare(self, site: Site) -> Sequence[str | Path]:
        """Write what Perdure would write for a service with the backends' number of replicas."""
        service = Service("web", ("tiny",), len(site.backends), checks=(Check(CheckKind.HTTP, "/healthz"),))
        specs = (BackendSpec(service, SERVERS),)
        paths = render.Paths(site.directory, 1)
        listen = {"web": Address("127.0.0.1", site.port)}
        paths.config.write_text(render.render(specs, listen, paths, lua=True))
        paths.retries_off.write_text(render.render_retries_off(["web"], {}))
        self.stats = paths.stats
        if self.log is not None:
            self.log.close()
        paths.log.unlink(missing_ok=True)
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.bind(str(paths.log))
        return [haproxy_program(), "-db", "-f", paths.config]

    def put_in(self, site: Site) -> None:
        """Put the backends in, as the daemon does."""
        assert self.stats is not None
        stats = self.stats
        processes.wait_until(lambda: runtime.view(stats, frozenset()), "Perdure's HAProxy answers")
        servers = {f"s{number}": port for number, port in enumerate(site.backends, 1)}
        runtime.put_in(stats, render.backend_name("web"), servers)


class Reading:
    """Reads the log, and the counters ten times a second, while the block lasts, from the other core."""

    def __init__(self, perdure: Perdure | None) -> None:
        self._perdure = perdure
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="read the counters")

    def __enter__(self) -> None:
        if self._perdure is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._perdure is not None:
            self._thread.join()

    def _read(self) -> None:
        assert self._perdure is not None and self._perdure.stats is not None and self._perdure.log is not None
        due = time.monotonic()
        while not self._over.is_set():
            self._perdure.log.settimeout(max(0.001, due - time.monotonic()))
            with suppress(TimeoutError):
                self._perdure.log.recv(LINE_BYTES)
            if time.monotonic() >= due:
                due += READING_PERIOD_S
                with suppress(OSError):
                    runtime.ask(self._perdure.stats, "show stat")


def run(extent: Extent, directory: Path) -> Report:
    """Measure all variants; raises BenchError when one does not start."""
    with Ward(directory) as ward:
        ports = processes.free_ports(4 + len(RIVALS))
        backends = tuple(ports[:3])
        tiny = processes.compiled("tiny")
        for port in backends:
            ward.start([tiny, str(port)], f"tiny-{port}", OTHER_CORE)
        perdure = Perdure()
        variants = [Variant(Rival(PERDURE, perdure.prepare), ports[3], perdure)]
        variants += [Variant(rival, port) for rival, port in zip(RIVALS, ports[4:], strict=True)]
        for number in range(extent.rounds):
            measure(ward, variants, backends, extent)
            progress("traffic: round", number + 1, extent.rounds)
    return _report(variants, extent)


def measure(ward: Ward, variants: Sequence[Variant], backends: tuple[int, ...], extent: Extent) -> None:
    """One round: start every variant, measure them in turns, end them."""
    try:
        for variant in variants:
            _start(ward, variant, backends)
        for number in range(extent.slices):
            for variant in variants if number % 2 == 0 else reversed(variants):
                variant.slices.append(_slice(variant, extent.slice_s))
        for variant in variants:
            variant.paced.append(_paced(variant, extent))
    finally:
        for variant in variants:
            if variant.process is not None:
                ward.end(variant.process)
                variant.process = None


def _start(ward: Ward, variant: Variant, backends: tuple[int, ...]) -> None:
    name = "".join(letter if letter.isalnum() else "-" for letter in variant.rival.name.lower())
    site = Site(ward.directory / name, variant.port, backends)
    site.directory.mkdir(exist_ok=True)
    variant.process = ward.start(variant.rival.prepare(site), name, PROXY_CORE)
    if variant.perdure is not None:
        variant.perdure.put_in(site)
    processes.wait_until(lambda: processes.answers(site.port), f"{variant.rival.name} answers", 15.0)
    _press(variant, 0.5, 0)


def _slice(variant: Variant, seconds: float) -> Slice:
    assert variant.process is not None
    pids = processes.tree(variant.process.pid)
    with Reading(variant.perdure):
        _press(variant, SETTLE_S, 0)
        before = processes.usage(pids)
        pressed = _press(variant, seconds, 0)
        cpu_s = processes.usage(pids).cpu_s - before.cpu_s
    return Slice(
        cpu_s / pressed["answered"] * 1e6, pressed["answered"] / pressed["seconds"], cpu_s / pressed["seconds"]
    )


def _paced(variant: Variant, extent: Extent) -> Paced:
    assert variant.process is not None
    with Reading(variant.perdure):
        paced = _press(variant, extent.paced_s, extent.rate)
    rss_bytes = processes.usage(processes.tree(variant.process.pid)).rss_bytes
    return Paced(paced["p50_us"], paced["p99_us"], rss_bytes)


def _press(variant: Variant, seconds: float, rate: float) -> dict[str, Any]:
    words = [str(processes.compiled("press")), str(variant.port), str(CONNECTIONS), str(seconds), str(rate)]
    with bound_to(OTHER_CORE):
        done = subprocess.run(words, capture_output=True, check=False, timeout=seconds + 30)
    if done.returncode != 0:
        raise processes.BenchError(f"press failed: {done.stderr.decode().strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    variant.failed += result["failed"]
    return result


def _report(variants: Sequence[Variant], extent: Extent) -> Report:
    hand = next(variant for variant in variants if variant.rival is HANDWRITTEN)
    figures = {variant.rival.name: _figures(variant, hand) for variant in variants}
    rows = []
    for variant in variants:
        figure = figures[variant.rival.name]
        cpu, ratio = figure["cpu_us"], figure["ratio"]
        rows.append(
            (
                variant.rival.name,
                f"{cpu['median']:.1f} ({cpu['q1']:.1f} - {cpu['q3']:.1f})",
                f"{ratio['median']:.2f} ({ratio['q1']:.2f} - {ratio['q3']:.2f})",
                f"{figure['requests_per_s']['median']:,.0f}",
                f"{figure['p50_us']['median'] / 1000:.2f}",
                f"{figure['p99_us']['median'] / 1000:.2f}",
                f"{figure['rss_bytes']['median'] / 1e6:.0f}",
                f"{variant.failed:,}",
            )
        )
    return Report(
        "traffic",
        "Traffic: what a request costs",
        ("proxy", "CPU/request, µs", "ratio", "requests/s, 1 core", "p50 ms", "p99 ms", "MB", "failed"),
        tuple(rows),
        (
            f"{extent.rounds} rounds with new processes, {extent.slices} slices of {extent.slice_s:g} s in turn,"
            f" each after {SETTLE_S:g} s of the same load.",
            "Median (quartiles). CPU: closed loop, proxy alone on a core; p50 and p99: at a fixed rate.",
            f"{CONNECTIONS} connections; the fixed rate is {extent.rate:,.0f} requests a second.",
            "Ratio: to the slice of the hand-written HAProxy in the same pass. nginx has no active checks.",
        ),
        {"variants": figures, "extent": dataclasses.asdict(extent)},
    )


def _figures(variant: Variant, hand: Variant) -> dict[str, Any]:
    pairs = zip(variant.slices, hand.slices, strict=True)
    return {
        **{key: spread([getattr(one, key) for one in variant.slices]) for key in Slice.__slots__},
        **{key: spread([getattr(one, key) for one in variant.paced]) for key in Paced.__slots__},
        "ratio": spread([one.cpu_us / other.cpu_us for one, other in pairs]),
        "failed": variant.failed,
    }
