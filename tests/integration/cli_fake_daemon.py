"""A small stand-in for the daemon's API, for the tests of the command line: documents, streams, errors, and a down.

Runs in a thread of a test (`serving`), or as a program of its own: `python cli_fake_daemon.py STATE_DIRECTORY`.
"""

import asyncio
import contextlib
import copy
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web


def replica(slot: str, state: str = "ready", **other: Any) -> dict[str, Any]:
    """One replica as the status has it."""
    number = int(slot.rpartition("/")[2])
    known = {"slot": slot, "state": state, "pid": 4000 + number, "port": 21000 + number, "release": "web@3"}
    return known | {"restarts": 0, "since_s": 185.0, "suspicion": 0.02, "sentence": "answered its checks"} | other


def service(*replicas: dict[str, Any], state: str = "ready", **other: Any) -> dict[str, Any]:
    """One service as the status has it."""
    known = {"mode": "active-active", "protocol": "http", "listen": "127.0.0.1:8080", "state": state}
    desired = {"replicas": len(replicas), "pending": False}
    return known | {"sentence": "", "desired": desired, "replicas": list(replicas)} | other


EXPLANATION = {
    "service": "web",
    "state": "degraded",
    "sentence": "2 of 3 replicas serve",
    "next_look_s": 0.4,
    "slots": [
        {
            "slot": "web/1",
            "state": "ready",
            "since_s": 185.0,
            "rule": "S01",
            "sentence": "answered its checks on its own port",
            "facts": {},
            "next_look_s": 0.4,
            "evidence": [],
            "capsule": None,
        },
        {
            "slot": "web/2",
            "state": "isolated",
            "since_s": 12.3,
            "rule": "S05",
            "sentence": "is isolated: it gets no new requests",
            "facts": {"misses": 3, "share": 0.333333},
            "next_look_s": 0.2,
            "evidence": [
                {
                    "class": "probe",
                    "endpoint": "http /healthz",
                    "score": 9.9,
                    "threshold": 9.2,
                    "sentence": "3 of the last 3 looks timed out",
                },
                {"class": "traffic", "endpoint": None, "score": None, "threshold": 9.2, "sentence": "no requests"},
            ],
            "capsule": {
                "exit": "signal SIGKILL",
                "lines": ["starting", "\x1b[31mout of memory\x1b[0m"],
                "answer": "503 Service Unavailable",
                "sentence": "ended by SIGKILL after 3 s",
            },
        },
    ],
    "notes": ["half of the replicas show the same sign"],
}
EVENTS = [
    {
        "number": number,
        "wall_at": 1_700_000_000.5 + number,
        "rule": rule,
        "subject": subject,
        "sentence": sentence,
        "facts": {},
        "severity": severity,
    }
    for number, rule, subject, sentence, severity in (
        (1, "S01", "web/1", "answered its checks on its own port", "info"),
        (2, "S05", "web/2", "is isolated: it gets no new requests", "warning"),
        (3, "R07", "web", "keeps failing right after its start", "alarm"),
    )
]


