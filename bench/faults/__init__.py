"""What is noticed, how soon, and who is touched for nothing: the faults of `catalogue`, side by side.

A *stage* is one side at work: three replicas behind a HAProxy, and the open-loop load of `bench.load`, 20 requests a
second for each replica over four endpoints. All sides run at the same time, each on several stages that share its
faults between them; what would disturb the neighbours is made afterwards, on one stage alone. `trial` makes one fault,
`results` counts.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench import load, monit, sides
from bench.faults import catalogue, results, strikes, trial
from bench.faults.catalogue import Row
from bench.faults.results import QUICK, Extent, Series
from bench.faults.trial import Trial
from bench.load_process import LoadProcess
from bench.processes import BenchError, Ward
from bench.report import Report, progress
from bench.sides import PerdureSide, Side

__all__ = ("QUICK", "Extent", "run")

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
KNOWN_S = 45.0
"""Load before the first fault: response times count from half a minute on."""
TURN = 5
"""So many trials of one fault are made in a row before another stage may take its place."""
PORTS_OF_A_STAGE = 400


@dataclass(slots=True)
class Work:
    """What is still to be made on one kind of side, shared by its stages, and what came of it."""

    make: Callable[[int], Side]
    """A side for stage number n."""
    stages: int
    trials: int
    turns: deque[tuple[Row, int]] = field(default_factory=deque)
    alone: deque[tuple[Row, int]] = field(default_factory=deque)
    found: dict[str, list[Trial]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    name: str = ""
    planned: int = 0

    def plan(self, rows: Sequence[Row], own: bool) -> None:
        """Share the trials of the rows out, those that take longest first."""
        for row in sorted(rows, key=lambda row: -row.within_s - row.rest_s):
            if row.own and not own:
                continue
            left = self.trials * row.times
            while left > 0:
                (self.alone if row.alone else self.turns).append((row, min(TURN, left)))
                left -= TURN
        self.planned = self.todo

    @property
    def todo(self) -> int:
        """Trials that nobody has begun."""
        return sum(count for _, count in (*self.turns, *self.alone))


async def run(extent: Extent, directory: Path, only: Sequence[str] = (), numbers: Sequence[str] = ()) -> Report:
    """Make every fault (`numbers`: these alone) on every side (`only`: those whose name contains one of these)."""
    rows = [row for row in catalogue.ROWS if not numbers or row.number in numbers or row.number.split()[0] in numbers]
    with Ward(directory) as ward:
        works = _works(ward, directory, extent, only)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(8 + 2 * sum(one.stages for one in works)))
        for work in works:
            work.plan(rows, own=work is works[0] and work.name == PerdureSide.name)
        async with asyncio.TaskGroup() as group:
            for work in works:
                for number in range(min(work.stages, len(work.turns))):
                    group.create_task(_stage(work, number, work.turns), name=f"{work.name}, stage {number}")
        for work in works:
            if work.alone:
                await _stage(work, work.stages, work.alone)
    series = [
        Series(work.name, row, tuple(work.found.get(row.number, ())), work.errors.get(row.number, ""))
        for work in works
        for row in rows
        if row.number in work.found or row.number in work.errors
    ]
    return results.report(series, extent)


def _works(ward: Ward, directory: Path, extent: Extent, only: Sequence[str]) -> list[Work]:
    """The sides that are wanted; Monit where it is installed."""

    def perdure(stage: int) -> Side:
        first = 21_000 + PORTS_OF_A_STAGE * stage
        ports = f"{first}-{first + PORTS_OF_A_STAGE - 1}"
        return PerdureSide(directory / f"perdure-{stage}", COMMAND, more=MORE, ports=ports)

    def supervised(checks: sides.Checks) -> Callable[[int], Side]:
        return lambda stage: sides.SupervisedSide(
            ward, directory / f"{checks.short}-{stage}", checks, "supervisord", COMMAND
        )

    def beside_monit(stage: int) -> Side:
        return monit.MonitSide(ward, directory / f"monit-{stage}", COMMAND)

    few, stages = extent.trials_others, extent.stages_others
    works = [
        Work(perdure, extent.stages, extent.trials, name=PerdureSide.name),
        *(
            Work(supervised(checks), stages, few, name=sides.SupervisedSide.called(checks, "supervisord"))
            for checks in (sides.DEFAULT_CHECKS, sides.WATCHFUL_CHECKS)
        ),
    ]
    if monit.program() is not None:
        works.append(Work(beside_monit, stages, few, name=monit.NAME))
    return [one for one in works if not only or any(word in one.name for word in only)]


async def _stage(work: Work, number: int, turns: deque[tuple[Row, int]]) -> None:
    """One side and its clients, from start to end; it takes turns from those that are left."""
    side = work.make(number)
    rng = random.Random(f"{work.name} {number}")
    made: list[Trial] = []
    try:
        await asyncio.to_thread(side.start)
        await asyncio.to_thread(sides.wait_for_strength, side, 60.0)
        plan = load.Plan(f"http://127.0.0.1:{side.port}/", results.RATE, mix=MIX, connections=1024)
        async with LoadProcess(plan) as running:
            await asyncio.sleep(KNOWN_S)
            while turns:
                row, count = turns.popleft()
                for _ in range(count):
                    try:
                        one = await asyncio.to_thread(trial.make, side, row, rng)
                    except BenchError as failure:
                        work.errors[row.number] = str(failure)
                        break
                    made.append(one)
                    work.found.setdefault(row.number, []).append(one)
                progress(f"faults: {work.name}", work.planned - work.todo, work.planned)
        results.attribute(made, running.samples)
    finally:
        await asyncio.to_thread(side.stop)
