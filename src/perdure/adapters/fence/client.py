"""The daemon's side of the fence: states what is held, and keeps the supervisor's process there.

Implements `ports.fence.Fence`; what is said passes through the files of `statement`, so nothing is lost when either
side dies, and the next daemon adopts process and statements as they are. Starting it is in `starting`, watching it is
that of HAProxy (`balancer.launch.Watch`).
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from perdure.adapters.balancer import launch
from perdure.adapters.fence import record, starting
from perdure.adapters.fence.statement import Statement
from perdure.adapters.runner import stat
from perdure.model import backoff
from perdure.model.errors import RefusedError, UnavailableError
from perdure.model.replica import Process, Slot
from perdure.ports.fence import Acted, Hold

RESTART_S_FIRST = 0.1
RESTART_S_MAX = 5.0
STEADY_S = 10.0
"""A process that lived so long is started again at once when it ends."""
STOPPED = frozenset("Tt")


class ProcessFence:
    """See the port. `directory` is the supervisor's own; made with mode 0700 when there is none.

    `tell` is given a sentence when the process had to be started again, or could not be."""

    def __init__(self, directory: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._directory = directory.absolute()
        self._tell = tell
        self._boot = record.boot_id()
        self._statements: dict[str, Statement] = {}
        self._watch: launch.Watch | None = None
        self._started_at = 0.0
        self._short_lives = 0
        self._again: asyncio.TimerHandle | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The supervisor's process, None when it does not run."""
        return self._watch.process.pid if self._watch is not None and self._runs() else None

    def ensure(self) -> None:
        """Start or adopt it; call it in the running loop. Waits for a new process, some 30 ms and at most 2 s."""
        self._ending = False
        if self._runs():
            return
        wait_s = self._wait_s()
        if wait_s > 0:
            raise UnavailableError(
                f"the supervisor ended {self._short_lives} times in a row; it is started again in {wait_s:.1f} s",
                f"read {self._directory / starting.LOG}",
            )
        self._forget()
        starting.make_private(self._directory)
        process = starting.running(self._directory)
        if process is None:
            self._started_at = time.monotonic()
            self._short_lives += 1  # until it has lived for long
            process = starting.start(self._directory)
        try:
            self._watch = launch.Watch(process, self._ended)
        except ProcessLookupError:
            raise UnavailableError("the supervisor ended at once", f"read {self._directory / starting.LOG}") from None

    def hold(self, hold: Hold) -> None:
        """Check that somebody enforces it, then write it down: that order, so that what was written is in force."""
        if hold.term_at is not None:
            self.ensure()
            self._wake()
        statement = self._statement(hold.service)
        held = record.Held(str(hold.slot), hold.epoch, hold.process.pid, hold.process.started_ticks)
        held.term_at, held.kill_at = hold.term_at, hold.kill_at
        before = statement.last
        if before is not None and before.epoch > hold.epoch:
            raise RefusedError(
                f"{hold.slot} may not be active in epoch {hold.epoch}: epoch {before.epoch} was held since",
                "perdure status",
            )
        statement.write(held)

    def release(self, service: str) -> None:
        """State that nobody is active; the epoch stays, so that none before it can be held again."""
        statement = self._statement(service)
        before = statement.last
        if before is not None and before.pid:
            statement.write(record.Held(before.slot, before.epoch, 0, 0))

    def held(self) -> Sequence[Hold]:
        """Read all files; what is damaged or of an earlier boot of the machine is left out."""
        return [_hold(held) for _, held in self._contents() if held is not None and held.pid]

    def acted(self) -> Sequence[Acted]:
        """Read all files, as `held`."""
        found = [_acted(done) for content, _ in self._contents() for done in record.done(content, self._boot)]
        return sorted(found, key=lambda one: one.at)

    def end(self) -> None:
        """SIGTERM: it ends once nothing with a deadline is held, and is not started again until `ensure`."""
        self._ending = True
        if self._watch is not None:
            self._watch.signal(signal.SIGTERM)

    def close(self) -> None:
        """Watch it no longer; the process goes on."""
        self._forget()
        for statement in self._statements.values():
            statement.close()
        self._statements.clear()

    def _runs(self) -> bool:
        watch = self._watch
        return (
            watch is not None and watch.alive and launch.started_ticks(watch.process.pid) == watch.process.started_ticks
        )

    def _wake(self) -> None:
        """Somebody may have stopped it; it looks at all deadlines as soon as it goes on."""
        assert self._watch is not None
        seen = stat.read(self._watch.process.pid)
        if seen is not None and seen.letter in STOPPED:
            self._watch.signal(signal.SIGCONT)

    def _statement(self, service: str) -> Statement:
        found = self._statements.get(service)
        if found is None or found.deleted:
            if found is not None:
                found.close()
            path = self._directory / f"{service}{record.SUFFIX}"
            self._statements[service] = found = Statement(path, self._boot)
        return found

    def _contents(self) -> list[tuple[bytes, record.Held | None]]:
        contents = [path.read_bytes() for path in sorted(self._directory.glob(f"*{record.SUFFIX}"))]
        return [(content, record.newest(content, self._boot)) for content in contents]

    def _wait_s(self) -> float:
        """How long until it may be started again: at once after a long life, ever later after short ones."""
        since_s = time.monotonic() - self._started_at
        if since_s >= STEADY_S:
            self._short_lives = 0
        if self._short_lives < 2:
            return 0.0
        return backoff.delay_s(self._short_lives - 1, RESTART_S_FIRST, RESTART_S_MAX, 0.5) - since_s

    def _ended(self, watch: launch.Watch) -> None:
        if watch is not self._watch:
            return
        self._watch = None
        if not self._ending:
            self._tell("the supervisor ended; it is started again")
            self._restart()

    def _restart(self) -> None:
        self._again = None
        try:
            self.ensure()
        except UnavailableError as error:
            self._tell(error.sentence)
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(max(RESTART_S_FIRST, self._wait_s()), self._restart)

    def _forget(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._watch is not None:
            self._watch.forget()
            with suppress(ChildProcessError):
                os.waitpid(self._watch.process.pid, os.WNOHANG)
            self._watch = None


def _hold(held: record.Held) -> Hold:
    return Hold(Slot.parse(held.slot), held.epoch, Process(held.pid, held.started_ticks), held.term_at, held.kill_at)


def _acted(done: record.Done) -> Acted:
    process = Process(done.pid, done.started_ticks)
    return Acted(Slot.parse(done.slot), done.epoch, process, done.at, done.signal, done.gone_at)
