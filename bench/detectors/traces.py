"""Recorded heartbeats: when each was sent and when it arrived; a lost one is missing."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from bench.processes import BenchError


@dataclass(frozen=True, slots=True)
class Arrival:
    """A heartbeat that arrived; both instants in seconds of one clock."""

    sequence: int
    sent_s: float
    arrived_s: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Fresh arrivals in their order; one that was overtaken by a later one tells nothing and is left out."""

    name: str
    interval_s: float
    arrivals: tuple[Arrival, ...]

    @property
    def delay_s_mean(self) -> float:
        """From sending to arriving."""
        return fmean(one.arrived_s - one.sent_s for one in self.arrivals)


def load(folder: Path) -> list[Trace]:
    """All traces of a folder, by name; raises BenchError for a file that is none."""
    return [_trace(path) for path in sorted(folder.glob("*.csv"))]


def fresh(arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    """Those that were newer than all before, in the order in which they arrived."""
    kept: list[Arrival] = []
    for one in sorted(arrivals, key=lambda arrival: arrival.arrived_s):
        if not kept or one.sequence > kept[-1].sequence:
            kept.append(one)
    return tuple(kept)


def _trace(path: Path) -> Trace:
    try:
        with path.open(newline="") as file:
            rows = [
                Arrival(int(row["sequence"]), float(row["sent_s"]), float(row["arrived_s"]))
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{path}: not a trace with the columns sequence, sent_s, arrived_s ({error!r})") from error
    if len(rows) < 2:
        raise BenchError(f"{path}: a trace needs two heartbeats at least")
    rows.sort(key=lambda row: row.sequence)
    interval_s = median(
        (later.sent_s - one.sent_s) / (later.sequence - one.sequence)
        for one, later in itertools.pairwise(rows)
        if later.sequence > one.sequence
    )
    return Trace(path.stem, interval_s, fresh(rows))
