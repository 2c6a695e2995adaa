"""The part of the API that is about snapshots; `keepsakes` does what it is asked."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

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


class Told(BaseModel):
    """What was done, one sentence each."""

    sentences: list[str]


def routes(app: FastAPI, snapshots: Keepsakes) -> None:
    """Add the routes."""

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
