"""What failures cost clients: faults under steady load, for Perdure and for HAProxy with a supervisor, in the same run.

Each trial waits until all replicas serve, lets a random while pass so that the fault meets every phase of every
timer, strikes, and watches HAProxy's own view and the replicas' pids until all is whole again. Clients are the
open-loop load of `load`, in a process of its own; a request belongs to the trial in which it was due.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench import load, runtime, sides, tally
from bench.load_process import LoadProcess
from bench.processes import BenchError, Ward
from bench.report import Report, progress
from bench.sides import Side

RATE = 500.0
PERIOD_S = 0.005


class Fault(StrEnum):
    """What is done, and to whom."""

    KILL = "SIGKILL of a replica"
    STOP = "SIGSTOP of a replica"
    BALANCER = "SIGKILL of HAProxy"
    DAEMON = "SIGKILL of the daemon"


REPLICA_FAULTS = frozenset({Fault.KILL, Fault.STOP})


@dataclass(frozen=True, slots=True)
class Extent:
    """How often each fault strikes each side, and how long a trial waits for strength to return."""

    trials: int = 30
    patience_s: float = 10.0
    rest_s: float = 11.0
    """Between two faults of a replica, where restarts back off: longer than what Perdure takes for a healthy spell."""


QUICK = Extent(trials=3, patience_s=8.0)


@dataclass(slots=True)
class Trial:
    """One fault. Durations count from the strike; None: not seen within the trial."""

    fault_at: float
    isolated_s: float | None = None
    strength_s: float | None = None
    pids_kept: bool | None = None
    """For faults of the daemon: whether every replica's pid is the same afterwards."""
    ended_at: float = 0.0
    requests: int = 0
    failed: int = 0
    slowest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """All trials of one fault on one side."""

    side: str
    fault: Fault
    trials: tuple[Trial, ...] = ()
    load: tally.Result = field(default_factory=tally.Result)
    error: str = ""
    """Why it ended early; empty when it did not."""


async def run(extent: Extent, directory: Path, only: Sequence[str] = (), faults: Sequence[Fault] = ()) -> Report:
    """Run every fault on every side (`only`: sides whose name contains one of these; `faults`: these alone)."""
    series: list[Series] = []
    with Ward(directory) as ward:
        for number, side in enumerate(_sides(ward, directory, extent)):
            if only and not any(word in side.name for word in only):
                continue
            rng = random.Random(number)
            try:
                await asyncio.to_thread(side.start)
                for fault in faults or Fault:
                    if fault is not Fault.DAEMON or side.adopts:
                        series.append(await _series(side, fault, extent, rng))
            except BenchError as error:
                series.append(Series(side.name, Fault.KILL, error=str(error)))
            finally:
                await asyncio.to_thread(side.stop)
    return _report(series, extent)


def _sides(ward: Ward, directory: Path, extent: Extent) -> list[Side]:
    return [
        sides.PerdureSide(directory / "perdure", rest_s=extent.rest_s),
        sides.SupervisedSide(ward, directory / "default", sides.DEFAULT_CHECKS, "supervisord"),
        sides.SupervisedSide(ward, directory / "fast", sides.FAST_CHECKS, "supervisord"),
        sides.SupervisedSide(ward, directory / "circus", sides.FAST_CHECKS, "Circus"),
    ]


async def _series(side: Side, fault: Fault, extent: Extent, rng: random.Random) -> Series:
    trials: list[Trial] = []
    error = ""
    await asyncio.to_thread(sides.wait_for_strength, side, 60.0)
    plan = load.Plan(f"http://127.0.0.1:{side.port}/", RATE, connections=4096)
    async with LoadProcess(plan) as running:
        try:
            for number in range(extent.trials):
                trials.append(await asyncio.to_thread(_trial, side, fault, extent, rng))
                progress(f"failure: {side.name}, {fault.value}", number + 1, extent.trials)
        except BenchError as failure:
            error = str(failure)
        await asyncio.sleep(0.5)
    _attribute(trials, running.samples)
    return Series(side.name, fault, tuple(trials), running.result, error)


def _trial(side: Side, fault: Fault, extent: Extent, rng: random.Random) -> Trial:
    sides.wait_for_strength(side, 60.0)
    if fault in REPLICA_FAULTS:
        time.sleep(side.rest_s)
    time.sleep(rng.uniform(0.2, 1.2))
    before = sides.strength(side)
    if fault is Fault.DAEMON:
        trial = _strike_daemon(side, rng)
        after = sides.strength(side)
        trial.pids_kept = set(after.values()) == set(before.values())
    else:
        trial = _strike(side, fault, extent, rng.choice(sorted(before)))
    trial.ended_at = time.monotonic()
    return trial


def _strike_daemon(side: Side, rng: random.Random) -> Trial:
    """Kill the daemon, leave it dead for a while, start it again; strength counts from that start."""
    pid = side.daemon_pid()
    trial = Trial(time.monotonic())
    os.kill(pid, signal.SIGKILL)
    time.sleep(rng.uniform(0.2, 1.5))
    revived_at = time.monotonic()
    side.revive()
    trial.strength_s = time.monotonic() - revived_at
    if side.daemon_pid() == pid:
        raise BenchError(f"{side.name}: the daemon of before the fault still answers")
    return trial