class FakeDaemon:
    """Answers like the API; a test sets `status`, and reads `commands`."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {
            "services": {"web": service(replica("web/1"), replica("web/2"))},
            "daemon": {"pid": os.getpid(), "uptime_s": 7300.0, "loop_age_s": 0.05, "file": "x", "version": "0.1.0"},
            "balancer": {"pid": 4100, "state": "running", "version": "2.8.5"},
        }
        self.after_command: list[dict[str, Any]] = []
        """The states of `status` that follow a command, one for each time it is asked; the last one stays."""
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.rollouts: dict[str, list[dict[str, Any]]] = {}
        """Service -> its rollout at each time it is asked for; the last one stays."""
        self.begins: dict[str, list[dict[str, Any]]] = {}
        """What `rollouts` becomes with the first command."""
        self.documents: dict[str, Any] = {}
        """Answers about releases: `releases` and `diff`."""
        self.error: tuple[int, dict[str, Any]] | None = None
        self.downed = asyncio.Event()
        self.slow_s = 0.0
        self.endless = False
        self.asked_after: list[str] = []

    def application(self) -> web.Application:
        """The routes of the API."""
        app = web.Application(middlewares=[self._failing])
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/explain/{target}", self._explain)
        app.router.add_get("/v1/events", self._events)
        app.router.add_get("/v1/logs", self._logs)
        app.router.add_get("/v1/rollout", self._rollout)
        app.router.add_get("/v1/{kind:releases|diff}", self._about_releases)
        app.router.add_post("/v1/{command}", self._command)
        return app

    @web.middleware
    async def _failing(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.error is not None:
            return web.json_response({"error": self.error[1]}, status=self.error[0])
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _status(self, request: web.Request) -> web.Response:
        if self.commands and self.after_command:
            self.status = self.after_command.pop(0)
        services = {
            name: {**one, "rollout": self.rollouts[name][0]} if name in self.rollouts else one
            for name, one in self.status["services"].items()
        }
        return web.json_response(self.status | {"services": services})

    async def _rollout(self, request: web.Request) -> web.Response:
        following = self.rollouts.get(request.query["service"], [None])
        return web.json_response(following.pop(0) if len(following) > 1 else following[0])

    async def _about_releases(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        self.asked_after.append(f"{kind} {' '.join(request.query.values())}")
        return web.json_response(self.documents[kind])

    async def _explain(self, request: web.Request) -> web.Response:
        return web.json_response(EXPLANATION | {"service": request.match_info["target"]})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        chosen = [one for one in EVENTS if one["subject"].split("/")[0] == request.query.get("service", "web")]
        self.asked_after.append(request.query["after"])
        chosen = chosen[int(request.query["after"]) :]
        return await self._answer(request, chosen)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        lines = [{"slot": f"web/{number}", "line": f"line of {number}"} for number in (1, 2)]
        target = request.query["target"]
        return await self._answer(request, [one for one in lines if one["slot"].startswith(target)])

    async def _answer(self, request: web.Request, documents: list[Any]) -> web.StreamResponse:
        if request.query.get("follow") != "1":
            return web.json_response(documents)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for document in documents:
            await response.write(json.dumps(document).encode() + b"\n")
        if self.endless:
            await self.downed.wait()
        return response

    async def _command(self, request: web.Request) -> web.Response:
        command = request.match_info["command"]
        self.commands.append((command, await request.json()))
        self.rollouts |= self.begins
        if command == "down":
            asyncio.get_running_loop().call_later(0.1, self.downed.set)
        return web.json_response({"sentences": [f"{command} is recorded"]})

    async def serve(self, socket: Path, ready: threading.Event | None = None) -> None:
        """Answer on a unix socket until the down."""
        runner = web.AppRunner(self.application(), shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        if ready is not None:
            ready.set()
        try:
            await self.downed.wait()
        finally:
            await runner.cleanup()


@contextlib.contextmanager
def serving(socket: Path, rollouts: dict[str, list[dict[str, Any]]] | None = None) -> Iterator[FakeDaemon]:
    """Serve in a thread of this process until the end of the block; with these rollouts from the first question on."""
    socket.parent.mkdir(parents=True, exist_ok=True)
    ready, box = threading.Event(), []

    async def body() -> None:
        box.extend((FakeDaemon(), asyncio.get_running_loop()))
        box[0].rollouts |= rollouts or {}
        await box[0].serve(socket, ready)

    thread = threading.Thread(target=lambda: asyncio.run(body()))
    thread.start()
    assert ready.wait(10)
    try:
        yield box[0]
    finally:
        with contextlib.suppress(RuntimeError):  # a down has ended it already
            box[1].call_soon_threadsafe(box[0].downed.set)
        thread.join(10)
        assert not thread.is_alive()


def changed(status: dict[str, Any], name: str = "web", pending: bool = False, **other: Any) -> dict[str, Any]:
    """A copy of a status with another state of one service."""
    copied = copy.deepcopy(status)
    copied["services"][name] |= other
    copied["services"][name]["desired"]["pending"] = pending
    return copied


def main() -> None:
    """Stand in for the daemon as a process: `--fail` says something and ends with exit code 5."""
    if "--fail" in sys.argv:
        print("the store is held by another daemon", flush=True)
        sys.exit(5)
    state = Path(sys.argv[1])
    (state / "run").mkdir(parents=True, exist_ok=True)

    async def body() -> None:
        daemon = FakeDaemon()
        starting = service(replica("web/1"), replica("web/2", "starting"), state="starting")
        daemon.status["services"]["web"] = starting
        ready = changed(daemon.status, replicas=[replica("web/1"), replica("web/2")], state="ready")
        if "--never-ready" not in sys.argv:
            asyncio.get_running_loop().call_later(0.3, lambda: daemon.status.update(ready))
        await daemon.serve(state / "run" / "api.sock")

    asyncio.run(body())


if __name__ == "__main__":
    main()
