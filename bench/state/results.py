"""What the bench of the state found, as a table, with the aims beside it and misses marked."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.report import Report
from bench.state.cost import Cost
from bench.state.database import Shape
from bench.state.loss import COPIES, EVERY_S, PATIENCE_S, Lost

OURS = "Perdure"
ABSENT = "-"
TOO_FEW = f"under {COPIES} copies in {PATIENCE_S:g} s"
PREVIEW_S_MAX = 3.0
KEPT_SHARE_MAX = 0.15
UNDO_S_MAX = 5.0
MB = 1e6


@dataclass(frozen=True, slots=True)
class Extent:
    """How large the database is, and how often everything is done."""

    rows: int = 1_000_000
    size_bytes: int = 400_000_000
    changed: int = 10_000
    rounds: int = 3
    """First copies, and copies after changes of each shape."""
    switches: int = 5
    trials: int = 10
    """Kills of each side."""


QUICK = Extent(50_000, 20_000_000, 500, 2, 2, 2)


@dataclass(slots=True)
class Found:
    """What was measured. Lists are by the name of the side, one value for each round or trial."""

    size_bytes: int = 0
    base: dict[str, list[Cost]] = field(default_factory=dict)
    following: dict[Shape, dict[str, list[Cost]]] = field(default_factory=dict)
    restored_s: dict[str, list[float]] = field(default_factory=dict)
    checked_s: dict[str, list[float]] = field(default_factory=dict)
    """The same with a check of the integrity."""
    preview_s: dict[Shape, list[float]] = field(default_factory=dict)
    inexact: list[str] = field(default_factory=list)
    """Previews that were not what was changed."""
    same: dict[str, list[bool]] = field(default_factory=dict)
    """Whether the rows that came back were those that had been copied."""
    switch_s: list[float] = field(default_factory=list)
    undo_s: list[float] = field(default_factory=list)
    machine_lost: dict[str, list[Lost]] = field(default_factory=dict)
    process_killed: dict[str, list[Lost]] = field(default_factory=dict)
    snapshot_s: list[float] = field(default_factory=list)
    """How long Perdure's snapshots took while rows were written, without the first one, which copies all."""


def report(found: Found, sides: Sequence[str], notes: Sequence[str], errors: Sequence[str] = ()) -> Report:
    """The table: a row for each question, a column for each side."""
    rows: list[tuple[str, ...]] = []

    def add(what: str, cell: Callable[[str], str]) -> None:
        rows.append((what, *(cell(side) for side in sides)))

    _costs(add, "first copy", found.base, found.size_bytes)
    for shape, costs in found.following.items():
        _costs(add, f"1 % changed {shape}", costs, found.size_bytes)
    add("put back, s", lambda side: compared(found.restored_s, side))
    add("put back and checked, s", lambda side: compared(found.checked_s, side))
    add("the same rows came back", lambda side: _all_of(found.same.get(side, ())))
    for shape, times in found.preview_s.items():
        add(f"what would be lost, {shape}, s", _only_ours(both(times, "{:.2f}")))
    add("switch to it, s", _only_ours(both(found.switch_s, "{:.3f}")))
    add("undo, s", _only_ours(both(found.undo_s, "{:.3f}")))
    add("machine lost: rows lost", lambda side: _rows_lost(found.machine_lost.get(side)))
    add("machine lost: seconds lost", lambda side: _seconds_lost(found.machine_lost.get(side)))
    add("process killed: rows lost", lambda side: _rows_lost(found.process_killed.get(side)))
    return Report(
        "state",
        f"State: a database of {found.size_bytes / MB:,.0f} MB copied, looked through, put back, and lost",
        ("what", *sides),
        tuple(rows),
        (*aims(found), *notes),
        figures(found),
        tuple(errors),
    )


def figures(found: Found) -> dict[str, Any]:
    """All of it, for JSON."""
    return asdict(found)


