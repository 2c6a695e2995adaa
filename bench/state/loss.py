"""What is lost when it ends at any moment: rows that were acknowledged and are not in the newest copy.

A trial: the writer writes, copies are made in the background each second; once two were completed, a random while
passes, and the writer and whoever copies are killed (SIGKILL) in the same instant, as if the machine were lost and only
finished copies survived. The newest one is restored and its rows are counted. For Perdure that is half of the trial:
the keeper is then asked for one last copy of what the dead writer left, as the daemon does it before another slot takes
over, and that is restored and counted, too.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.processes import BenchError
from bench.report import progress
from bench.state import copiers, cost, database, litestream
from bench.state.copiers import Perdure, Sqlite
from bench.state.litestream import Litestream
from bench.state.writer import Writer
from perdure.control.preserve import LOOK_S
from perdure.model.errors import UnavailableError
from perdure.model.snapshot import Manifest
from perdure.prevent import snapshot

EVERY_S = 1.0
RATE = 200.0
REST_S_MAX = 3.0
"""Between the second finished copy and the kill, at most."""
COPIES = 2
"""The first one may have begun before the first row was written."""
LISTEN_S = 0.02
TRIES_MAX = 20
PATIENCE_S = 20.0
"""Whoever has not finished them by then will not."""
GIVEN_UP = 2
"""So many trials in which no copy was finished are enough."""


@dataclass(frozen=True, slots=True)
class Lost:
    """One trial, or half of one. `rows`: acknowledged and not in the newest copy; None: no copy was finished while rows
    were written, in the patience that it got.
    """

    acknowledged: int
    rows: int | None
    seconds: float | None
    """From the first lost row to the kill."""


class Copying(Protocol):
    """Copies that are made in the background."""

    name: str
    live: Path
    checkpoint_pages: int

    def start(self) -> None:
        """Begin; what was copied before stays."""

    def finished(self) -> int:
        """A number that grows with each finished copy."""

    def kill(self) -> None:
        """End it in this instant."""

    async def after(self) -> None:
        """Put away what is left of it."""

    async def restore(self, target: Path) -> None:
        """Put the newest finished copy into a file."""

    async def close(self) -> None:
        """End what runs."""


async def series(copying: Copying, trials: int, directory: Path, again: bool = False) -> tuple[list[Lost], list[Lost]]:
    """Several trials: what was lost with the machine, and (`again`) with the process alone."""
    rng = random.Random(copying.name)
    machine: list[Lost] = []
    process: list[Lost] = []
    try:
        for number in range(1, trials + 1):
            struck = await _killed(copying, rng)
            machine.append(await _counted(copying, struck, directory))
            if again:
                assert isinstance(copying, Snapshots)
                await copying.last_copy()
                process.append(await _counted(copying, struck, directory))
            progress(f"state: kill, {copying.name}", number, trials)
            if number == GIVEN_UP and all(one.rows is None for one in machine):
                break
    finally:
        await copying.close()
    return machine, process


@dataclass(frozen=True, slots=True)
class _Struck:
    acknowledged: int
    """The last row."""
    at: float
    """Unix time."""
    copied: bool
    """Whether a copy was finished while rows were written."""


async def _killed(copying: Copying, rng: random.Random) -> _Struck:
    copying.start()
    writer = Writer(copying.live, RATE, copying.checkpoint_pages)
    try:
        began_at = time.monotonic()
        await _until(lambda: writer.last, PATIENCE_S)
        enough = copying.finished() + COPIES
        await _until(lambda: copying.finished() >= enough, PATIENCE_S - (time.monotonic() - began_at))
        await asyncio.sleep(rng.uniform(0.0, REST_S_MAX))
        copied = copying.finished() >= enough
    finally:
        writer.kill()
        copying.kill()
        killed_at = time.time()
        await copying.after()
    await asyncio.to_thread(writer.bury)
    return _Struck(writer.last, killed_at, copied)


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Wait for a task that was cancelled; what else ended it is raised."""
    assert task is not None
    (found,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(found, Exception):
        raise found


async def _until(condition: Callable[[], object], patience_s: float) -> None:
    """Look until it holds, or patience has ended."""

    def look() -> None:
        until_at = time.monotonic() + patience_s
        while not condition() and time.monotonic() < until_at:
            time.sleep(LISTEN_S)

    await asyncio.to_thread(look)


async def _counted(copying: Copying, struck: _Struck, directory: Path) -> Lost:
    if not struck.copied:
        return Lost(struck.acknowledged, None, None)
    target = directory / "restored.db"
    await copying.restore(target)
    count = await asyncio.to_thread(database.acknowledged, target, struck.acknowledged)
    await asyncio.to_thread(cost.clear, directory, "restored.db*")
    if count == struck.acknowledged:
        return Lost(count, 0, 0.0)
    first_at = await asyncio.to_thread(database.written_at, copying.live, count + 1)
    return Lost(struck.acknowledged, struck.acknowledged - count, struck.at - first_at)


class Snapshots:
    """Perdure's keeper, asked as the daemon asks it: when `prevent.snapshot` says so, looked at each half second."""

    checkpoint_pages = database.CHECKPOINT_PAGES

    def __init__(self, slot: Path, directory: Path) -> None:
        self._perdure = Perdure(slot, directory)
        self.name = self._perdure.name
        self.live = slot / database.NAME
        self.taken: list[Manifest] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to copy."""
        self._task = asyncio.create_task(self._copy(), name="snapshots")

    def finished(self) -> int:
        """How many copies were finished."""
        return len(self.taken)

    def kill(self) -> None:
        """SIGKILL, in this instant."""
        assert self._task is not None
        self._task.cancel()
        with suppress(BenchError):
            os.kill(self._perdure.pid(), signal.SIGKILL)

    async def after(self) -> None:
        """Wait for its end, and until another process answers: who asks the dead one is told to try again."""
        await _ended(self._task)
        for _ in range(TRIES_MAX):
            with suppress(UnavailableError):
                await self._perdure.keepers.kept(copiers.SERVICE)
                return
        raise BenchError("the keeper does not come back")

    async def last_copy(self) -> None:
        """What the daemon does when the active replica is dead and its directory is not."""
        await self._perdure.take()

    async def restore(self, target: Path) -> None:
        self._perdure.newest = (await self._perdure.keepers.kept(copiers.SERVICE))[-1].manifest
        await self._perdure.restore(target, check=True)

    async def close(self) -> None:
        await self._perdure.close()

    async def _copy(self) -> None:
        keepers = self._perdure.keepers
        last: snapshot.Attempt | None = None
        while True:
            due_at = snapshot.due(last, EVERY_S, 0.0)
            began_at = time.monotonic()
            if due_at is not None and began_at >= due_at:
                self.taken.append(await self._perdure.take())
                last = snapshot.Attempt(began_at, time.monotonic())
                kept = await keepers.kept(copiers.SERVICE)
                if gone := snapshot.surplus(kept, copiers.KEEPING, (), time.time()):
                    await keepers.remove(copiers.SERVICE, gone)
            await asyncio.sleep(LOOK_S)


class Replica:
    """Litestream's daemon with its defaults."""

    checkpoint_pages = litestream.CHECKPOINT_PAGES

    def __init__(self, side: Litestream, live: Path) -> None:
        self._side = side
        self.name = side.name
        self.live = live

    def start(self) -> None:
        """Begin to copy."""
        self._side.start(seldom=False)

    def finished(self) -> int:
        """The last transaction that was shipped."""
        return self._side.shipped()

    def kill(self) -> None:
        """SIGKILL, in this instant."""
        self._side.kill()

    async def after(self) -> None:
        """Wait for its end."""
        await self._side.close()

    async def restore(self, target: Path) -> None:
        await self._side.restore(target, check=False)

    async def close(self) -> None:
        await self._side.close()


class Whole:
    """A whole copy by `sqlite3` each second; one that takes longer is followed by the next one at once."""

    checkpoint_pages = database.CHECKPOINT_PAGES

    def __init__(self, side: Sqlite, live: Path) -> None:
        self._side = side
        self.name = side.name
        self.live = live
        self._finished = 0
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to copy."""
        self._side.directory.mkdir(exist_ok=True)
        self._task = asyncio.create_task(self._copy(), name="whole copies")

    def finished(self) -> int:
        """How many copies were finished."""
        return self._finished

    def kill(self) -> None:
        """SIGKILL, in this instant."""
        assert self._task is not None
        self._task.cancel()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def after(self) -> None:
        """Wait for its end."""
        await _ended(self._task)
        if self._process is not None:
            await self._process.wait()

    async def restore(self, target: Path) -> None:
        await self._side.restore(target, check=False)

    async def close(self) -> None:
        pass

    async def _copy(self) -> None:
        part = self._side.directory / "part.db"
        while True:
            began_at = time.monotonic()
            for left in self._side.directory.glob("part.db*"):
                left.unlink()
            words = [os.fspath(word) for word in self._side.words(part)]
            self._process = await asyncio.create_subprocess_exec(*words, start_new_session=True)
            if await self._process.wait() == 0:
                part.rename(self._side.newest)
                self._finished += 1
            await asyncio.sleep(max(0.0, began_at + EVERY_S - time.monotonic()))
