"""One trial of a fault: wait until all is whole, strike at a random phase, look until it was noticed, and clean up.

Looking means HAProxy's own view, so that all sides are judged alike; what only Perdure can tell is asked in `outcomes`.
Neighbours: `catalogue` says what is done and what must come of it, `strikes` does it.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import runtime, sides
from bench.faults import outcomes, strikes
from bench.faults.catalogue import Expected, Row, Whom
from bench.faults.strikes import Struck
from bench.processes import BenchError
from bench.sides import Side

PERIOD_S = 0.02
LATE = 1.5
"""So much longer than allowed is waited, to tell late from never."""
WHOLE_S = 150.0


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


def make(side: Side, row: Row, rng: random.Random) -> Trial:
    """Strike once. Raises BenchError when the side does not become whole before."""
    sides.wait_for_strength(side, WHOLE_S)
    time.sleep(row.rest_s + rng.uniform(0.0, 2.0))
    before = {port: pid for port, pid in sides.strength(side).items() if pid is not None}
    if len(before) < sides.REPLICAS:
        raise BenchError(f"{side.name} is not whole before {row.number}")
    count = {Whom.NOBODY: 0, Whom.ONE: 1, Whom.TWO: 2, Whom.ALL: sides.REPLICAS}[row.whom]
    struck = tuple(Struck(port, before[port]) for port in rng.sample(sorted(before), count))
    scene = Scene(before, struck, *outcomes.question(side, row))
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
    """Heal those of whom nothing was to come; end the others, so that the next trial meets new replicas."""
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
    ill = {one.port: one.pid for one in scene.struck} if may_go else {}
    patience_s = row.within_s if row.expected is Expected.NOTHING else LATE * row.within_s + 1.0
    touched: set[int] = set()
    next_question_at = 0.0
    while time.monotonic() < trial.at + patience_s and trial.noticed_s is None:
        stats = side.stats()
        seen = runtime.view(stats, side.backends) if stats is not None else None
        passed_s = time.monotonic() - trial.at
        if seen is not None:
            touched |= before.keys() - ill.keys() - set(seen.ports)
            if row.expected is Expected.ISOLATED and not _still_asked(ill, seen.ports):
                trial.noticed_s = passed_s
        if time.monotonic() >= next_question_at:
            next_question_at = time.monotonic() + scene.ask_every_s
            if scene.noticed():
                trial.noticed_s = passed_s
        time.sleep(PERIOD_S)
    touched |= {port for port, pid in before.items() if port not in ill and not runs(pid)}
    trial.false_actions = len(touched)


def _still_asked(ill: dict[int, int], ports: Sequence[int]) -> bool:
    """Whether any of those that were struck gets requests; a port that another process has taken over is well."""
    return any(port in ports and (runs(pid) or sides.replica_pid(port) is None) for port, pid in ill.items())


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
