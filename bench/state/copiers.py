"""Who copies the database: Perdure's keeper in its own process, and the programs that it is compared with.

Each has a place of its own. `base` makes a first copy from nothing, any number of times; `begin` makes the one to which
those of `following` add what has changed since; `restore` puts the newest one into a file.

    Perdure         `adapters.state.client.Keepers`, as the daemon calls it; each snapshot stays
    sqlite3         `.backup` or `VACUUM INTO` to a new file; put back with `cp`
    rsync           `-a --ignore-times --inplace --no-whole-file` to the same file each time: it reads both, writes what
                    differs, and keeps one copy only; nobody may write meanwhile. Without `--ignore-times` it passes
                    over a file that was changed in the same second and has the same size.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bench.processes import BenchError, tree
from bench.state import cost, database
from bench.state.cost import Cost, Mark
from perdure.adapters.state.client import Keepers
from perdure.model.snapshot import Keeping, Manifest, StateKind
from perdure.ports.keeper import Source

SERVICE = "orders"
KEEPING = Keeping(StateKind.SQLITE, path=database.NAME, every_s=1.0)


class Copier(Protocol):
    """See above. Directories that are named do not exist yet."""

    name: str

    async def base(self, directory: Path) -> Cost:
        """The first copy, into this directory."""

    async def begin(self) -> None:
        """Make the first copy of those that follow each other."""

    async def following(self) -> Cost:
        """The next copy."""

    async def restore(self, target: Path, check: bool) -> float:
        """Seconds to put the newest copy into a file; `check`: with a check of its integrity."""

    async def close(self) -> None:
        """End what runs."""


class Perdure:
    """The snapshots of one slot; `slot` is its directory."""

    name = "Perdure"

    def __init__(self, slot: Path, directory: Path) -> None:
        self.source = Source(SERVICE, f"{SERVICE}/1", str(slot), KEEPING)
        self.directory = directory
        self.keepers = Keepers(directory, lambda _: "")
        self.newest: Manifest | None = None

    async def base(self, directory: Path) -> Cost:
        """The first copy, into a directory of its own."""
        one = Perdure(Path(self.source.directory), directory)
        try:
            await one.begin(take=False)
            return await one.following()
        finally:
            await one.close()

    async def begin(self, take: bool = True) -> None:
        """Make the copy to which the next ones add."""
        await self.keepers.kept(SERVICE)  # Starts the process, as the daemon's first look does.
        if take:
            await self.following()

    async def following(self) -> Cost:
        """The next copy."""
        pid, vault = self.pid(), self.directory / SERVICE / "vault"
        before, kept_bytes = Mark.of(pid), cost.size(vault)
        self.newest = await self.take()
        return before.until(Mark.of(pid), cost.size(vault) - kept_bytes)

    async def take(self) -> Manifest:
        """A snapshot."""
        return await self.keepers.take(self.source, 1, 0)

    async def restore(self, target: Path, check: bool) -> float:
        """Seconds to put the newest one into a file."""
        assert check, "it always checks"
        assert self.newest is not None
        began_at = time.monotonic()
        await self.keepers.restore(self.source, self.newest.id, str(target.parent / f"{target.name}.aside"))
        took_s = time.monotonic() - began_at
        (target.parent / f"{target.name}.aside" / database.NAME).rename(target)
        return took_s

    async def close(self) -> None:
        await self.keepers.close()

    def pid(self) -> int:
        """The keeper's process."""
        for pid in tree(os.getpid()):
            if os.fsencode(self.directory) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        raise BenchError("the keeper does not run")


class Sqlite:
    """Whole copies, made by the program `sqlite3` with one of its commands."""

    def __init__(self, name: str, command: str, live: Path, directory: Path) -> None:
        self.name = name
        self.command = command
        self._live = live
        self.directory = directory
        self.newest = directory / "0.db"
        self._number = 0

    def words(self, target: Path) -> list[str | Path]:
        """What is run."""
        return ["sqlite3", self._live, f"{self.command} '{target}'"]

    async def base(self, directory: Path) -> Cost:
        """The first copy, into a directory of its own."""
        await asyncio.to_thread(directory.mkdir)
        return await self._copied(directory / database.NAME)

    async def begin(self) -> None:
        """Make the copy to which the next ones add."""
        await asyncio.to_thread(self.directory.mkdir)
        await self.following()

    async def following(self) -> Cost:
        """The next copy."""
        old = self.newest
        self._number += 1
        self.newest = self.directory / f"{self._number}.db"
        found = await self._copied(self.newest)
        old.unlink(missing_ok=True)
        return found

    async def restore(self, target: Path, check: bool) -> float:
        """Seconds to put the newest one into a file."""
        return await _put_back(self.newest, target, check)

    async def close(self) -> None:
        pass

    async def _copied(self, target: Path) -> Cost:
        found = await asyncio.to_thread(cost.ran, self.words(target), target.with_suffix(".log"))
        return Cost(found.took_s, found.cpu_s, cost.size(target), found.written_bytes)


class Rsync:
    """One copy, brought up to date in place."""

    name = "rsync"

    def __init__(self, live: Path, directory: Path) -> None:
        self._live = live
        self.newest = directory / database.NAME

    async def base(self, directory: Path) -> Cost:
        """The first copy, into a directory of its own."""
        return await self._copied(directory / database.NAME)

    async def begin(self) -> None:
        """Make the copy to which the next ones add."""
        await self._copied(self.newest)

    async def following(self) -> Cost:
        """The next copy."""
        return await self._copied(self.newest)

    async def restore(self, target: Path, check: bool) -> float:
        """Seconds to put the newest one into a file."""
        return await _put_back(self.newest, target, check)

    async def close(self) -> None:
        pass

    async def _copied(self, target: Path) -> Cost:
        await asyncio.to_thread(target.parent.mkdir, exist_ok=True)
        before = cost.size(target)
        words: list[str | Path] = ["rsync", "-a", "--ignore-times", "--inplace", "--no-whole-file", self._live, target]
        found = await asyncio.to_thread(cost.ran, words, target.with_suffix(".log"))
        return Cost(found.took_s, found.cpu_s, cost.size(target) - before, found.written_bytes)


async def _put_back(copy: Path, target: Path, check: bool) -> float:
    log = target.with_suffix(".log")
    took_s = (await asyncio.to_thread(cost.ran, ["cp", copy, target], log)).took_s
    if check:
        words = ["sqlite3", f"file:{target}?immutable=1", "PRAGMA integrity_check"]
        took_s += (await asyncio.to_thread(cost.ran, words, log)).took_s
    return took_s


def missing(
    programs: Sequence[str] = ("sqlite3", "rsync"), which: Callable[[str], str | None] = shutil.which
) -> set[str]:
    """Those that are not installed here."""
    return {program for program in programs if which(program) is None}
