"""Counts and tables of the fault bench: what was noticed, whether the scope was right, how long it took."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import tally
from bench.faults import catalogue, stages
from bench.faults.row import Expected, Row
from bench.faults.trial import Trial
from bench.report import Report


@dataclass(frozen=True, slots=True)
class Extent:
    """How often each fault is made, by Perdure and by the others, and on how many stages of each at the same time."""

    trials: int = 10
    trials_others: int = 2
    stages: int = 6
    stages_others: int = 2


QUICK = Extent(1, 1, 2)


@dataclass(frozen=True, slots=True)
class Series:
    """All trials of one fault on one side; `error` says why not all were made."""

    side: str
    row: Row
    trials: tuple[Trial, ...]
    error: str = ""


def attribute(trials: Sequence[Trial], samples: Sequence[tally.Sample]) -> None:
    """Give every request to the trial in which it was due."""
    for trial in trials:
        within = [sample for sample in samples if trial.at <= sample.due_at <= trial.ended_at]
        trial.requests = len(within)
        trial.failed = sum(sample.outcome != tally.OK for sample in within)


def report(series: Sequence[Series], extent: Extent) -> Report:
    """The table, a row for each fault and side, and what must be known to read it."""
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
            f"{extent.trials} trials each ({extent.trials_others} beside the others) at random phases"
            f" ({catalogue.OFTEN} times as many of the commonest faults);"
            f" {stages.RATE:.0f} requests a second, four endpoints, three replicas, all sides at the same time.",
            "Noticed: who was struck gets no requests, or was replaced; F33: each time that it fails; F42: it is gone"
            " with its children; F43, B8: all slots serve again; F40: clients are answered through another HAProxy.",
            "F28, F29, F31, F32, F41: an event tells what it is; F2: the status says so.",
            "Scope right: nobody else was touched (F29: but one; F31: who got the request). B rows: nobody at all, or"
            " nobody but by order; and for F41 and B7 not one request failed.",
            "Datasette is a program that we did not write: all harm is done from outside.",
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
    if trial.false_actions or (row.none_fails and trial.failed):
        return False
    return row.expected is Expected.NOTHING or trial.noticed_s is not None


def _figures(one: Series) -> dict[str, Any]:
    return {
        "side": one.side,
        "fault": one.row.number,
        "within_s": one.row.within_s,
        "error": one.error,
        "trials": [asdict(trial) for trial in one.trials],
    }
