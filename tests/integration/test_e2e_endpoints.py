"""Replicas that fail in part, with a health endpoint that says that all is well: what clients get convicts them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from bench.load import Kind
from e2e import Site, break_replica, site, wait

ENDPOINTS = (Kind("GET", "/", 6.0), Kind("GET", "/search", 3.0), Kind("GET", "/pay", 1.0))


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with site() as made:
        made.web("--work", "0.005")
        made.up()
        made.whole()
        yield made


@pytest.mark.parametrize(
    ("number", "fault", "sign", "within_s"),
    [
        (1, "error&on=/pay&status=500", "requests", 10.0),
        (2, "error&status=403", "refusals", 10.0),
        (3, "silent", "stalled", 15.0),
    ],
)
async def test_what_only_clients_see_convicts_the_replica(
    here: Site, number: int, fault: str, sign: str, within_s: float
) -> None:
    _serves(here)
    since, victim = here.newest(), here.replica(number)
    async with here.load(rate=60.0, mix=ENDPOINTS) as clients:
        await _until_known(here)
        break_replica(victim, fault)
        await asyncio.to_thread(wait, lambda: victim["port"] not in here.carried(), "it is out of traffic", within_s)
    convicted = {one["subject"]: one["facts"]["sign"] for one in here.events(since) if one["rule"] == "R01"}
    assert convicted == {f"web/{number}": sign}
    assert set(clients.result.outcomes) <= {"ok", "status 500", "status 403"}, clients.result.sentence()
    if sign != "stalled":
        break_replica(victim, "none")


async def test_what_all_replicas_fail_at_is_told_in_words_with_the_endpoint_and_isolates_nobody(here: Site) -> None:
    _serves(here)
    since, pids = here.newest(), here.pids()
    async with here.load(rate=60.0, mix=ENDPOINTS):
        await _until_known(here)
        for replica in here.replicas():
            break_replica(replica, "error&on=/pay&status=500")
        words = "all replicas fail on /pay with 500"
        found = await asyncio.to_thread(wait, lambda: _sentence(here, words), "the status says what they share", 20.0)
        assert found.endswith("nobody is isolated (scope: dependency)")
        for replica in here.replicas():
            break_replica(replica, "none")
    assert [one["rule"] for one in here.events(since) if one["severity"] == "alarm"] == ["R08"]
    assert here.pids() == pids
    assert not [one for one in here.events(since) if one["rule"] == "R01"]


def _serves(here: Site) -> None:
    """Wait until all three get requests; one that was readmitted is suspected for a while."""
    wait(
        lambda: len(here.carried()) == 3 and not here.status()["services"]["web"]["desired"]["pending"],
        "all serve",
        40.0,
    )


async def _until_known(here: Site) -> None:
    """Wait until every replica's answers at every endpoint are known."""

    def known() -> bool:
        slots = here.explain()["slots"]
        return all({"/", "/pay", "/search"} <= {one["endpoint"] for one in slot["evidence"]} for slot in slots)

    await asyncio.to_thread(wait, known, "all endpoints are known", 20.0)


def _sentence(here: Site, words: str) -> str:
    service: dict[str, Any] = here.status()["services"]["web"]
    return str(service["sentence"]) if words in service["sentence"] else ""
