"""The part of the API that is about releases; `releasing` and `release_records` do what they are asked."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from perdure.control import rollout_documents
from perdure.control.agent import Agent
from perdure.control.assemble import Desk
from perdure.control.releasing import Wishes
from perdure.control.world import ServiceState
from perdure.model.deploy import Strategy
from perdure.model.errors import ConfigError
from perdure.model.release import Release
from perdure.model.service import Deployment
from perdure.recover import difference


class Strict(BaseModel):
    """A request body; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Deployed(Strict):
    """Which services are to be deployed, and how; none named: all that differ from what runs."""

    services: list[str] = Field(default_factory=list, max_length=1000)
    strategy: str | None = Field(default=None, pattern="^(canary|rolling|blue-green)$")
    message: str = Field(default="", max_length=1000)
    observe: bool = False
    force: bool = False


class Named(Strict):
    """A service."""

    service: str = Field(max_length=63)


class Backed(Named):
    """A service and the release that it is to go back to; none: the one before."""

    release: str | None = Field(default=None, max_length=80)
    force: bool = False


class Done(BaseModel):
    """A command is acknowledged: what it changes, one sentence each."""

    sentences: list[str]


def routes(app: FastAPI, desk: Desk, agent: Agent, declared: Callable[[], Awaitable[Deployment]]) -> None:
    """Add the routes about releases."""
    releasing = desk.releasing

    async def done(sentences: list[str]) -> Done:
        await agent.learned(desk.controller.revision)
        return Done(sentences=sentences)

    @app.get("/v1/releases", summary="The releases of a service that are kept, the oldest first")
    async def get_releases(service: str) -> list[dict[str, Any]]:
        _known(agent, service)
        found = await releasing.records.of(service)
        return [rollout_documents.listed(one, agent.world.services.get(service)) for one in found.values()]

    @app.get("/v1/diff", summary="In what two releases differ; no value of a variable is shown")
    async def get_diff(before: str, after: str) -> dict[str, Any]:
        one, other = await _named(desk, before), await _named(desk, after)
        files = [await releasing.records.listing(release) for release in (one, other)]
        return difference.document(difference.compare(one, other, files[0], files[1]))

    @app.get("/v1/rollout", summary="The last rollout of a service, and where it is")
    async def get_rollout(service: str) -> dict[str, Any] | None:
        found = _known(agent, service)
        return rollout_documents.told(found, agent.clock.now())

    @app.post("/v1/deploy", summary="Let in what the file declares now, step by step", response_model=Done)
    async def post_deploy(body: Deployed) -> Done:
        strategy = Strategy(body.strategy) if body.strategy is not None else None
        wishes = Wishes(strategy, body.message, body.observe, body.force)
        services = {one.name: one for one in (await declared()).services}
        return await done(await releasing.deploy(services, body.services, wishes))

    @app.post("/v1/rollback", summary="Go back to an earlier release at once", response_model=Done)
    async def post_rollback(body: Backed) -> Done:
        return await done(await releasing.roll_back(body.service, body.release, force=body.force))

    @app.post("/v1/abort", summary="End a rollout that is on trial", response_model=Done)
    async def post_abort(body: Named) -> Done:
        return await done(await releasing.abort(body.service))

    @app.post("/v1/promote-release", summary="Let a rollout wait no more", response_model=Done)
    async def post_promote_release(body: Named) -> Done:
        return await done(await releasing.promote(body.service))

    @app.post("/v1/acknowledge", summary="A rollback was seen: show it in red no more", response_model=Done)
    async def post_acknowledge(body: Named) -> Done:
        return await done(await releasing.acknowledge(body.service))


def _known(agent: Agent, service: str) -> ServiceState:
    found = agent.world.services.get(service)
    if found is None:
        names = ", ".join(sorted(agent.world.services)) or "none"
        raise ConfigError(f"there is no service {service!r} (there are: {names})", "perdure status")
    return found


async def _named(desk: Desk, name: str) -> Release:
    service, at, number = name.partition("@")
    if not at or not number.isdecimal():
        raise ConfigError(f"{name!r} is no release", "perdure diff web@6 web@7")
    return await desk.releasing.records.named(service, name)
