"""The HTTP API: what the CLI and programs may ask and command, over a unix socket; described by /openapi.json.

Handlers read the world or call the controller, nothing else. Errors of `model.errors` become JSON with their sentence,
hint and exit code, so that every face can show the same words.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from perdure import __version__
from perdure.control import api_releases, api_snapshots, keepsakes, logs, metrics, status
from perdure.control.agent import Agent
from perdure.control.assemble import Desk
from perdure.model import codec
from perdure.model.errors import (
    ConfigError,
    ConflictError,
    PerdureError,
    Problem,
    RefusedError,
    UnavailableError,
)
from perdure.model.event import Event
from perdure.model.service import Deployment
from perdure.ports.store import Store

NDJSON = "application/x-ndjson"
FOLLOW_EVERY_S = 0.2
STATUS_OF: dict[type[PerdureError], int] = {
    ConfigError: 422,
    UnavailableError: 503,
    ConflictError: 409,
    RefusedError: 403,
}


@dataclass(slots=True)
class Office:
    """What the handlers work with; `reload` applies the file, `declared` reads it, `leave` ends the daemon."""

    agent: Agent
    store: Store
    desk: Desk
    log_files: logs.LogFiles
    daemon: Callable[[], dict[str, Any]]
    reload: Callable[[], Awaitable[list[str]]]
    declared: Callable[[], Awaitable[Deployment]]
    leave: Callable[[], None]


class Strict(BaseModel):
    """A request body; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Target(Strict):
    """A service (`web`) or a slot (`web/2`)."""

    target: str = Field(max_length=80)


class Promotion(Target):
    """Which slot is to be active (`notes/2`), or of which service another one is."""

    accept_loss: bool = False


class Scale(Strict):
    """How many replicas a service should have."""

    service: str = Field(max_length=63)
    replicas: int


class Done(BaseModel):
    """A command is acknowledged: what it changes, one sentence each."""

    sentences: list[str]


def make(office: Office) -> FastAPI:
    """The application with all routes."""
    app = FastAPI(title="Perdure", version=__version__, docs_url=None, redoc_url=None)
    app.add_exception_handler(PerdureError, _error)
    app.add_exception_handler(RequestValidationError, _malformed)
    _present(app, office)
    _history(app, office)
    _commands(app, office)
    api_releases.routes(app, office.desk, office.agent, office.declared)
    api_snapshots.routes(app, keepsakes.Keepsakes(office.agent.preserver), office.desk.rollbacks)
    return app


def _present(app: FastAPI, office: Office) -> None:
    agent = office.agent

    @app.get("/v1/status", summary="All services, replicas, the daemon and HAProxy")
    async def get_status() -> dict[str, Any]:
        return {
            "services": status.services(agent.world, agent.clock.now(), agent.clock.wall()),
            "daemon": office.daemon(),
            "balancer": balancer(agent),
        }

    @app.get("/v1/explain/{target:path}", summary="Why a service or slot is in its state")
    async def get_explain(target: str) -> dict[str, Any]:
        name, _, number = target.partition("/")
        service = agent.world.services.get(name)
        known = service is not None and (not number or (number.isdecimal() and int(number) in service.slots))
        if service is None or not known:
            names = ", ".join(sorted(agent.world.services)) or "none"
            raise ConfigError(f"there is no service or slot {target!r} (services: {names})", "perdure status")
        return status.explain(service, agent.clock.now(), int(number) if number else None)

    @app.get("/health", summary="Whether the daemon's loop turns")
    async def get_health() -> JSONResponse:
        told = office.daemon()
        healthy = told["loop_age_s"] < 5.0
        document = {"status": "ok" if healthy else "stuck", "loop_age_s": told["loop_age_s"], "store": told["store"]}
        return JSONResponse(document, 200 if healthy else 503)

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def get_metrics() -> str:
        told = office.daemon()
        numbers = {key: float(told[key]) for key in ("uptime_s", "loop_age_s", "cpu_s", "memory_bytes")}
        numbers["store_up"] = float(agent.recorder.failure is None)
        return metrics.render(agent.world, numbers, agent.carrier.state == "serving", agent.clock.wall())


