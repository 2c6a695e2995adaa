"""One of three replicas is killed, stopped or paused while clients ask: none of them notices, and it is repaired."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from e2e import Site, site, wait

KILLS = 3
STOPS = 3
CRASH_OUT_S = 0.5
HANG_OUT_S = 3.0


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as made:
        made.web()
        made.up()
        yield made


async def test_a_killed_replica_fails_no_request_and_is_out_within_half_a_second(web: Site) -> None:
    async with web.load() as clients:
        for _ in range(KILLS):
            victim = await _some_replica(web)
            assert _strike(web, victim, signal.SIGKILL) <= CRASH_OUT_S
            web.whole(victim["pid"])
    assert clients.result.failed == 0, clients.result.sentence()
    assert clients.result.ok > 500


async def test_a_stopped_replica_fails_no_request_and_is_out_within_three_seconds(web: Site) -> None:
    async with web.load() as clients:
        for _ in range(STOPS):
            victim = await _some_replica(web)
            assert _strike(web, victim, signal.SIGSTOP) <= HANG_OUT_S
            web.whole(victim["pid"])
    assert clients.result.failed == 0, clients.result.sentence()
    assert clients.result.max_s < HANG_OUT_S + 2.0


async def test_a_pause_of_two_seconds_isolates_nobody_and_restarts_nothing(web: Site) -> None:
    web.whole()
    since, pids = web.newest(), web.pids()
    async with web.load(rate=100.0) as clients:
        victim = await _some_replica(web)
        os.kill(victim["pid"], signal.SIGSTOP)
        await asyncio.sleep(2.0)
        os.kill(victim["pid"], signal.SIGCONT)
        wait(lambda: "R04" in web.rules(since), "the suspicion is gone", 20.0)
    assert set(web.rules(since)) == {"R03", "R04"}, web.events(since)
    assert web.pids() == pids
    assert clients.result.failed == 0, clients.result.sentence()


async def _some_replica(web: Site) -> dict[str, Any]:
    """One of the replicas, at a random phase of every timer."""
    web.whole()
    await asyncio.sleep(random.uniform(0.1, 1.1))
    return random.choice(web.replicas())


def _strike(web: Site, victim: dict[str, Any], number: signal.Signals) -> float:
    """Send the signal, and return after how many seconds HAProxy sends the replica nothing any more."""
    at = time.monotonic()
    os.kill(victim["pid"], number)
    wait(lambda: victim["port"] not in web.carried(), f"{victim['slot']} is out of traffic", period_s=0.005)
    return time.monotonic() - at
