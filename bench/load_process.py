"""The load in a process of its own, so that neither a busy test nor a busy bench delays it; and its command line.

`LoadProcess` starts `python -m bench.load`, which prints one JSON line of progress now and then and one with the final
result at the end. SIGINT, SIGTERM, or the end of its standard input (its parent is gone) end it in good order.
"""

import argparse
import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from bench import load
from bench.pool import Resend
from bench.tally import Result, Sample

ROOT = Path(__file__).resolve().parent.parent


class LoadProcess:
    """A load in another process: `async with LoadProcess(plan) as it`, then `it.result` and `it.samples`."""

    def __init__(self, plan: load.Plan, progress_s: float = 0.5) -> None:
        self.plan = plan
        self.progress = Result()
        """What was known at most `progress_s` ago."""
        self._final: tuple[Result, tuple[Sample, ...]] | None = None
        self._progress_s = progress_s
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._started = asyncio.Event()

    async def __aenter__(self) -> "LoadProcess":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.load", *arguments(self.plan), "--samples", "--progress", str(self._progress_s),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 30,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(), name="read the load's progress")
        await self._started.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def result(self) -> Result:
        """What came of it; RuntimeError while it runs, when only `progress` is known."""
        return self._ended()[0]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every request; RuntimeError while it runs."""
        return self._ended()[1]

    def _ended(self) -> tuple[Result, tuple[Sample, ...]]:
        if self._final is None:
            raise RuntimeError("the load has not ended: its result and samples are known afterwards")
        return self._final

    async def done(self) -> None:
        """Wait until the plan's duration or count is reached and all answers are in."""
        assert self._process is not None and self._reading is not None
        await asyncio.shield(self._reading)
        await self._process.wait()

    async def stop(self) -> Result:
        """End it, if it still runs, and return the final result."""
        assert self._process is not None
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        await self.done()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self.result

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                message = self._parsed(line)
                self.progress = Result.from_json(message["result"])
                if message["final"]:
                    self._final = self.progress, tuple(Sample(*row) for row in message["samples"])
                self._started.set()
        finally:
            self._started.set()

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError as error:
            assert self._process is not None
            told = f"{len(line)} bytes, the last {line[-100:]!r} (exit code so far: {self._process.returncode})"
            raise RuntimeError(f"the load's process printed a line that is no JSON: {told}") from error
        return message


def arguments(plan: load.Plan) -> list[str]:
    """The command line that means this plan."""
    words = [plan.url, "--rate", str(plan.rate), "--connections", str(plan.connections)]
    words += ["--timeout", str(plan.timeout_s), "--resend", plan.resend.value, "--seed", str(plan.seed)]
    for option, value in (("--duration", plan.duration_s), ("--count", plan.count)):
        words += [option, str(value)] if value is not None else []
    for option, text in (("--name", plan.name), ("--expect", plan.expect.decode()), ("--trust", plan.trust)):
        words += [option, text] if text else []
    for kind in plan.mix:
        words += ["--request", f"{kind.method}{'+key' if kind.key else ''} {kind.path} {kind.weight}"]
    return words


def parse(words: Sequence[str] | None = None) -> tuple[load.Plan, argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description="A steady HTTP load, measured from outside."
    )
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="SECONDS")
    parser.add_argument("--count", type=int, metavar="REQUESTS")
    parser.add_argument("--connections", type=int, default=256, help="at most (%(default)s)")
    parser.add_argument("--timeout", type=float, default=15.0, metavar="SECONDS", help="per request (%(default)s)")
    parser.add_argument("--resend", type=Resend, choices=list(Resend), default=Resend.ANY)
    parser.add_argument("--request", type=load.Kind.parse, action="append", metavar="'METHOD[+key] [PATH [WEIGHT]]'")
    parser.add_argument("--expect", default="", metavar="TEXT", help="what every body must contain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="", help="prefix of the request ids")
    parser.add_argument("--trust", default="", metavar="FILE", help="https: certificates that may have signed")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--samples", action="store_true", help="print it as JSON with every request, and end with stdin"
    )
    parser.add_argument("--progress", type=float, metavar="SECONDS", help="print a line this often")
    said = parser.parse_args(words)
    plan = load.Plan(
        said.url, said.rate, said.duration, said.count, tuple(said.request or (load.Kind(),)), said.connections,
        said.timeout, said.resend, said.expect.encode(), said.seed, said.name, said.trust,
    )  # fmt: skip
    return plan, said


async def run(plan: load.Plan, said: argparse.Namespace) -> Result:
    """Send until the plan is done or a signal comes; print as asked."""
    running = load.Load(**{field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)})
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if said.samples:
        loop.add_reader(sys.stdin.fileno(), ended.set)
    running.start()
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(running.done()), asyncio.create_task(ended.wait())]
    while not (finished := await _any_within(waiting, said.progress)):
        _show(running, said, final=False)
    if said.samples:
        loop.remove_reader(sys.stdin.fileno())
    for task in waiting:
        task.cancel()
    assert finished
    result = await running.stop()
    _show(running, said, final=True)
    return result


async def _any_within(tasks: Sequence[asyncio.Task[Any]], period_s: float | None) -> bool:
    done, _ = await asyncio.wait(tasks, timeout=period_s, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


def _show(running: load.Load, said: argparse.Namespace, final: bool) -> None:
    result = running.result()
    if not (said.json or said.samples):
        _print(result.sentence())
        return
    if not final:
        # Short, so that a reader that is busy for a minute does not hold up the load: a pipe takes 64 KiB.
        result = dataclasses.replace(result, failures=())
    message = {"final": final, "result": result.to_json()}
    if final and said.samples:
        message["samples"] = [dataclasses.astuple(sample) for sample in running.samples()]
    _print(json.dumps(message))


def _print(line: str) -> None:
    """All of it: an unbuffered `sys.stdout` (PYTHONUNBUFFERED) drops what a signal kept it from writing."""
    with open(1, "w", encoding="utf-8", closefd=False) as out:
        out.write(line + "\n")


def main() -> None:
    """The command: exit code 0 when no request failed, 1 otherwise."""
    plan, said = parse()
    result = uvloop.run(run(plan, said))
    sys.exit(1 if result.failed else 0)
