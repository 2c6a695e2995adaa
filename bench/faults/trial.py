"""One trial of a fault: wait until all is whole, strike at a random phase, look until it was noticed, and clean up.

Looking means HAProxy's own view, so that all sides are judged alike; what only Perdure can tell is asked in `outcomes`.
Neighbours: `catalogue` says what is done and what must come of it, `strikes` does it.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bench import runtime, sides
from bench.faults import outcomes, strikes
from bench.faults.outcomes import Question
from bench.faults.row import Expected, Row, Whom
from bench.faults.struck import Struck
from bench.processes import BenchError
from bench.sides import Side

PERIOD_S = 0.02
LATE = 1.5
"""So much longer than allowed is waited, to tell late from never."""
WHOLE_S = 150.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Who was there before the strike (port -> pid), who is struck, and what is asked then."""

    before: dict[int, int]
    struck: tuple[Struck, ...]
    question: Question


@dataclass(slots=True)
class Trial:
    """One fault. `noticed_s` counts from the strike; None: not within the time that was waited."""

    at: float
    noticed_s: float | None = None
    false_actions: int = 0
    """Replicas that were isolated or replaced though nothing was done to them, or nothing should have come of it; more
    than the row allows.
    """
    ended_at: float = 0.0
    relapses_s: list[float | None] = field(default_factory=list)
    """Of each time that it was ill: how long until it got no requests."""
    strays_s: list[float] = field(default_factory=list)
    """When a request of a client reached a stranger."""
    requests: int = 0
    failed: int = 0
    told: list[str] = field(default_factory=list)
    """What the side did meanwhile, in its own words, when somebody else was touched or nothing was noticed."""


def make(side: Side, row: Row, rng: random.Random, rest_s: float) -> Trial:
    """Strike once, when all were well for `rest_s`. Raises BenchError when the side does not become whole before."""
    sides.wait_for_strength(side, WHOLE_S)
    time.sleep(rest_s + rng.uniform(0.0, 2.0))
    before = {port: pid for port, pid in sides.strength(side).items() if pid is not None}
    if len(before) < sides.REPLICAS:
        raise BenchError(f"{side.name} is not whole before {row.number}")
    count = {Whom.NOBODY: 0, Whom.ONE: 1, Whom.TWO: 2, Whom.ALL: sides.REPLICAS}[row.whom]
    struck = tuple(Struck(port, before[port]) for port in rng.sample(sorted(before), count))
    told = struck or (Struck(0, 0),)
    scene = Scene(before, struck, outcomes.question(side, row, told))
    trial = Trial(time.monotonic())
    failures: list[str] = []
    striking = [threading.Thread(target=_strike, args=(row, one, side, failures)) for one in told]
    for thread in striking:
        thread.start()
    try:
        _watch(side, row, scene, trial)
    finally:
        for one in told:
            one.over.set()
        for thread in striking:
            thread.join()
        _repair(row, told, side)
    trial.ended_at = time.monotonic()
    if failures:
        raise BenchError(f"{row.number} could not be made: {failures[0]}")
    return trial


def _strike(row: Row, struck: Struck, side: Side, failures: list[str]) -> None:
    try:
        while True:
            with suppress(OSError):
                row.strike(struck, side)
            if not row.again_s or struck.over.wait(row.again_s):
                return
    except BenchError as failure:
        failures.append(str(failure))


def _repair(row: Row, struck: Sequence[Struck], side: Side) -> None:
    """Take back what was done; heal those of whom nothing was to come, and end the others, so that the next trial meets
    new replicas.
    """
    for one in struck:
        one.afterwards.close()
        if not one.pid:
            continue
        if row.heals:
            strikes.heal(one, side)
        else:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
    if row.own:
        try:
            side.daemon_pid()
        except BenchError:
            side.revive()


def _watch(side: Side, row: Row, scene: Scene, trial: Trial) -> None:
    """Look until what must come of the fault has come of it, or the time is up; note who else was touched."""
    before, question = scene.before, scene.question
    ill = {} if row.heals else {one.port: one.pid for one in scene.struck}
    patience_s = row.within_s if row.expected is Expected.NOTHING else max(LATE * row.within_s + 1.0, row.lasts_s)
    touched: set[int] = set()
    next_question_at = 0.0
    while (passed_s := time.monotonic() - trial.at) < (patience_s if trial.noticed_s is None else row.lasts_s):
        stats = side.stats()
        seen = runtime.view(stats, side.backends) if stats is not None else None
        passed_s = time.monotonic() - trial.at
        if seen is not None:
            if row.expected is not Expected.ANOTHER_BALANCER:  # a new one knows its servers a moment later
                touched |= before.keys() - ill.keys() - set(seen.ports)
            isolated = row.expected is Expected.ISOLATED and not _still_asked(side, ill, seen.ports)
            if isolated and trial.noticed_s is None:
                trial.noticed_s = passed_s
        if trial.noticed_s is None and time.monotonic() >= next_question_at:
            next_question_at = time.monotonic() + question.every_s
            if question.noticed():
                trial.noticed_s = time.monotonic() - trial.at
        time.sleep(PERIOD_S)
    touched |= {port for port, pid in before.items() if port not in ill and not outcomes.runs(pid)}
    if not question.to_the_end():
        trial.noticed_s = None
    trial.relapses_s = [after_s for one in scene.struck for after_s in one.relapses]
    trial.strays_s = [after_s for one in scene.struck for after_s in one.strays]
    trial.false_actions = max(0, len(touched) - row.spare) + question.forbidden()
    if trial.false_actions or (trial.noticed_s is None and row.expected is not Expected.NOTHING):
        trial.told = question.told()


def _still_asked(side: Side, ill: dict[int, int], ports: Sequence[int]) -> bool:
    """Whether any of those that were struck gets requests; a port that another process has taken over is well."""
    return any(port in ports and (outcomes.runs(pid) or side.program.pid(port) is None) for port, pid in ill.items())
