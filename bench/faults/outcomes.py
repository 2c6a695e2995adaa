"""What must come of a fault beyond who gets requests: questions to the side, each asked again and again until it is so.

Only Perdure tells anything; of the other sides HAProxy's view is all there is, and who answers behind it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import processes, runtime, sides
from bench.faults.row import Expected, Row, Whom
from bench.faults.struck import Struck
from bench.processes import BenchError
from bench.sides import PerdureSide, Side

NEVER_S = 3600.0
CRASH_S = 0.5
"""A crash may take so long to be noticed; until then requests may go where the replica was."""
ASK_EVERY_S = 0.1
AT_ONCE_S = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked during a trial, how often, and once at its end."""

    noticed: Callable[[], bool] = lambda: False
    """Has come of it what must?"""
    every_s: float = NEVER_S
    to_the_end: Callable[[], bool] = lambda: True
    """Was it so to the end?"""
    forbidden: Callable[[], int] = lambda: 0
    """How many events there were that there must not be."""
    told: Callable[[], list[str]] = list
    """What the side says of all that it did since: whoever reads that a trial went wrong wants to know why."""


def question(side: Side, row: Row, struck: Sequence[Struck]) -> Question:
    """What to ask this side about this row."""
    asked = _question(side, row, struck)
    if not isinstance(side, PerdureSide):
        return asked
    perdure, after = side, newest(side)
    return replace(asked, told=lambda: [_line(event) for event in events(perdure, after)])


def _question(side: Side, row: Row, struck: Sequence[Struck]) -> Question:
    one = struck[0]
    match row.expected:
        case Expected.ISOLATED:
            return Question(to_the_end=lambda: None not in one.relapses)
        case Expected.PUT_RIGHT:
            return Question(lambda: _all_weigh_the_same(side), ASK_EVERY_S)
        case Expected.ANOTHER_BALANCER:
            return Question(lambda: _another_answers(side, one), AT_ONCE_S, forbidden=_counted(side, row))
        case Expected.GONE:
            return Question(lambda: bool(one.family) and not any(map(runs, one.family)), ASK_EVERY_S)
        case Expected.SERVES:
            return Question(
                lambda: not runs(one.pid) and _all_answer(side),
                ASK_EVERY_S,
                lambda: all(after_s <= CRASH_S for after_s in one.strays),
                _counted(side, row),
            )
    if not isinstance(side, PerdureSide):
        return Question()
    perdure = side
    after, about = newest(side), {one.slot} if row.whom is Whom.ONE and row.expected is Expected.ALARM else set()

    def came() -> bool:
        """Whether an event tells of it."""
        return any(event["rule"] in row.rules and _is_about(event, about) for event in events(perdure, after))

    if row.expected is Expected.TOLD:
        if row.words in str(perdure.status()):
            raise BenchError(f"the status says {row.words!r} before {row.number}")
        told = came if row.rules else lambda: True
        return Question(lambda: row.words in str(perdure.status()), ASK_EVERY_S, told, _counted(side, row))
    if row.expected is Expected.ALARM:
        return Question(came, ASK_EVERY_S, forbidden=_counted(side, row))
    return Question(forbidden=_counted(side, row))


def newest(side: PerdureSide) -> int:
    """The number of the last event."""
    return max((int(event["number"]) for event in events(side, -1)), default=0)


def events(side: PerdureSide, after: int) -> list[dict[str, Any]]:
    """The events after this number; below 0: so many of the last."""
    found: list[dict[str, Any]] = side.get(f"/v1/events?after={after}")
    return found


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _counted(side: Side, row: Row) -> Callable[[], int]:
    """Counts the events from now on that the row forbids."""
    if not isinstance(side, PerdureSide) or not row.forbidden:
        return lambda: 0
    perdure, after = side, newest(side)
    return lambda: sum(event["rule"] in row.forbidden for event in events(perdure, after))


def _line(event: dict[str, Any]) -> str:
    return f"{event['rule']} {event['subject']}: {event['sentence']} {event['facts'] or ''}".rstrip()


def _is_about(event: dict[str, Any], slots: set[str]) -> bool:
    """Whether an event concerns one of these slots; with none named, any does."""
    return not slots or event["subject"] in slots


def _all_weigh_the_same(side: Side) -> bool:
    stats = side.stats()
    weights = runtime.weights(stats, side.backends) if stats is not None else {}
    return len(weights) == sides.REPLICAS and len(set(weights.values())) == 1


def _another_answers(side: Side, struck: Struck) -> bool:
    """Whether clients are answered through another HAProxy than the one that was struck."""
    stats = side.stats()
    seen = runtime.view(stats, side.backends) if stats is not None else None
    return seen is not None and bool(struck.family) and seen.pid not in struck.family and processes.answers(side.port)


def _all_answer(side: Side) -> bool:
    """Whether all replicas get requests, and each of them answers as itself."""
    return len([pid for pid in sides.strength(side).values() if pid]) == sides.REPLICAS