def _strike(side: Side, fault: Fault, extent: Extent, port: int) -> Trial:
    """Kill or stop a replica (or HAProxy), and watch until all is whole; a replica still stopped is killed then."""
    stats = side.stats()
    seen = runtime.view(stats, side.backends) if stats else None
    victim = seen.pid if fault is Fault.BALANCER and seen else side.program.pid(port)
    if victim is None:
        raise BenchError(f"{side.name}: nobody answers on port {port} before the fault")
    trial = Trial(time.monotonic())
    os.kill(victim, signal.SIGSTOP if fault is Fault.STOP else signal.SIGKILL)
    while trial.strength_s is None and time.monotonic() < trial.fault_at + extent.patience_s:
        _watch(side, fault, victim, port, trial)
        time.sleep(PERIOD_S)
    if trial.strength_s is None and fault is Fault.STOP and _state(victim) == "T":
        os.kill(victim, signal.SIGKILL)
    return trial


def _watch(side: Side, fault: Fault, victim: int, port: int, trial: Trial) -> None:
    stats = side.stats()
    seen = runtime.view(stats, side.backends) if stats else None
    passed_s = time.monotonic() - trial.fault_at
    if seen is None:
        return
    if fault is not Fault.BALANCER and trial.isolated_s is None and port not in seen.ports:
        trial.isolated_s = passed_s
    if len(seen.ports) < sides.REPLICAS or (fault is Fault.BALANCER and seen.pid == victim):
        return
    if fault is not Fault.BALANCER and _state(victim) not in ("", "Z"):
        return  # its process is still there: asking it would only stall this watch
    pids = {side.program.pid(each) for each in seen.ports}
    if len(pids) == sides.REPLICAS and not pids & {None, victim}:
        trial.strength_s = passed_s


def _state(pid: int) -> str:
    """The state letter of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _attribute(trials: Sequence[Trial], samples: Sequence[tally.Sample]) -> None:
    """Give every request to the first trial that ended after it was due."""
    ordered = sorted(samples, key=lambda sample: sample.due_at)
    at = 0
    for trial in trials:
        while at < len(ordered) and ordered[at].due_at <= trial.ended_at:
            sample = ordered[at]
            trial.requests += 1
            trial.failed += sample.outcome != tally.OK
            trial.slowest_s = max(trial.slowest_s, sample.latency_s)
            at += 1


def _report(series: Sequence[Series], extent: Extent) -> Report:
    rows = []
    for one in sorted(series, key=lambda one: list(Fault).index(one.fault)):
        result = one.load
        clean = sum(trial.failed == 0 for trial in one.trials)
        rows.append(
            (
                one.fault.value,
                one.side + (" (ended early)" if one.error else ""),
                f"{result.failed:,} of {result.sent:,}",
                f"{clean} of {len(one.trials)}",
                f"{result.resent:,}",
                _times(one.trials, lambda trial: trial.isolated_s) if one.fault in REPLICA_FAULTS else "",
                _times(one.trials, lambda trial: trial.strength_s),
                f"{result.max_s * 1e3:,.0f}",
            )
        )
    return Report(
        "failure",
        "Failure: what clients notice",
        ("fault", "side", "requests failed", "trials without", "resent", "isolated, ms", "whole, ms", "slowest, ms"),
        tuple(rows),
        (
            f"{RATE:.0f} GETs a second, {extent.trials} trials each at random phases; p50 / max.",
            "resent: sent once more by the client because the connection closed without any byte of an answer.",
            f"never: within {extent.patience_s:g} s; with the number of such trials.",
            f"Perdure's back-off for crash loops is kept out by {extent.rest_s:g} s between faults of replicas.",
            "Whole, of a daemon: from the command that starts it again to its answer; pids are compared, too.",
        ),
        {"series": [_figures(one) for one in series], "extent": asdict(extent)},
        tuple(f"{one.side}, {one.fault}: {sentence}" for one in series for sentence in _complaints(one)),
    )


def _complaints(one: Series) -> list[str]:
    """What is wrong with a series beyond its figures."""
    restarted = sum(trial.pids_kept is False for trial in one.trials)
    found = [one.error] if one.error else []
    return found + ([f"{restarted} times a replica's pid was another one afterwards"] if restarted else [])


def _times(trials: Sequence[Trial], pick: Callable[[Trial], float | None]) -> str:
    values = [pick(trial) for trial in trials]
    known = sorted(value * 1e3 for value in values if value is not None)
    missing = len(values) - len(known)
    text = f"{tally.quantile(known, 0.5):,.0f} / {known[-1]:,.0f}" if known else ""
    return ", ".join(filter(None, (text, f"never {missing}" if missing else "")))


def _figures(one: Series) -> dict[str, Any]:
    return {
        "side": one.side,
        "fault": one.fault.value,
        "error": one.error,
        "load": one.load.to_json(),
        "trials": [asdict(trial) for trial in one.trials],
    }
