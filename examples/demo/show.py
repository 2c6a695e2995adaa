"""What the audience sees: a live table on a terminal, plain lines without one, and the figures at the end.

It prints what it is told and counts nothing itself. `demo` tells, `stage` is where the facts come from.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.tally import Result
from examples.demo.stage import Sight
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

STYLES = {"ready": "green", "suspect": "yellow", "isolated": "red", "stopping": "red", "stopped": "red"}
PLAIN_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one fault cost. None: does not apply, or was not seen."""

    name: str
    requests: int
    failed: int
    resent: int
    slowest_s: float
    isolated_s: float | None
    whole_s: float | None


@dataclass(slots=True)
class Show:
    """Tells the story on a console; `sight` and `load` are brought up to date while it runs."""

    console: Console
    sight: Sight = field(default_factory=lambda: Sight(0.0))
    load: Result = field(default_factory=Result)
    breaking: str = "nothing"
    _live: Live | None = None
    _started_at: float = field(default_factory=time.monotonic)
    _told_at: float = 0.0

    def __enter__(self) -> "Show":
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, sentence: str) -> None:
        """One line of the story."""
        passed_s = time.monotonic() - self._started_at
        self.console.print(f"{passed_s:5.1f} s  {sentence}", highlight=False, soft_wrap=True, markup=False)

    def refresh(self) -> None:
        """Without a terminal: now and then a line on how things stand."""
        if self._live is None and time.monotonic() - self._told_at >= PLAIN_EVERY_S:
            self._told_at = time.monotonic()
            slots = ", ".join(f"{one['slot']} {one['state']}" for one in self.sight.replicas) or "unknown"
            self.say(f"    {slots}; {self._counts()}")

    def _counts(self) -> str:
        return f"{self.load.sent:,} requests so far, {self.load.failed:,} failed"

    def _table(self) -> RenderableType:
        table = Table(title="Perdure keeps Datasette answering", title_justify="left", min_width=60)
        for column in ("part", "state", "pid", "gets requests"):
            table.add_column(column)
        for one in self.sight.replicas:
            state, carried = str(one["state"]), one["port"] in self.sight.carried
            pid = str(one["pid"] or "")
            table.add_row(one["slot"], Text(state, STYLES.get(state, "")), pid, "yes" if carried else "no")
        table.add_row("HAProxy", *_alive(self.sight.haproxy_pid), "")
        table.add_row("daemon", *_alive(self.sight.daemon_pid), "")
        now = Text(f"broken now: {self.breaking}", "bold")
        return Group(table, now, Text(self._counts()))


def figures(console: Console, found: Sequence[Figures]) -> None:
    """The table at the end."""
    table = Table(
        title="What the clients noticed",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in ("fault", "requests", "failed", "sent again", "longest", "isolated", "whole"):
        table.add_column(column, justify="left" if column == "fault" else "right", no_wrap=True)
    for one in found:
        times = [_milliseconds(value) for value in (one.slowest_s, one.isolated_s, one.whole_s)]
        table.add_row(one.name, f"{one.requests:,}", f"{one.failed:,}", f"{one.resent:,}", *times)
    console.print(table)


def _alive(pid: int | None) -> tuple[Text, str]:
    return (Text("runs", "green"), str(pid)) if pid is not None else (Text("away", "red"), "")


def _milliseconds(value_s: float | None) -> str:
    return "-" if value_s is None else f"{value_s * 1e3:,.0f} ms"
