"""Takeovers: how long nobody is active, what clients notice, and ten thousand simulated ones in which never two are.

The real part runs the ledger of `examples`, warm and cold, with its state, under a steady load of GETs and writes. Each
trial waits until one is active and the other stands by with a recent state, lets a random while pass, and kills, stops
or hands over. The ledgers write down who accepted each write, and in which epoch; no older epoch may come after a newer
one.
"""

import asyncio
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import load, tally
from bench.load_process import LoadProcess
from bench.processes import HERE, BenchError, wait_until
from bench.program import Program
from bench.report import Report, progress
from bench.sides import PerdureSide
from perdure.sim import takeover
from perdure.sim.takeover import Outcome

LEDGER = Program(
    (sys.executable, str(HERE.parent / "examples" / "ledger" / "ledger.py")), port_option="", tells_pid=False
)
STATE = 'mode = "active-passive"\nstate = { kind = "sqlite", path = "ledger.db", every = "2s" }\n'
WARM = STATE + 'standby = "warm"\nrole = { http = "/role" }\n'
RATE = 500.0
WRITES = 20.0
PERIOD_S = 0.01
RECENT_S = 5.0
REST_S = 11.0
"""Between two takeovers: a replica that served so long has no back-off, and what waited before is answered."""
PATIENCE_S = 30.0
BEYOND = 0.3
"""Clocks that differ by so much break the rule, and the check must see it."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Trials of each kind, and simulated takeovers."""

    trials: int = 30
    simulated: int = 10_000
    processes: int = 2


QUICK = Extent(3, 500)


@dataclass(frozen=True, slots=True)
class Trial:
    """One takeover: from the strike until another process was active; None: not within the patience."""

    at: float
    taken_s: float | None
    same_slot: bool


async def run(extent: Extent, directory: Path) -> Report:
    """Measure, then simulate."""
    rows: list[tuple[str, ...]] = []
    figures: dict[str, Any] = {}
    for standby, more in (("warm", WARM), ("cold", STATE)):
        side = PerdureSide(directory / standby, LEDGER, 2, more=more)
        try:
            side.start()
            _settled(side)
            for name, strike in STRIKES.items():
                trials, samples = await _series(side, name, strike, extent.trials)
                rows.append(_cells(f"{standby}: {name}", trials, samples))
                print("takeover:", "; ".join(rows[-1]), file=sys.stderr, flush=True)
                figures[f"{standby} {name}"] = [asdict(trial) for trial in trials]
            rows.append((f"{standby}: writes", *_accepted(side), "", "", ""))
        finally:
            side.stop()
    outcomes = _simulated(extent)
    return Report(
        "takeover",
        "Takeover: how long nobody is active, and never two",
        ("what", "trials", "active again, s", "failed", "slowest GET, s", "same slot"),
        tuple(rows),
        (
            f"{RATE:.0f} GETs a second, {REST_S:g} s of rest before each strike; p50 / max.",
            "Cold: the program's own start is in it; the slot is the same one.",
            "writes: how many were accepted, in how many terms; one of an older term after a newer would be an error.",
            *_told(outcomes),
        ),
        {**figures, "simulated": [asdict(one) for one in outcomes]},
    )


