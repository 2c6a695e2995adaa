"""Writes what a bench measured: JSON for machines, one table for people, the same rows as Markdown for documents."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.processes import RESULTS


@dataclass(frozen=True, slots=True)
class Report:
    """One bench: its table, the notes below it, and all figures for the JSON file."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    """What could not be measured to its end: the files of the run are kept then."""

    def markdown(self) -> str:
        """The table and its notes."""
        lines = [f"## {self.title}", "", _row(self.columns), _row(("---",) * len(self.columns))]
        lines += [_row(row) for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in (*self.notes, *self.errors)), ""])


def publish(report: Report) -> Path:
    """Print the table, write NAME.json into bench/results, and return its path."""
    table = Table(title=report.title, title_justify="left")
    for number, column in enumerate(report.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in report.rows:
        table.add_row(*row)
    console = Console(width=None if os.isatty(1) else 160)
    console.print(table)
    for note in report.notes:
        console.print(f"  {note}", style="dim", highlight=False)
    for error in report.errors:
        console.print(f"  {error}", style="bold red", highlight=False, markup=False)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{report.name}.json"
    path.write_text(
        json.dumps({"machine": machine(), "title": report.title, "errors": report.errors, **report.figures}, indent=1)
        + "\n"
    )
    return path


def progress(what: str, done: int, of: int) -> None:
    """Say on standard error how far a bench is: one line that is written over on a terminal, else a line each."""
    end = "\n" if done == of or not sys.stderr.isatty() else ""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{start}{what}: {done} of {of}", end=end, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "measured": time.strftime("%Y-%m-%d"),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, least and greatest of at least one value."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {"median": statistics.median(values), "q1": low, "q3": high, "min": min(values), "max": max(values)}


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
