"""One generation of HAProxy: a configuration, the process that runs it, and how it gets started.

`haproxy.HAProxy` replaces generations; the steps here are validation in HAProxy's own words, and the start, which ends
when the new process itself answers (the old one may still answer elsewhere).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.balancer import launch, render, runtime, statistics
from perdure.adapters.balancer.program import Program
from perdure.model.errors import ConfigError, UnavailableError
from perdure.model.replica import Process

START_TIMEOUT_S = 10.0
VALIDATE_TIMEOUT_S = 30.0
HAND_OVER_TIMEOUT_S = 1.0
POLL_S = 0.004
SAID_LINES = 5


@dataclass(frozen=True, slots=True)
class Generation:
    """A running HAProxy; `digest` is that of its configuration, `servers` maps service -> reserved servers."""

    number: int
    digest: str
    watch: launch.Watch
    servers: dict[str, int]
    reader: statistics.Reader

    @property
    def process(self) -> Process:
        """The process that serves this generation."""
        return self.watch.process


class Starter:
    """Validates configurations, each only once, and starts processes."""

    def __init__(self, program: Program, log: Path) -> None:
        self._program = program
        self._log = log
        self._validated: str | None = None

    def trust(self, digest: str) -> None:
        """A HAProxy runs with this configuration: it need not be validated again, so that a start is fast."""
        self._validated = digest

    async def validate(self, digest: str, paths: render.Paths) -> None:
        """Ask HAProxy about the written configuration; ConfigError with its own words when it refuses it."""
        if digest == self._validated:
            return
        process = await asyncio.create_subprocess_exec(
            self._program.path, "-c", "-f", paths.config,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(VALIDATE_TIMEOUT_S):
                said, _ = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise UnavailableError("HAProxy did not check its configuration in time", "try again") from error
        if process.returncode != 0:
            raise ConfigError(
                f"HAProxy refuses the configuration: {_gist(said.decode(errors='replace'))}",
                "correct the service that it names, then: perdure reload",
            )
        self._validated = digest

    async def start(
        self, paths: render.Paths, lent: Path, old_pid: int | None, on_end: Callable[[launch.Watch], None]
    ) -> launch.Watch:
        """Start a process and return when it accepts traffic; it tells `old_pid` to finish. UnavailableError when it
        does not come up, with what it said; the old one goes on then.
        """
        command = [str(self._program.path), "-db", "-f", str(paths.config), "-x", str(lent)]
        if old_pid is not None:
            command += ["-sf", str(old_pid)]
        said_before = self._log.stat().st_size if self._log.exists() else 0
        watch = launch.Watch(launch.start(command, self._log), on_end)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while watch.alive and await pid_behind(paths.stats) != watch.process.pid:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            await watch.end(0.0)
            raise UnavailableError(f"HAProxy did not start within {START_TIMEOUT_S:g} s", "see haproxy.log") from error
        except BaseException:
            await watch.end(0.0)
            raise
        if not watch.alive:
            self._validated = None
            said = self._log.read_bytes()[said_before:].decode(errors="replace")
            raise UnavailableError(f"HAProxy ended while it started: {_gist(said)}", f"see {self._log}")
        return watch


async def pid_behind(stats: Path) -> int | None:
    """The pid of the HAProxy that answers at a runtime socket; None when none does."""
    try:
        answer = await runtime.ask(stats, "show info")
    except UnavailableError:
        return None
    return next((int(line[5:]) for line in answer.splitlines() if line.startswith("Pid: ")), None)


async def stopped_listening(stats: Path) -> None:
    """Return when nobody listens at a runtime socket any more; one that hangs is not waited for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HAND_OVER_TIMEOUT_S):
            while await _is_listened_to(stats):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)


async def _is_listened_to(stats: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(stats)
    except OSError:
        return False
    writer.transport.abort()
    return True


def _gist(said: str) -> str:
    """What HAProxy complained about, without its banner."""
    lines = [line.strip() for line in said.splitlines() if "[ALERT]" in line] or said.splitlines()
    return " ".join(line.partition(" : ")[2] or line for line in lines[:SAID_LINES])[:1000] or "no reason given"
