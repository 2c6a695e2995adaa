"""Planned changes under load: restart, deploy in place, scale, drain. No request fails, also none of two seconds."""

from collections.abc import Iterator

import pytest
from bench.load import Kind
from e2e import Site, environment_of, get, gone, site, wait

QUICK = 'deploy = { stable = "0s", exposure = 50, watch = "5s" }\n'
MIX = (Kind(path="/", weight=9.0), Kind(path="/slow?s=2", weight=1.0))


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as made:
        made.web()
        made.up()
        yield made


async def test_a_rolling_restart_fails_no_request_also_none_of_two_seconds(web: Site) -> None:
    web.whole()
    before = web.pids()
    async with web.load(rate=100.0, mix=MIX) as clients:
        wait(lambda: _in_flight(web), "slow requests are in flight")
        web.ask("restart", "web")
    assert clients.result.failed == 0, clients.result.sentence()
    assert not set(before).intersection(web.pids())
    assert gone(*before)
    web.whole()


async def test_another_environment_in_place_fails_no_request_also_none_of_two_seconds(web: Site) -> None:
    web.whole()
    before, balancer = web.pids(), web.status()["balancer"]["pid"]
    async with web.load(rate=100.0, mix=MIX) as clients:
        wait(lambda: _in_flight(web), "slow requests are in flight")
        web.web(more='env = { COLOUR = "blue" }\n' + QUICK)
        refused = web.run("reload")
        assert refused.returncode == 6 and "perdure deploy web" in refused.stderr
        web.ask("deploy", "--strategy", "rolling")
    assert clients.result.failed == 0, clients.result.sentence()
    assert not set(before).intersection(web.pids())
    assert {one["release"] for one in web.replicas()} == {"web@2"}
    assert all(b"COLOUR=blue" in environment_of(pid) for pid in web.pids())
    assert web.status()["balancer"]["pid"] == balancer
    web.whole()


async def test_a_change_that_also_replaces_haproxy_waits_for_what_the_old_one_still_has(web: Site) -> None:
    """The old HAProxy finishes POSTs of four seconds, and cannot be asked about them; the new one has none. The program
    would finish them when it is told to end; it is killed instead.
    """
    web.whole()
    before, balancer = web.pids(), web.status()["balancer"]["pid"]
    async with web.load(rate=12.0, count=12, mix=(Kind("POST", "/slow?s=4", body=b"x"),)) as clients:
        wait(lambda: sum(web.sessions().values()) == 12, "all requests are in flight")
        killed = 'restart = { stop_signal = "SIGKILL" }\n'
        web.web(more=f'env = {{ COLOUR = "blue" }}\nlimits = {{ max_concurrent = 200 }}\n{killed}{QUICK}')
        web.ask("reload")
        web.ask("restart", "web")
        await clients.done()
    assert clients.result.failed == 0, clients.result.sentence()
    assert not set(before).intersection(web.pids())
    assert web.status()["balancer"]["pid"] != balancer
    web.whole()


async def test_scaling_up_and_down_fails_no_request_and_ends_what_is_too_much(web: Site) -> None:
    web.whole()
    before = web.pids()
    async with web.load(rate=200.0) as clients:
        web.ask("scale", "web=5")
        web.whole()
        five = web.pids()
        web.ask("scale", "web=2")
        web.whole()
    assert clients.result.failed == 0, clients.result.sentence()
    assert (len(five), five[:3]) == (5, before)
    assert web.pids() == before[:2]
    assert gone(*five[2:])
    web.ask("scale", "web=3")


async def test_a_drained_replica_gets_no_request_until_it_is_undrained(web: Site) -> None:
    web.whole()
    drained = web.replica(2)
    async with web.load(rate=200.0) as clients:
        web.ask("drain", "web/2")
        assert drained["port"] not in web.carried()
        answered = {get(web.port).split()[-1] for _ in range(20)}
        web.ask("undrain", "web/2")
        wait(lambda: drained["port"] in web.carried(), "it gets requests again")
    assert clients.result.failed == 0, clients.result.sentence()
    assert len(answered) == 2 and str(drained["pid"]) not in answered
    assert web.replica(2)["pid"] == drained["pid"]


def _in_flight(web: Site) -> bool:
    """Whether HAProxy counts requests under way in every replica."""
    counts = web.sessions().values()
    return len(counts) == 3 and all(counts)
