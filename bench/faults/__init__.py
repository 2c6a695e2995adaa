"""What is noticed, how soon, and who is touched for nothing: the faults of `catalogue`, side by side.

All sides run at the same time, each on several *stages* (`stages`: a program, its replicas behind HAProxy, its clients)
that share its faults between them; what would disturb the neighbours is made afterwards, on one stage alone. `trial`
makes one fault, `results` counts.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench import monit, sides
from bench.faults import catalogue, results, stages, trial
from bench.faults.results import QUICK, Extent, Series
from bench.faults.row import Row
from bench.faults.stages import Stage
from bench.faults.trial import Trial
from bench.load_process import LoadProcess
from bench.processes import BenchError, Ward
from bench.report import Report, progress
from bench.sides import PerdureSide, Side

__all__ = ("QUICK", "Extent", "run")

TURN = 5
"""So many trials of one fault are made in a row before another stage may take its place."""
PORTS_OF_A_STAGE = 400
Turns = deque[tuple[Row, int]]


@dataclass(slots=True)
class Work:
    """What is still to be made on one kind of side, shared by its stages, and what came of it."""

    make: Callable[[str, Stage, int], Side]
    """A side for a kind of stage, by its name, and the stage's number."""
    stages: int
    trials: int
    turns: dict[str, Turns] = field(default_factory=dict)
    """By the name of what they are played on."""
    alone: dict[str, Turns] = field(default_factory=dict)
    found: dict[str, list[Trial]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    name: str = ""
    planned: int = 0

    def plan(self, rows: Sequence[Row], own: bool) -> None:
        """Share the trials of the rows out, those that take longest first."""
        for row in sorted(rows, key=lambda row: -max(row.within_s, row.lasts_s) - row.rest_s):
            if row.own and not own:
                continue
            left = row.trials(self.trials)
            while left > 0:
                turns = (self.alone if row.alone else self.turns).setdefault(row.stage, deque())
                turns.append((row, min(TURN, left)))
                left -= TURN
        self.planned = self.todo

    @property
    def todo(self) -> int:
        """Trials that nobody has begun."""
        return sum(count for turns in (*self.turns.values(), *self.alone.values()) for _, count in turns)


async def run(extent: Extent, directory: Path, only: Sequence[str] = (), numbers: Sequence[str] = ()) -> Report:
    """Make every fault (`numbers`: these alone) on every side (`only`: those whose name contains one of these)."""
    rows = [row for row in catalogue.ROWS if not numbers or row.number in numbers or row.number.split()[0] in numbers]
    with Ward(directory) as ward:
        works = _works(ward, directory, extent, only)
        built = {name: stages.made(name, directory) for name in {row.stage for row in rows}}
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(8 + 2 * sum(one.stages for one in works)))
        for work in works:
            work.plan(rows, own=work is works[0] and work.name == PerdureSide.name)
        async with asyncio.TaskGroup() as group:
            for work in works:
                for number in range(work.stages):
                    group.create_task(_plays(work, number, work.turns, built), name=f"{work.name}, stage {number}")
        for work in works:
            await _plays(work, work.stages, work.alone, built)
    series = [
        Series(work.name, row, tuple(work.found.get(row.number, ())), work.errors.get(row.number, ""))
        for work in works
        for row in rows
        if row.number in work.found or row.number in work.errors
    ]
    return results.report(series, extent)


def _works(ward: Ward, directory: Path, extent: Extent, only: Sequence[str]) -> list[Work]:
    """The sides that are wanted; Monit where it is installed."""

    def perdure(name: str, stage: Stage, number: int) -> Side:
        first = 21_000 + PORTS_OF_A_STAGE * number
        ports = f"{first}-{first + PORTS_OF_A_STAGE - 1}"
        home = directory / f"perdure-{name}-{number}"
        return PerdureSide(home, stage.program, more=stage.more, checks=stage.checks, ports=ports)

    def supervised(checks: sides.Checks) -> Callable[[str, Stage, int], Side]:
        return lambda name, stage, number: sides.SupervisedSide(
            ward, directory / f"{checks.short}-{name}-{number}", checks, "supervisord", stage.program
        )

    def beside_monit(name: str, stage: Stage, number: int) -> Side:
        return monit.MonitSide(ward, directory / f"monit-{name}-{number}", stage.program)

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


async def _plays(work: Work, number: int, turns: dict[str, Turns], built: dict[str, Stage]) -> None:
    """One stage after the other, as long as there is anything to be played on it."""
    for name in stages.NAMES:
        if turns.get(name) and (number < built[name].at_once or turns is work.alone):
            rng = random.Random(f"{work.name} {name} {number}")
            waiting = turns[name][0][0].number
            try:
                await _stage(work, work.make(name, built[name], number), built[name], turns[name], rng)
            except BenchError as failure:
                # Other stages go on, and a long run keeps what it has found.
                work.errors.setdefault(waiting, f"on stage {number}: {failure}")


async def _stage(work: Work, side: Side, stage: Stage, turns: Turns, rng: random.Random) -> None:
    """One side and its clients, from start to end; it takes turns from those that are left."""
    made: list[Trial] = []
    left_s = 0.0
    turn: tuple[Row, int] | None = turns.popleft()
    try:
        await asyncio.to_thread(side.start)
        await asyncio.to_thread(sides.wait_for_strength, side, 60.0)
        async with LoadProcess(stage.plan(side.port)) as running:
            await asyncio.sleep(stage.known_s)
            while turn is not None:
                row, count = turn
                for _ in range(count):
                    try:
                        one = await asyncio.to_thread(trial.make, side, row, rng, max(row.rest_s, left_s))
                    except BenchError as failure:
                        work.errors[row.number] = str(failure)
                        break
                    made.append(one)
                    work.found.setdefault(row.number, []).append(one)
                progress(f"faults: {work.name}", work.planned - work.todo, work.planned)
                left_s = row.rest_s
                turn = turns.popleft() if turns else None
        results.attribute(made, running.samples)
    finally:
        await asyncio.to_thread(side.stop)
