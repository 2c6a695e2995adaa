"""What is noticed, how soon, and who is touched for nothing: the faults of `catalogue`, one after the other.

Each trial waits until all replicas serve, lets a random while pass, strikes, and watches HAProxy's own view until those
that were struck get no requests (or somebody is told, or the time is up). Clients are the open-loop load of
`bench.load`, 20 requests a second for each replica over four endpoints. The sides are those of the failure bench.
"""

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import load, runtime, sides, tally
from bench.faults import catalogue, strikes
from bench.faults.catalogue import Expected, Row, Whom
from bench.faults.strikes import Struck
from bench.load_process import LoadProcess
from bench.processes import BenchError, Ward
from bench.report import Report, progress
from bench.sides import PerdureSide, Side

RATE = 60.0
MIX = (
    load.Kind("GET", "/", 5.0),
    load.Kind("GET", "/search", 3.0),
    load.Kind("GET", "/pay", 1.0),
    load.Kind("POST", "/order", 1.0),
)
COMMAND = (
    *("prlimit", f"--nofile={strikes.OPEN_FILES}:{strikes.OPEN_FILES}", *sides.APP),
    *("--work", "0.005", "--backlog", "8", "--heartbeat", "0.5", "--orders", "orders.txt"),
)
MORE = (
    'limits = { memory = "250MB" }\nheartbeat = { every = "1s" }\ndigest = { path = "/digest", every = "1s" }\n'
    'canary = { path = "/search", rate = "2/s", expect = { body = "pid" } }\n'
)
ALARMS = frozenset({"R05", "R07", "R08"})
PERIOD_S = 0.01
REST_S = 6.0
KNOWN_S = 45.0
"""Load before the first fault: response times count from half a minute on."""
LATE = 1.5
"""So much longer than allowed is waited, to tell late from never."""
WHOLE_S = 150.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How often each fault is made."""

    trials: int = 10


@dataclass(frozen=True, slots=True)
class Scene:
    """Who was there before the strike (port -> pid), who is struck, and a question: has come of it what must?"""

    before: dict[int, int]
    struck: tuple[Struck, ...]
    noticed: Callable[[], bool]
    ask_every_s: float


@dataclass(slots=True)
class Trial:
    """One fault. `noticed_s` counts from the strike; None: not within the time that was waited."""

    at: float
    noticed_s: float | None = None
    false_actions: int = 0
    """Replicas that were isolated or replaced though nothing was done to them, or nothing should have come of it."""
    ended_at: float = 0.0
    requests: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Series:
    """All trials of one fault on one side; `error` says why it ended early."""

    side: str
    row: Row
    trials: tuple[Trial, ...]
    error: str = ""


async def run(extent: Extent, directory: Path, only: Sequence[str] = (), numbers: Sequence[str] = ()) -> Report:
    """Make every fault (`numbers`: these alone) on every side (`only`: those whose name contains one of these)."""
    rows = [row for row in catalogue.ROWS if not numbers or row.number in numbers or row.number.split()[0] in numbers]
    series: list[Series] = []
    with Ward(directory) as ward:
        for side in _sides(ward, directory):
            if only and not any(word in side.name for word in only):
                continue
            try:
                await asyncio.to_thread(side.start)
                series += await _on(side, rows, extent)
            finally:
                await asyncio.to_thread(side.stop)
    return _report(series, extent)


def _sides(ward: Ward, directory: Path) -> list[Side]:
    return [
        PerdureSide(directory / "perdure", COMMAND, more=MORE),
        sides.SupervisedSide(ward, directory / "default", sides.DEFAULT_CHECKS, "supervisord", COMMAND),
        sides.SupervisedSide(ward, directory / "fast", sides.WATCHFUL_CHECKS, "supervisord", COMMAND),
    ]


async def _on(side: Side, rows: Sequence[Row], extent: Extent) -> list[Series]:
    rng = random.Random(len(side.name))
    found: list[Series] = []
    await asyncio.to_thread(sides.wait_for_strength, side, 60.0)
    plan = load.Plan(f"http://127.0.0.1:{side.port}/", RATE, mix=MIX, connections=1024)
    async with LoadProcess(plan) as running:
        await asyncio.sleep(KNOWN_S)
        for row in rows:
            if row.own and not isinstance(side, PerdureSide):
                continue
            trials: list[Trial] = []
            error = ""
            try:
                for number in range(extent.trials * row.times):
                    trials.append(await asyncio.to_thread(_trial, side, row, rng))
                    progress(f"faults: {side.name}, {row.number}", number + 1, extent.trials * row.times)
            except BenchError as failure:
                error = str(failure)
            found.append(Series(side.name, row, tuple(trials), error))
    for one in found:
        _attribute(one.trials, running.samples)
    return found


def _trial(side: Side, row: Row, rng: random.Random) -> Trial:
    sides.wait_for_strength(side, WHOLE_S)
    time.sleep(REST_S + rng.uniform(0.0, 2.0))
    before = {port: pid for port, pid in sides.strength(side).items() if pid is not None}
    if len(before) < sides.REPLICAS:
        raise BenchError(f"{side.name} is not whole before {row.number}")
    count = {Whom.NOBODY: 0, Whom.ONE: 1, Whom.TWO: 2, Whom.ALL: sides.REPLICAS}[row.whom]
    struck = tuple(Struck(port, before[port]) for port in rng.sample(sorted(before), count))
    scene = Scene(before, struck, *_question(side, row))
    trial, over = Trial(time.monotonic()), threading.Event()
    striking = [threading.Thread(target=_strike, args=(row, one, side, over)) for one in struck or (Struck(0, 0),)]
    for thread in striking:
        thread.start()
    try:
        _watch(side, row, scene, trial)
    finally:
        over.set()
        for thread in striking:
            thread.join()
        _repair(row, struck, side)
    trial.ended_at = time.monotonic()
    return trial


def _strike(row: Row, struck: Struck, side: Side, over: threading.Event) -> None:
    while True:
        with suppress(OSError):
            row.strike(struck, side)
        if not row.again_s or over.wait(row.again_s):
            return


def _repair(row: Row, struck: Sequence[Struck], side: Side) -> None:
    if row.own:
        try:
            side.daemon_pid()
        except BenchError:
            side.revive()
    for one in struck:
        if row.heals:
            strikes.heal(one)
        else:
            strikes.undo(one)
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)


def _watch(side: Side, row: Row, scene: Scene, trial: Trial) -> None:
    """Look until what must come of the fault has come of it, or the time is up; note who else was touched."""
    before = scene.before
    may_go = row.expected in (Expected.ISOLATED, Expected.TOLD)
    ill = {one.port for one in scene.struck} if may_go else set()
    patience_s = row.within_s if row.expected is Expected.NOTHING else LATE * row.within_s + 1.0
    touched: set[int] = set()
    next_question_at = 0.0
    while time.monotonic() < trial.at + patience_s and trial.noticed_s is None:
        stats = side.stats()
        seen = runtime.view(stats, side.backends) if stats is not None else None
        passed_s = time.monotonic() - trial.at
        if seen is not None:
            touched |= before.keys() - ill - set(seen.ports)
            if row.expected is Expected.ISOLATED and not ill & set(seen.ports):
                trial.noticed_s = passed_s
        if time.monotonic() >= next_question_at:
            next_question_at = time.monotonic() + scene.ask_every_s
            if scene.noticed():
                trial.noticed_s = passed_s
        time.sleep(PERIOD_S)
    touched |= {port for port, pid in before.items() if port not in ill and not _runs(pid)}
    trial.false_actions = len(touched)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _newest(side: Side) -> int:
    if not isinstance(side, PerdureSide):
        return 0
    return max((int(event["number"]) for event in _events(side)), default=0)


def _question(side: Side, row: Row) -> tuple[Callable[[], bool], float]:
    """A question that tells whether what must come of the row has come of it, and how often to ask; what HAProxy sends
    where is looked at anyway. Only Perdure tells anything.
    """
    if row.expected is Expected.PUT_RIGHT:
        return lambda: _all_weigh_the_same(side), 0.05
    if not isinstance(side, PerdureSide):
        return lambda: False, LATE * row.within_s
    perdure = side
    match row.expected:
        case Expected.ALARM:
            after = _newest(side)
            return lambda: any(one["number"] > after and one["rule"] in ALARMS for one in _events(perdure)), 0.2
        case Expected.TOLD:
            return lambda: row.words in str(perdure.status()["services"]["web"]["sentence"]), 0.2
        case _:
            return lambda: False, LATE * row.within_s


def _all_weigh_the_same(side: Side) -> bool:
    stats = side.stats()
    weights = runtime.weights(stats, side.backends) if stats is not None else {}
    return len(weights) == sides.REPLICAS and len(set(weights.values())) == 1


def _events(side: PerdureSide) -> list[dict[str, Any]]:
    return [json.loads(line) for line in side.ask("events", "--json").splitlines()]


def _attribute(trials: Sequence[Trial], samples: Sequence[tally.Sample]) -> None:
    for trial in trials:
        within = [sample for sample in samples if trial.at <= sample.due_at <= trial.ended_at]
        trial.requests = len(within)
        trial.failed = sum(sample.outcome != tally.OK for sample in within)


def _report(series: Sequence[Series], extent: Extent) -> Report:
    order = {row.number: number for number, row in enumerate(catalogue.ROWS)}
    rows = [_cells(one) for one in sorted(series, key=lambda one: order[one.row.number])]
    return Report(
        "faults",
        "Faults: what is noticed, and how soon",
        (
            "fault",
            "side",
            "noticed",
            "in time",
            "scope right",
            "p50 / max, s",
            "allowed, s",
            "touched without cause",
            "failed requests",
        ),
        tuple(rows),
        (
            f"{extent.trials} trials each at random phases ({catalogue.OFTEN} times as many of the commonest faults);"
            f" {RATE:.0f} requests a second, four endpoints, three replicas.",
            "Noticed: who was struck gets no requests; F28: an alarm names the common cause; F2: the status says so.",
            "Scope right: nobody else was touched. B rows: nobody at all.",
            *(f"{numbers}: {where}." for numbers, where in catalogue.ELSEWHERE),
        ),
        {"series": [_figures(one) for one in series], "extent": asdict(extent)},
        tuple(f"{one.side}, {one.row.number}: {one.error}" for one in series if one.error),
    )


def _cells(one: Series) -> tuple[str, ...]:
    row, trials = one.row, one.trials
    times = sorted(trial.noticed_s for trial in trials if trial.noticed_s is not None)
    in_time = sum(seconds <= row.within_s for seconds in times)
    failed, requests = sum(trial.failed for trial in trials), sum(trial.requests for trial in trials)
    quiet = row.expected is Expected.NOTHING
    return (
        f"{row.number}: {row.name}",
        one.side,
        "" if quiet else f"{len(times)} of {len(trials)}",
        "" if quiet else f"{in_time} of {len(trials)}",
        f"{sum(_right(row, trial) for trial in trials)} of {len(trials)}",
        f"{tally.quantile(times, 0.5):.2f} / {times[-1]:.2f}" if times else "",
        "" if quiet else f"{row.within_s:g}",
        str(sum(trial.false_actions for trial in trials)),
        f"{failed:,} of {requests:,}",
    )


def _right(row: Row, trial: Trial) -> bool:
    """Whether those that were struck were held to be ill, and nobody else; for disturbances: nobody."""
    return not trial.false_actions and (row.expected is Expected.NOTHING or trial.noticed_s is not None)


def _figures(one: Series) -> dict[str, Any]:
    return {
        "side": one.side,
        "fault": one.row.number,
        "within_s": one.row.within_s,
        "error": one.error,
        "trials": [asdict(trial) for trial in one.trials],
    }
