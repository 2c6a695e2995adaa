"""The command check: a program that says with its exit code whether the replica is well.

It runs in a session of its own, as the replica's user and in its directory, with the same clean environment, and is
ended with all its children when its time is up. `Probers` calls it.
"""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress

from perdure.adapters.prober import failure
from perdure.adapters.runner import environment
from perdure.model.check import Check, CheckRole
from perdure.model.errors import ConfigError
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target

OUTPUT_BYTES = 4_096
END_TIMEOUT_S = 1.0


class Commands:
    """Runs command checks; those that would not end in time are reaped whenever they do."""

    def __init__(self) -> None:
        self._runs: set[_Run] = set()

    async def probe(self, check: Check, target: Target, timeout_s: float) -> Answer:
        """Run once: exit code 0 is good. Raises UnavailableError when the daemon cannot start a process now."""
        try:
            run = _Run(_start(check, target), self._runs)
        except ConfigError as error:
            return Answer(Outcome.STATUS, f"cannot run {check.command[0]!r}: {error.sentence}"[:300])
        except OSError as error:
            failure.raise_if_own(error)
            return Answer(Outcome.STATUS, f"cannot run {check.command[0]!r}: {failure.explain(error)}"[:300])
        try:
            async with asyncio.timeout(timeout_s):
                code = await asyncio.shield(run.ended)
        except TimeoutError:
            return Answer(Outcome.TIMEOUT, f"no end within {timeout_s:g} s: {run.excerpt()}")
        finally:
            run.kill()
        if code == 0:
            digest = run.digest() if check.role is CheckRole.DIGEST else ""
            return Answer(Outcome.GOOD, run.excerpt(), digest=digest)
        how = f"exit code {code}" if code > 0 else f"signal {_signal_name(-code)}"
        return Answer(Outcome.STATUS, f"{how}: {run.excerpt()}")

    async def close(self) -> None:
        """End all that still run; those that even SIGKILL does not end at once are left to the kernel."""
        for run in self._runs:
            run.kill()
        if self._runs:
            await asyncio.wait([run.ended for run in self._runs], timeout=END_TIMEOUT_S)
        for run in list(self._runs):
            run.forget()


class _Run:
    """One running command: its output is drained and its end noted from the loop, whoever waits for it."""

    def __init__(self, process: subprocess.Popen[bytes], runs: "set[_Run]") -> None:
        assert process.stdout is not None
        self._process = process
        self._pipe = process.stdout
        self._output = b""
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        os.set_blocking(self._pipe.fileno(), False)
        try:
            self._exit_descriptor = os.pidfd_open(process.pid)
        except OSError:
            self._kill_group()
            process.wait()
            self._pipe.close()
            raise
        self._loop.add_reader(self._exit_descriptor, self._end)
        self._loop.add_reader(self._pipe.fileno(), self._drain)
        runs.add(self)

    def excerpt(self) -> str:
        """The end of what it wrote: there a program says why it failed."""
        return failure.excerpt(self._output[-failure.EXCERPT_LENGTH :])

    def digest(self) -> str:
        """Of the end of what it wrote, at most `OUTPUT_BYTES`."""
        return failure.digest(self._output)

    def kill(self) -> None:
        """End it with its children, unless it has ended."""
        if self in self._runs:
            self._kill_group()

    def forget(self) -> None:
        """Release all that is held of it."""
        self._runs.discard(self)
        self._loop.remove_reader(self._exit_descriptor)
        self._loop.remove_reader(self._pipe.fileno())
        os.close(self._exit_descriptor)
        self._pipe.close()

    def _end(self) -> None:
        # While it is a zombie its pid is nobody else's: now its left-over children can be ended safely.
        self._kill_group()
        self._drain()
        code = self._process.wait()
        self.forget()
        if not self.ended.done():
            self.ended.set_result(code)

    def _drain(self) -> None:
        try:
            chunk = os.read(self._pipe.fileno(), 65_536)
        except BlockingIOError:
            return
        self._output = (self._output + chunk)[-OUTPUT_BYTES:]
        if not chunk:
            self._loop.remove_reader(self._pipe.fileno())

    def _kill_group(self) -> None:
        # Not permitted: a check that changed its user; its end is awaited all the same.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _start(check: Check, target: Target) -> subprocess.Popen[bytes]:
    identity = environment.resolve(target.user, target.group)
    variables = environment.compose(identity, {"PORT": str(target.port)} | dict(target.environment), ())
    return subprocess.Popen(
        environment.expand(check.command, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=target.directory,
        env=variables,
        start_new_session=True,
        umask=0o022,
        user=None if identity is None else identity.uid,
        group=None if identity is None else identity.gid,
        extra_groups=None if identity is None else identity.groups,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
