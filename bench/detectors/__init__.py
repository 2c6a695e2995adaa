"""Failure detectors for heartbeats, replayed over recorded traces and compared at equal mean detection time.

`traces` reads them, `published` and `priced` say until when the next heartbeat is waited for, `quality` counts the
mistakes; here the table is made. The traces are not part of this repository: name a folder of CSV files.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.detectors import priced, published, quality, traces
from bench.detectors.quality import Quality
from bench.detectors.traces import Trace
from bench.processes import BenchError
from bench.report import Report, progress

SLACKS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Mean detection times, as intervals beyond the mean delay and one interval, which no detector can undercut."""
DETECTORS: dict[str, quality.Detector] = {**published.DETECTORS, "priced margin": priced.deadlines}


@dataclass(frozen=True, slots=True)
class Cell:
    """One detector on one trace at one slack; `quality` is None where it cannot be that quick."""

    trace: str
    detector: str
    slack: float
    quality: Quality | None


def run(folder: Path) -> Report:
    """Replay every trace of the folder through every detector; BenchError when there is none."""
    found = traces.load(folder)
    if not found:
        raise BenchError(f"no traces in {folder}: it needs *.csv with the columns sequence, sent_s, arrived_s")
    cells: list[Cell] = []
    for number, trace in enumerate(found, 1):
        for name, detector in DETECTORS.items():
            deadlines_of = detector(trace)
            cells += [
                Cell(trace.name, name, slack, quality.at_detection_time(trace, deadlines_of, _target_s(trace, slack)))
                for slack in SLACKS
            ]
        progress("detectors: trace", number, len(found))
    return _report(found, cells)


def _target_s(trace: Trace, slack: float) -> float:
    return trace.delay_s_mean + (1.0 + slack) * trace.interval_s


def _report(found: Sequence[Trace], cells: Sequence[Cell]) -> Report:
    rows = [
        (f"{group}, {slack:g}", *(_summed(cells, names, detector, slack) for detector in DETECTORS))
        for group, names in _groups(found).items()
        for slack in SLACKS
    ]
    return Report(
        "detectors",
        "Heartbeat detectors at equal mean detection time: mistakes an hour / accuracy / mean mistake",
        ("traces, slack", *DETECTORS),
        tuple(rows),
        (
            "slack: mean detection time of a crash beyond the mean delay and one interval, in intervals.",
            "accuracy: the share of time in which a live process is held alive.",
            "mean mistake: how long a live process that is suspected stays so.",
            "The priced margin was designed on the traces marked so, and nothing was changed after seeing the others.",
        ),
        {"cells": [asdict(cell) for cell in cells]},
    )


def _groups(found: Sequence[Trace]) -> dict[str, list[str]]:
    """Heading -> the traces below it: those of the design and the others, by interval."""
    groups: dict[str, list[str]] = {}
    for trace in found:
        half = "design" if trace.name in priced.DESIGNED_ON else "held out"
        groups.setdefault(f"{half}, {trace.interval_s * 1e3:g} ms", []).append(trace.name)
    return groups


def _summed(cells: Sequence[Cell], names: Sequence[str], detector: str, slack: float) -> str:
    chosen = [one for one in cells if one.trace in names and one.detector == detector and one.slack == slack]
    known = [one.quality for one in chosen if one.quality is not None]
    if len(known) < len(chosen):
        return "too slow"
    hours = sum(one.span_s for one in known) / 3600.0
    mistakes, mistaken_s = sum(one.mistakes for one in known), sum(one.mistaken_s for one in known)
    lasts = f"{mistaken_s / mistakes:.2f} s" if mistakes else "-"
    return f"{mistakes / hours:,.1f} / {1.0 - mistaken_s / (hours * 3600.0):.3%} / {lasts}"
