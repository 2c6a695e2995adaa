"""The demonstration: Datasette keeps answering while its replicas, HAProxy and Perdure's own daemon are broken.

`make demo` runs it, in less than a minute. Steady clients (`bench.load`) ask from beginning to end; what they got is
counted, not estimated, and the exit code is 1 when a request failed. `stage` holds what is broken, `show` what is seen.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the load generator lives beside the package, in bench/

from bench import load, tally
from bench.load_process import LoadProcess
from examples.demo import show
from examples.demo.stage import Sight, Stage, StageError

RATE = 50.0
LOOK_S = 0.02
STATUS_S = 0.1
PATIENCE_S = 20.0
BEFORE_S = 0.5
"""A request that was due this long before a fault, and is slow, may owe that to the fault: it counts there."""
DEAD_S = 1.0
"""How long nobody starts the daemon again."""


class Fault(StrEnum):
    """What is broken, in this order; the values are the rows of the table."""

    KILL = "replica killed"
    STOP = "replica stopped"
    HAPROXY = "HAProxy killed"
    DAEMON = "daemon killed"


STORY = {
    Fault.KILL: "SIGKILL for the Datasette in {slot} (pid {pid}): HAProxy repeats what it had, Perdure starts another.",
    Fault.STOP: "SIGSTOP for the Datasette in {slot} (pid {pid}): it hangs, with its port still open.",
    Fault.HAPROXY: "SIGKILL for HAProxy (pid {pid}): clients wait in the sockets that Perdure holds for the next one.",
    Fault.DAEMON: "SIGKILL for Perdure's daemon (pid {pid}): HAProxy and Datasette go on; `perdure up -d` adopts them.",
}


@dataclass(slots=True)
class Strike:
    """One fault as it happened; instants are monotonic. `resent` is the counter of the load when it began."""

    fault: Fault
    at: float
    resent: int
    isolated_s: float | None = None
    whole_s: float | None = None


class Demo:
    """The play: break, watch, wait until all is whole, and go on to the next."""

    def __init__(self, stage: Stage, audience: show.Show, running: LoadProcess) -> None:
        self._stage = stage
        self._audience = audience
        self._running = running
        self._random = random.Random()
        self._seen: Sight | None = None
        self._status_at = 0.0
        self.strikes: list[Strike] = []

    async def play(self) -> None:
        """Every fault once; raises StageError when strength does not return."""
        await self._until_whole("everything is ready")
        self._audience.say(f"{RATE:.0f} requests a second go to {self._stage.url}")
        for fault in Fault:
            await self._watch_for(self._random.uniform(0.8, 1.6))
            await self._strike(fault)
            self._audience.breaking = "nothing"
        await self._watch_for(1.0)

    async def _strike(self, fault: Fault) -> None:
        before = await self._until_whole("all is well before the next fault")
        victim = self._random.choice(before.replicas)
        pid = {Fault.HAPROXY: before.haproxy_pid, Fault.DAEMON: before.daemon_pid}.get(fault, victim["pid"])
        assert pid is not None
        self._audience.breaking = f"{fault.value} (pid {pid})"
        self._audience.say(STORY[fault].format(slot=victim["slot"], pid=pid))
        strike = Strike(fault, time.monotonic(), self._running.progress.resent)
        self.strikes.append(strike)
        os.kill(pid, signal.SIGSTOP if fault is Fault.STOP else signal.SIGKILL)
        if fault is Fault.DAEMON:
            await self._watch_for(DEAD_S)
            await asyncio.to_thread(self._stage.up)
        elif fault is not Fault.HAPROXY:
            isolated_at = await self._until(lambda now: victim["port"] not in now.carried, "isolated")
            strike.isolated_s = isolated_at - strike.at
            self._audience.say(f"    isolated after {strike.isolated_s * 1e3:,.0f} ms")
        whole_at = await self._until(
            lambda now: now.whole and pid not in {*now.pids, now.haproxy_pid, now.daemon_pid}, "in full strength"
        )
        strike.whole_s = whole_at - strike.at
        kept = ""
        if fault is Fault.DAEMON:
            now = self._seen or before
            same = (now.pids, now.haproxy_pid) == (before.pids, before.haproxy_pid)
            kept = "; every process is the same as before" if same else "; NOT every process is the same as before"
        self._audience.say(f"    in full strength after {strike.whole_s:.2f} s{kept}")

    async def _until_whole(self, what: str) -> Sight:
        await self._until(lambda now: now.whole and now.daemon_pid is not None, what)
        assert self._seen is not None
        return self._seen

    async def _until(self, condition: Callable[[Sight], bool], what: str) -> float:
        """Watch until the condition holds; the instant at which that was seen."""
        until_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_at:
            seen = await self._look()
            if condition(seen):
                return seen.at
            await asyncio.sleep(LOOK_S)
        raise StageError(f"not {what} within {PATIENCE_S:.0f} s")

    async def _watch_for(self, duration_s: float) -> None:
        until_at = time.monotonic() + duration_s
        while time.monotonic() < until_at:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> Sight:
        known = self._seen if time.monotonic() < self._status_at + STATUS_S else None
        if known is None:
            self._status_at = time.monotonic()
        self._seen = await asyncio.to_thread(self._stage.look, known)
        self._audience.sight, self._audience.load = self._seen, self._running.progress
        self._audience.refresh()
        return self._seen


async def perform(console: Console) -> int:
    """Play on a stage of its own, and leave nothing behind; the exit code."""
    stage, audience = Stage(), show.Show(console)
    _cancel_on_signals()
    try:
        stage.prepare()
        audience.say("Three replicas of Datasette start behind HAProxy (`perdure up -d`) ...")
        await asyncio.to_thread(stage.up)
        async with LoadProcess(load.Plan(stage.url, RATE, expect=b"height_m"), progress_s=0.1) as running:
            demo = Demo(stage, audience, running)
            with audience:
                await demo.play()
    finally:
        audience.say("Everything is ended (`perdure down`) ...")
        stage.close()
    show.figures(console, _figures(demo.strikes, running))
    return _verdict(console, running.result)


def _cancel_on_signals() -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)


def _figures(strikes: Sequence[Strike], running: LoadProcess) -> list[show.Figures]:
    """A row for what came before the first fault, then one for each fault, until the next one begins."""
    begins = [0.0, *(strike.at - BEFORE_S for strike in strikes)]
    ends = [*begins[1:], float("inf")]
    resent = [0, *(strike.resent for strike in strikes), running.result.resent]
    names = ["no fault yet", *(strike.fault.value for strike in strikes)]
    times = [(None, None), *((strike.isolated_s, strike.whole_s) for strike in strikes)]
    rows = []
    for number, name in enumerate(names):
        within = [sample for sample in running.samples if begins[number] <= sample.due_at < ends[number]]
        failed = sum(sample.outcome != tally.OK for sample in within)
        slowest_s = max((sample.latency_s for sample in within), default=0.0)
        again = resent[number + 1] - resent[number]
        rows.append(show.Figures(name, len(within), failed, again, slowest_s, *times[number]))
    return rows


def _verdict(console: Console, result: tally.Result) -> int:
    console.print(f"{result.failed:,} of {result.sent:,} requests failed.", style="bold", highlight=False)
    if result.failed:
        reasons = ", ".join(f"{count} {name}" for name, count in result.outcomes.items() if name != tally.OK)
        console.print(f"Why: {reasons}.", highlight=False)
    console.print(
        f"{result.resent:,} were sent again by the client, as browsers do, because their connection was closed"
        " without a byte of an answer.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if result.failed or not result.sent else 0


def main() -> int:
    """Play, and say what went wrong in one sentence where the play could not go on."""
    console = Console()
    try:
        return asyncio.run(perform(console))
    except asyncio.CancelledError:
        console.print("Interrupted; nothing is left running.")
        return 130
    except StageError as error:
        console.print(f"The demonstration cannot go on: {error}", style="red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
