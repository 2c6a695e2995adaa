"""Litestream with a replica in a directory: what it is told, and when a copy of it is complete.

First copies are made by `replicate -once`: its time ends with the file in the replica. Those that follow are made by
the daemon, which is told to look once an hour and is asked for each one (`sync -wait`), so that its time does not
depend on when it looks by itself; for the loss at a kill it looks each second, which is its default. Beside the
database it keeps a second copy of what it ships, which counts as written, not as kept.

Who writes to its database leaves the log to it (`wal_autocheckpoint = 0`), as its documentation advises: with SQLite's
default, what came back here was another state, or damaged. All else is as it comes.
"""

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.processes import Ward, wait_until
from bench.state import cost
from bench.state.cost import Cost, Mark

PROGRAM = Path(sys.executable).parent / "litestream"
CHECKPOINT_PAGES = 0
"""Of whoever writes to its database."""
SELDOM = "monitor-interval: 1h"
STARTED_S_MAX = 60.0
MERGED = (9, 1)
"""Levels in which it writes the database once more after its start: a snapshot, and what is merged each 30 s."""
MERGED_S_MAX = 120.0
SETTLED_S = 2.0
"""For so long it must have written nothing before it is measured."""
SYNC_S_MAX = 120


class Litestream:
    """One database and its replica. `live` must be used by nobody but its writer: litestream writes to it."""

    name = "litestream"

    def __init__(self, live: Path, directory: Path, ward: Ward) -> None:
        self._live = live
        self._ward = ward
        self.replica = directory / "replica"
        self._socket = directory / "control"
        self._config = directory / "litestream.yml"
        self._process: subprocess.Popen[bytes] | None = None

    async def base(self, directory: Path) -> Cost:
        """The first copy, into a directory of its own."""
        self.forget()
        await asyncio.to_thread(directory.mkdir)
        first = directory / "ltx" / "0" / f"{1:016x}-{1:016x}.ltx"
        words: list[str | Path] = [PROGRAM, "replicate", "-once", self._live, f"file://{directory}"]
        found = await asyncio.to_thread(cost.ran, words, directory.with_suffix(".log"), first.exists)
        return Cost(found.took_s, found.cpu_s, cost.size(directory), found.written_bytes)

    async def begin(self) -> None:
        """Begin anew: start the daemon, which ships all of it."""
        self.forget()
        await asyncio.to_thread(self.start, True)
        await self.following()

    def start(self, seldom: bool) -> None:
        """Start the daemon. `seldom`: it does nothing without being asked for it."""
        self.replica.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        self._config.write_text(
            f"socket: {{enabled: true, path: {self._socket}}}\n"
            f"dbs:\n  - path: {self._live}\n"
            f"    {SELDOM if seldom else 'monitor-interval: 1s'}\n"
            f"    replica: {{url: 'file://{self.replica}', sync-interval: {'1h' if seldom else '1s'}}}\n"
        )
        self._process = self._ward.start([PROGRAM, "replicate", "-config", self._config], "litestream")
        wait_until(self._socket.exists, "litestream listens", STARTED_S_MAX)

    async def settle(self) -> None:
        """Wait until it merges nothing."""
        await asyncio.to_thread(self._settle)

    async def following(self) -> Cost:
        """Ask it to ship what has changed."""
        assert self._process is not None
        before, kept_bytes = Mark.of(self._process.pid), cost.size(self.replica)
        words: list[str | Path] = [
            PROGRAM,
            "sync",
            "-wait",
            "-timeout",
            str(SYNC_S_MAX),
            "-socket",
            self._socket,
            self._live,
        ]
        await asyncio.to_thread(cost.ran, words, self.replica.with_suffix(".log"))
        return before.until(Mark.of(self._process.pid), cost.size(self.replica) - kept_bytes)

    async def restore(self, target: Path, check: bool) -> float:
        words: list[str | Path] = [PROGRAM, "restore", *(["-integrity-check", "full"] if check else []), "-o", target]
        words.append(f"file://{self.replica}")
        found = await asyncio.to_thread(cost.ran, words, target.with_suffix(".log"))
        return found.took_s

    async def close(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._ward.end, self._process)
            self._process = None

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)

    def shipped(self) -> int:
        """The last transaction in the replica."""
        names = [one.stem for one in self._files(0)]
        return max((int(name.partition("-")[2], 16) for name in names), default=0)

    def forget(self) -> None:
        """Let it begin anew: remove what it keeps beside the database."""
        shutil.rmtree(self._live.with_name(f".{self._live.name}-litestream"), ignore_errors=True)

    def _files(self, level: int) -> list[Path]:
        return list(self.replica.glob(f"ltx/{level}/*.ltx"))

    def _settle(self) -> None:
        assert self._process is not None
        for level in MERGED:
            wait_until(functools.partial(self._files, level), "litestream merges", MERGED_S_MAX)
        seen, since = Mark.of(self._process.pid).written_bytes, time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            time.sleep(0.1)
            now = Mark.of(self._process.pid).written_bytes
            if now != seen:
                seen, since = now, time.monotonic()
