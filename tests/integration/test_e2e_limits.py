"""Replicas that run full: nobody accepts, or no descriptor is left; seen in the kernel before clients notice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e import Site, break_replica, site, wait


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with site() as made:
        made.web("--backlog", "8", more="limits = { open_files = 200 }\n")
        made.up()
        made.whole()
        yield made


def test_what_a_replica_holds_is_explained(here: Site) -> None:
    def held() -> str:
        (slot,) = here.explain("web/1")["slots"]
        return next((one["sentence"] for one in slot["evidence"] if one["class"] == "limit"), "")

    words = wait(lambda: held() if "backlog" in held() else "", "descriptors and backlog are known")
    assert " of 200 descriptors" in words and "of 8 connections in the backlog" in words


async def test_a_replica_that_accepts_nobody_is_isolated_for_its_backlog_and_no_request_fails(here: Site) -> None:
    since, victim = here.newest(), here.replica(1)
    break_replica(victim, "deaf")
    async with here.load(rate=100.0) as clients:
        await asyncio.to_thread(wait, lambda: _isolated(here, since), "it is isolated", 10.0)
    assert clients.result.failed == 0, clients.result.sentence()
    (conviction,) = _isolated(here, since)
    assert (conviction["subject"], conviction["facts"]["sign"]) in [("web/1", "backlog"), ("web/1", "hang")]
    here.whole(victim["pid"])


def test_a_replica_without_descriptors_is_isolated_for_them(here: Site) -> None:
    here.whole()
    since, victim = here.newest(), here.replica(2)
    used = len(list(Path(f"/proc/{victim['pid']}/fd").iterdir()))
    break_replica(victim, f"files&count={197 - used}")
    (conviction,) = wait(lambda: _isolated(here, since), "it is isolated", 10.0)
    assert (conviction["subject"], conviction["facts"]["sign"]) == ("web/2", "descriptors")
    assert "of 200 descriptors" in conviction["sentence"]
    break_replica(victim, "none")
    wait(lambda: victim["port"] in here.carried(), "it is readmitted", 20.0)
    assert here.replica(2)["pid"] == victim["pid"]


def _isolated(here: Site, since: int) -> list[dict[str, Any]]:
    return [one for one in here.events(since) if one["rule"] == "R01"]
