"""The part of the API that is about snapshots; `keepsakes` and `going_back` do what they are asked."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from perdure.control.going_back import Rollbacks
from perdure.control.keepsakes import Keepsakes


class Strict(BaseModel):
    """A request body; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Taken(Strict):
    """Of which service, or slot, a snapshot is to be taken."""

    target: str = Field(max_length=80)


class Chosen(Strict):
    """A snapshot of a service."""

    service: str = Field(max_length=63)
    snapshot: str = Field(max_length=40)


class Pinned(Chosen):
    """Whether it is to be kept whatever retention says."""

    pinned: bool = True


class Marked(Strict):
    """A name for a snapshot; without one a new snapshot is taken."""

    service: str = Field(max_length=63)
    name: str = Field(max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    snapshot: str | None = Field(default=None, max_length=40)


class Unmarked(Strict):
    """A name that no snapshot is to have any more."""

    service: str = Field(max_length=63)
    name: str = Field(max_length=80)


class Brought(Strict):
    """The file that a snapshot comes from (an absolute path)."""

    service: str = Field(max_length=63)
    file: str = Field(max_length=4096, pattern=r"^/")


class Carried(Brought):
    """A snapshot and the file that it goes to."""

    snapshot: str = Field(max_length=40)


class Wanted(Strict):
    """To what a service is to go back: a marker, a snapshot, how long ago, or a time."""

    service: str = Field(max_length=63)
    to: str = Field(min_length=1, max_length=80)


class Named(Strict):
    """A service."""

    service: str = Field(max_length=63)


class Agreed(Named):
    """The token of the plan, by which somebody agrees to what is lost."""

    token: str = Field(max_length=40)
    without_safety: bool = False


class Rescued(Named):
    """The tables whose rows are to be put back; none: all of them."""

    tables: list[str] = Field(default_factory=list, max_length=1000)


class Told(BaseModel):
    """What was done, one sentence each."""

    sentences: list[str]


def routes(app: FastAPI, snapshots: Keepsakes, rollbacks: Rollbacks) -> None:
    """Add the routes."""
    _kept(app, snapshots)
    _going_back(app, rollbacks)


def _going_back(app: FastAPI, rollbacks: Rollbacks) -> None:
    @app.post("/v1/restore-plan", summary="Restore a snapshot aside, and say what going back to it would cost")
    async def post_plan(body: Wanted) -> dict[str, Any]:
        return await rollbacks.plan(body.service, body.to)

    @app.post("/v1/undo-plan", summary="Say what undoing the last rollback would cost")
    async def post_undo_plan(body: Named) -> dict[str, Any]:
        return await rollbacks.plan_undo(body.service)

    @app.post("/v1/restore", summary="Carry out the plan with this token", response_model=Told)
    async def post_restore(body: Agreed) -> Told:
        return Told(sentences=await rollbacks.carry_out(body.service, body.token, body.without_safety))

    @app.post("/v1/rescue", summary="Put the rows back that the last rollback lost", response_model=Told)
    async def post_rescue(body: Rescued) -> Told:
        return Told(sentences=await rollbacks.rescue(body.service, body.tables))


def _kept(app: FastAPI, snapshots: Keepsakes) -> None:

    @app.get("/v1/snapshots/{service}", summary="The snapshots of a service, the newest first")
    async def get_snapshots(service: str) -> list[dict[str, Any]]:
        return await snapshots.listed(service)

    @app.get("/v1/snapshots/{service}/{snapshot}", summary="All that is known of one snapshot")
    async def get_snapshot(service: str, snapshot: str) -> dict[str, Any]:
        return await snapshots.shown(service, snapshot)

    @app.post("/v1/snapshot-take", summary="Take a snapshot now", response_model=Told)
    async def post_take(body: Taken) -> Told:
        return Told(sentences=await snapshots.take(body.target))

    @app.post("/v1/snapshot-verify", summary="Read a snapshot and restore it aside", response_model=Told)
    async def post_verify(body: Chosen) -> Told:
        return Told(sentences=await snapshots.verify(body.service, body.snapshot))

    @app.post("/v1/snapshot-pin", summary="Keep a snapshot until it is unpinned, or not", response_model=Told)
    async def post_pin(body: Pinned) -> Told:
        return Told(sentences=await snapshots.pin(body.service, body.snapshot, body.pinned))

    @app.post("/v1/snapshot-mark", summary="Give a snapshot a name", response_model=Told)
    async def post_mark(body: Marked) -> Told:
        return Told(sentences=await snapshots.mark(body.service, body.name, body.snapshot))

    @app.post("/v1/snapshot-unmark", summary="Take a name away from a snapshot", response_model=Told)
    async def post_unmark(body: Unmarked) -> Told:
        return Told(sentences=await snapshots.unmark(body.service, body.name))

    @app.post("/v1/snapshot-export", summary="Write a snapshot to a file", response_model=Told)
    async def post_export(body: Carried) -> Told:
        return Told(sentences=await snapshots.transfer_out(body.service, body.snapshot, body.file))

    @app.post("/v1/snapshot-import", summary="Read a snapshot from a file", response_model=Told)
    async def post_import(body: Brought) -> Told:
        return Told(sentences=await snapshots.transfer_in(body.service, body.file))