def _kill(side: PerdureSide, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _stop(side: PerdureSide, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def _hand_over(side: PerdureSide, pid: int) -> None:
    side.ask("promote", "web", "--no-wait")


STRIKES: dict[str, Callable[[PerdureSide, int], None]] = {
    "SIGKILL of the active one": _kill,
    "SIGSTOP of the active one": _stop,
    "perdure promote": _hand_over,
}


async def _series(
    side: PerdureSide, name: str, strike: Callable[[PerdureSide, int], None], count: int
) -> tuple[list[Trial], tuple[tally.Sample, ...]]:
    """All trials of one kind under load, and what clients got."""
    rng = random.Random(f"{name} {side.directory.name}")
    trials: list[Trial] = []
    writes = (load.Kind("GET", "/healthz", RATE), load.Kind("POST", "/write", WRITES, key=True))
    plan = load.Plan(f"http://127.0.0.1:{side.port}/", RATE + WRITES, mix=writes, connections=1024, timeout_s=20.0)
    async with LoadProcess(plan) as clients:
        for number in range(1, count + 1):
            trials.append(await asyncio.to_thread(_trial, side, strike, REST_S + rng.uniform(0.0, 2.0)))
            progress(f"takeover: {side.directory.name}, {name}", number, count)
    return trials, clients.samples


def _trial(side: PerdureSide, strike: Callable[[PerdureSide, int], None], rest_s: float) -> Trial:
    _settled(side)
    time.sleep(rest_s)
    before = _active(side)
    if before is None:
        raise BenchError("nobody is active before the strike")
    at = time.monotonic()
    strike(side, int(before["pid"]))
    while (passed_s := time.monotonic() - at) < PATIENCE_S:
        after = _active(side)
        if after is not None and after["pid"] != before["pid"]:
            return Trial(at, passed_s, after["slot"] == before["slot"])
        time.sleep(PERIOD_S)
    return Trial(at, None, False)


def _active(side: PerdureSide) -> dict[str, Any] | None:
    replicas = side.status()["services"]["web"]["replicas"]
    found: list[dict[str, Any]] = [one for one in replicas if one["role"] == "active"]
    return found[0] if found else None


def _settled(side: PerdureSide) -> None:
    """Wait until one is active, and the other stands by with the state of the last seconds."""

    def whole() -> bool:
        service = side.status()["services"]["web"]
        lags = [one["lag_s"] for one in service["replicas"] if one["role"] == "passive"]
        recent = all(lag is not None and lag < RECENT_S for lag in lags)
        return service["state"] == "ok" and not service["desired"]["pending"] and recent

    wait_until(whole, "one is active, and the other stands by", 60.0)


def _accepted(side: PerdureSide) -> tuple[str, str]:
    """Who accepted writes: one process in each epoch, and epochs that grow with time."""
    rows: list[tuple[float, int, int]] = []
    for file in sorted((side.home / "slots" / "web").glob("*/state/ledger.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            rows += database.execute("SELECT at, own_epoch, pid FROM writes")
    rows = sorted(set(rows))
    owners: dict[int, set[int]] = {}
    for _, epoch, pid in rows:
        owners.setdefault(epoch, set()).add(pid)
    fell = sum(later[1] < earlier[1] for earlier, later in pairwise(rows))
    if fell:
        raise BenchError(f"{fell} writes were accepted in an older epoch than one before")
    return f"{len(rows):,}", f"in {len(owners)} terms"


def _cells(name: str, trials: Sequence[Trial], samples: Sequence[tally.Sample]) -> tuple[str, ...]:
    times = sorted(trial.taken_s for trial in trials if trial.taken_s is not None)
    gets = [sample for sample in samples if sample.kind == 0]
    failed = sum(sample.outcome != tally.OK for sample in gets)
    slowest_s = max((sample.latency_s for sample in gets), default=0.0)
    return (
        name,
        f"{len(times)} of {len(trials)}",
        f"{tally.quantile(times, 0.5):.2f} / {times[-1]:.2f}" if times else "never",
        f"{failed} of {len(gets):,}",
        f"{slowest_s:.2f}",
        str(sum(trial.same_slot for trial in trials)),
    )


def _simulated(extent: Extent) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with multiprocessing.Pool(extent.processes) as pool:
        for one in pool.imap(takeover.played, range(1, 1_000_000)):
            outcomes.append(one)
            made = sum(outcome.takeovers for outcome in outcomes)
            if made >= extent.simulated:
                break
        pool.terminate()
    progress("takeover: simulated", len(outcomes), len(outcomes))
    return outcomes


def _told(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    made = sum(one.takeovers for one in outcomes)
    two = sum(len(one.overlaps) + one.epochs_fell for one in outcomes)
    beyond = [takeover.played(one.seed, drift=BEYOND) for one in outcomes[:5]]
    caught = sum(len(one.overlaps) for one in beyond)
    return (
        f"Simulated, three hosts: {made:,} takeovers; two active at once, or an epoch that fell: {two}. Paused hosts"
        f" that woke up and were fenced: {sum(one.stale for one in outcomes)}.",
        f"With clocks that differ by {BEYOND:.0%}: {caught} in {sum(one.takeovers for one in beyond)} takeovers.",
    )