def aims(found: Found) -> list[str]:
    """Each aim of the design, whether it is met, and by what."""
    previews = [one for times in found.preview_s.values() for one in times]
    kept = [one.kept_bytes for costs in found.following.values() for one in costs.get(OURS, ())]
    share = max(kept) / found.size_bytes
    machine = [one.seconds for one in found.machine_lost.get(OURS, ()) if one.seconds is not None]
    allowed_s = EVERY_S + max(found.snapshot_s, default=0.0)
    lost = [one.rows for one in found.process_killed.get(OURS, ())]
    told = [
        _aim("preview", f"{max(previews):.2f} s", f"{PREVIEW_S_MAX:g} s", max(previews) <= PREVIEW_S_MAX),
        _aim("previews that are not exact", f"{len(found.inexact)} of {len(previews)}", "0", not found.inexact),
        _aim("kept for 1 % changed", f"{share:.1%}", f"{KEPT_SHARE_MAX:.0%}", share <= KEPT_SHARE_MAX),
        _aim("undo", f"{max(found.undo_s):.3f} s", f"{UNDO_S_MAX:g} s", max(found.undo_s) <= UNDO_S_MAX),
    ]
    if lost:
        worst = None if None in lost else max(one for one in lost if one is not None)
        told.append(_aim("rows lost with the process", "all" if worst is None else f"{worst}", "0", worst == 0))
    if machine:
        limit = f"`every` + one snapshot = {allowed_s:.1f} s"
        told.append(_aim("lost with the machine", f"{max(machine):.1f} s", limit, max(machine) <= allowed_s))
    return told


def _aim(what: str, value: str, limit: str, met: bool) -> str:
    return f"aim: {what} at most {limit}: {value}, {'met' if met else 'MISSED'}."


def both(values: Sequence[float], form: str) -> str:
    """Median and maximum; a dash for none."""
    return f"{form.format(statistics.median(values))} / {form.format(max(values))}" if values else ABSENT


def compared(values: Mapping[str, Sequence[float]], side: str, form: str = "{:.2f}") -> str:
    """The same, and for the others in how many times ours they did it: the median of the ratios, round by round."""
    mine, ours = values.get(side, ()), values.get(OURS, ())
    text = both(mine, form)
    if side == OURS or not mine or len(mine) != len(ours) or not all(ours):
        return text
    return f"{text} (x{statistics.median(a / b for a, b in zip(mine, ours, strict=True)):.2g})"


def _costs(
    add: Callable[[str, Callable[[str], str]], None], what: str, costs: Mapping[str, Sequence[Cost]], size_bytes: int
) -> None:
    took = {side: [one.took_s for one in some] for side, some in costs.items()}
    cpu = {side: [one.cpu_s for one in some] for side, some in costs.items()}
    if what == "first copy":
        speed = {side: [size_bytes / MB / one for one in some] for side, some in took.items()}
        add(f"{what}, MB/s (median / least)", lambda side: _speed(speed.get(side, ())))
    add(f"{what}, s", lambda side: compared(took, side))
    add(f"{what}, CPU s", lambda side: compared(cpu, side))

    def kept(side: str) -> str:
        bytes_ = [one.kept_bytes for one in costs.get(side, ())]
        return f"{max(bytes_) / MB:,.1f} ({max(bytes_) / size_bytes:.1%})" if bytes_ else ABSENT

    def written(side: str) -> str:
        bytes_ = [one.written_bytes for one in costs.get(side, ())]
        return f"{max(bytes_) / MB:,.0f}" if bytes_ else ABSENT

    add(f"{what}, MB kept (of the size)", kept)
    add(f"{what}, MB written", written)


def _speed(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} / {min(values):.0f}" if values else ABSENT


def _only_ours(text: str) -> Callable[[str], str]:
    return lambda side: text if side == OURS else ABSENT


def _all_of(values: Sequence[bool]) -> str:
    return f"{sum(values)} of {len(values)}" if values else ABSENT


def _rows_lost(trials: Sequence[Lost] | None) -> str:
    if not trials:
        return ABSENT
    rows = [one.rows for one in trials if one.rows is not None]
    never = len(trials) - len(rows)
    if not rows:
        return f"{TOO_FEW}, {never} of {never} times"
    return both(rows, "{:.0f}") + (f"; {TOO_FEW}, {never} of {len(trials)} times" if never else "")


def _seconds_lost(trials: Sequence[Lost] | None) -> str:
    return both([one.seconds for one in trials or () if one.seconds is not None], "{:.1f}")
