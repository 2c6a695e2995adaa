"""One trial of the rollout bench: deploy under load, follow to the end, and count what clients got."""

import asyncio
import dataclasses
import threading
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import load, runtime, tally
from bench.load_process import LoadProcess
from bench.processes import BenchError, wait_until
from bench.program import APP
from bench.rollout.cases import BACKGROUND, Case
from bench.sides import PerdureSide

ENDED = ("watching", "rolled back", "aborted", "done")
LOOK_S = 0.02
MIX = (load.Kind(path="/", weight=8.0), load.Kind(path="/pay", weight=1.0), load.Kind(path="/search", weight=1.0))
VERDICTS = ("L10", "L11", "L12", "L14")
TURNED_BAD_S = 90.0
"""For so long after the end a release is followed that turns bad then."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One rollout; seconds, None for what did not come to pass."""

    case: str
    phase: str
    failed: float
    """Requests of clients, less the background."""
    requests: int
    verdict_s: float | None = None
    """From the first traffic to the last verdict."""
    off_s: float | None = None
    """From the verdict until HAProxy sent it nothing any more."""
    gone_s: float | None = None
    """From the verdict until nothing of it ran."""


async def make(case: Case, directory: Path) -> Trial:
    """Deploy the release of a case once; raises BenchError when it cannot be followed."""
    old = dataclasses.replace(APP, command=(*APP.command, *case.old))
    side = PerdureSide(directory, old, 3, checks=case.deploy)
    try:
        side.start()
        wait_until(lambda: _service(side)["state"] == "ok", "all replicas serve", 30.0)
        plan = load.Plan(f"http://127.0.0.1:{side.port}/", case.rate, mix=MIX, connections=512, timeout_s=20.0)
        async with LoadProcess(plan) as clients:
            await asyncio.sleep(3.0)
            watcher = _Watcher(side, frozenset(int(one["port"]) for one in _service(side)["replicas"]))
            side.program = dataclasses.replace(APP, command=(*APP.command, *case.new))
            side.deploy()
            phase = await asyncio.to_thread(_followed, case, side)
            watcher.stop()
        return _told(case, phase, side.get("/v1/events?after=0&limit=10000"), watcher, clients.samples)
    finally:
        side.stop()


def _service(side: PerdureSide) -> dict[str, Any]:
    found: dict[str, Any] = side.status()["services"]["web"]
    return found


def _followed(case: Case, side: PerdureSide) -> str:
    """Wait for the end, and do to the replicas what the case wants; the last phase."""
    began_at = time.monotonic()
    struck_at: float | None = None
    healed = False
    spoilt: set[str] = set()
    reached_at: float | None = None
    while time.monotonic() - began_at < case.limit_s:
        service = _service(side)
        phase = str(service["rollout"]["phase"])
        now = time.monotonic()
        if case.fault:
            spoilt |= _break([one for one in _new(service) if one["slot"] + str(one["pid"]) not in spoilt], case.fault)
        reached_at = reached_at or (now if phase == case.at else None)
        if case.later and struck_at is None and reached_at is not None and now - reached_at >= case.after_s:
            struck_at = now
            _break(service["replicas"] if case.whom == "all" else _new(service), case.later)
        if struck_at is not None and case.lasts_s and not healed and now - struck_at >= case.lasts_s:
            healed = True
            _break(service["replicas"], "none")
        waits = case.later and (struck_at is None or (case.bad and phase != "rolled back"))
        late = struck_at is not None and now - struck_at > TURNED_BAD_S
        if phase in ENDED and (not waits or late):
            return phase
        time.sleep(0.1)
    raise BenchError(f"the rollout did not end within {case.limit_s:g} s")


def _new(service: dict[str, Any]) -> list[dict[str, Any]]:
    release = service["rollout"]["release"]
    return [one for one in service["replicas"] if one["release"] == release and one["pid"] and one["state"] == "ready"]


def _break(replicas: Iterable[dict[str, Any]], fault: str) -> set[str]:
    done = set()
    for one in replicas:
        if one["pid"] is None:
            continue
        request = urllib.request.Request(f"http://127.0.0.1:{one['port']}/fault?kind={fault}", b"", method="POST")
        with suppress(OSError), urllib.request.urlopen(request, timeout=2.0):
            done.add(one["slot"] + str(one["pid"]))
    return done


@dataclass(slots=True)
class _Watcher:
    """Looks at HAProxy fifty times a second: when did it last send requests to others than the old replicas?"""

    side: PerdureSide
    old: frozenset[int]
    last_wall: float | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            socket = self.side.stats()
            if socket is None:
                continue
            with suppress(OSError):
                weights = runtime.weights(socket, frozenset({"be-web"}))
                if any(weight and port not in self.old for port, weight in weights.items()):
                    self.last_wall = time.time()


def _told(
    case: Case, phase: str, events: Sequence[dict[str, Any]], watcher: _Watcher, samples: Sequence[tally.Sample]
) -> Trial:
    first = {rule: float(one["wall_at"]) for one in reversed(events) for rule in [str(one["rule"])]}
    last = {str(one["rule"]): float(one["wall_at"]) for one in events}
    shared, gone = first.get("L05"), last.get("L18")
    verdict = max((last[rule] for rule in VERDICTS if rule in last), default=None)
    begun_at = (shared or first["C10"]) - (time.time() - time.monotonic())
    counted = [one for one in samples if one.due_at >= begun_at]
    background = BACKGROUND if case.old else 0.0
    failed = sum(one.outcome != tally.OK for one in counted) - background * len(counted)
    off = watcher.last_wall
    return Trial(
        case.name,
        phase,
        round(max(0.0, failed), 1),
        len(counted),
        round(verdict - shared, 2) if verdict is not None and shared is not None else None,
        round(max(0.0, off - verdict), 2) if verdict is not None and off is not None else None,
        round(gone - verdict, 2) if verdict is not None and gone is not None else None,
    )