def _history(app: FastAPI, office: Office) -> None:
    @app.get("/v1/events", summary="Events, oldest first; a negative `after` counts from the end", response_model=None)
    async def get_events(
        after: int = -100, limit: int = 1000, service: str | None = None, follow: bool = False
    ) -> JSONResponse | StreamingResponse:
        limit = max(1, min(limit, 10_000))
        if follow:
            return StreamingResponse(_follow_events(office.store, after, service), media_type=NDJSON)
        return JSONResponse([event_document(one) for one in await office.store.events(after, limit, service)])

    @app.get("/v1/logs", summary="What the replicas wrote", response_model=None)
    async def get_logs(target: str, lines: int = 100, follow: bool = False) -> JSONResponse | StreamingResponse:
        slots = office.log_files.slots(office.agent.world, target)
        found = office.log_files.last(slots, max(0, min(lines, 10_000)))
        if not follow:
            return JSONResponse(found)
        return StreamingResponse(office.log_files.follow(slots, found), media_type=NDJSON)


def _commands(app: FastAPI, office: Office) -> None:
    controller = office.desk.controller

    async def done(sentences: list[str]) -> Done:
        await office.agent.learned(controller.revision)
        return Done(sentences=sentences)

    @app.post("/v1/reload", summary="Apply the file again", response_model=Done)
    async def post_reload() -> Done:
        return await done(await office.reload())

    @app.post("/v1/restart", summary="Replace the replicas of a service one by one, or one slot's", response_model=Done)
    async def post_restart(body: Target) -> Done:
        return await done(await controller.restart(body.target))

    @app.post("/v1/drain", summary="Take a service's slots, or one, out of traffic", response_model=Done)
    async def post_drain(body: Target) -> Done:
        return await done(await controller.drain(body.target))

    @app.post("/v1/undrain", summary="Give a service's slots, or one, traffic again", response_model=Done)
    async def post_undrain(body: Target) -> Done:
        return await done(await controller.undrain(body.target))

    @app.post("/v1/scale", summary="Change how many replicas a service has", response_model=Done)
    async def post_scale(body: Scale) -> Done:
        return await done(await controller.scale(body.service, body.replicas))

    @app.post("/v1/promote", summary="Make another slot of an active-passive service active", response_model=Done)
    async def post_promote(body: Promotion) -> Done:
        return await done(await controller.promote(body.target, body.accept_loss))

    @app.post("/v1/down", summary="End every replica, HAProxy, and the daemon", response_model=Done)
    async def post_down() -> Done:
        sentences = await controller.stop_all()
        office.leave()
        return await done(sentences)


def balancer(agent: Agent) -> dict[str, Any]:
    """The balancer, for `status`."""
    carrier = agent.carrier
    process = carrier.process
    return {
        "pid": process.pid if process is not None else None,
        "state": carrier.state,
        "problem": carrier.problem,
        "version": carrier.version,
    }


def event_document(event: Event) -> dict[str, Any]:
    """An event as JSON."""
    document: dict[str, Any] = codec.encode(event)
    return document


async def _follow_events(store: Store, after: int, service: str | None) -> AsyncIterator[str]:
    position = after
    while True:
        found = await store.events(position, 1000, service)
        for event in found:
            yield json.dumps(event_document(event)) + "\n"
        if found:
            position = found[-1].number
        elif position < 0:
            newest = await store.events(-1, 1)
            position = newest[-1].number if newest else 0
        await asyncio.sleep(FOLLOW_EVERY_S)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    """A request that does not fit its description, told like every other error."""
    assert isinstance(error, RequestValidationError)
    problems = tuple(Problem(".".join(str(part) for part in one["loc"]), str(one["msg"])) for one in error.errors())
    return await _error(request, ConfigError("the request does not fit the API", "see /openapi.json", problems))


async def _error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PerdureError)
    problems = error.problems if isinstance(error, ConfigError) else ()
    document = {
        "kind": type(error).__name__,
        "sentence": error.sentence,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "problems": [codec.encode(problem) for problem in problems],
    }
    return JSONResponse({"error": document}, STATUS_OF.get(type(error), 500))
