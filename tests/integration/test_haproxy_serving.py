"""A running HAProxy: membership without reload, retries and their rules, the bounded queue, services of bytes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from haproxy_site import Load, Site, put, request, site, web

from perdure.model.errors import UnavailableError
from perdure.model.replica import Process
from perdure.model.service import Limits, Protocol, Retry
from perdure.model.traffic import Admin, CloseServer, PutServer, SetRetry, WeighServer


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def test_members_change_under_load_with_no_reload_and_no_failure(here: Site) -> None:
    balancer = here.balancer()
    process = await balancer.configure([here.spec()])
    first, second = await here.replica(), await here.replica()
    await balancer.change([put("s1", first)])
    async with Load(here.port) as load:
        await load.reach(50)
        await balancer.change([put("s2", second), put("s1", None, Admin.DRAIN)])
        await load.reach(50)
        drained = (await web(balancer)).servers[0]
        await balancer.change([put("s1", None, Admin.MAINT)])
        await load.reach(50)
        after = (await web(balancer)).servers
    assert drained.admin is Admin.DRAIN
    assert (after[0].admin, after[1].admin) == (Admin.MAINT, Admin.READY)
    assert after[0].counters.requests == drained.counters.requests
    assert after[0].port == first.port and after[1].port == second.port
    assert load.failed == []
    assert await balancer.configure([here.spec()]) == process
    assert (await balancer.read()).pid == process.pid


async def test_a_reading_tells_every_server_also_the_ones_in_maintenance(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(servers=6)])
    replica = await here.replica("failing")
    await balancer.change([put("s5", replica)])
    await balancer.change([SetRetry("web", allowed=False)])
    await request(here.port)
    await balancer.change([put("s6", replica, Admin.MAINT)])
    found = await web(balancer)
    assert [server.name for server in found.servers] == ["s1", "s2", "s3", "s4", "s5", "s6"]
    assert [server.port for server in found.servers] == [0, 0, 0, 0, replica.port, replica.port]
    assert [server.admin for server in found.servers] == [*[Admin.MAINT] * 4, Admin.READY, Admin.MAINT]
    assert (found.servers[4].up, found.servers[4].counters.requests, found.servers[4].counters.responses_5xx) == (
        True,
        1,
        1,
    )


async def test_a_server_in_drain_reads_so_also_while_haproxy_holds_it_down(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    replica = await here.replica()
    await balancer.change([put("s1", replica), put("s1", None, Admin.DRAIN)])
    await replica.kill()
    async with asyncio.timeout(8):
        while (await web(balancer)).servers[0].up:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await web(balancer)).servers[0].admin is Admin.DRAIN


async def test_changes_may_be_repeated_and_a_wrong_one_is_an_error(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    replica = await here.replica()
    changes = [put("s1", replica), CloseServer("web", "s2"), SetRetry("web", allowed=True)]
    await balancer.change(changes)
    await balancer.change(changes)
    assert (await request(here.port)).status == 200
    with pytest.raises(UnavailableError, match="No such server"):
        await balancer.change([put("s9", replica)])
    with pytest.raises(AssertionError):
        await balancer.change([PutServer("web;shutdown", "s1", None, Admin.MAINT)])


async def test_killing_one_of_three_replicas_under_load_fails_no_get(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    replicas = [await here.replica() for _ in range(3)]
    await balancer.change([put(f"s{number}", replica) for number, replica in enumerate(replicas, 1)])
    async with Load(here.port) as load:
        await load.reach(100)
        await replicas[0].kill()
        await load.reach(300)
    assert load.failed == []
    # Nobody told HAProxy: it found out by itself.
    assert [server.up for server in (await web(balancer)).servers[:3]] == [False, True, True]


async def test_the_first_request_after_the_death_of_one_of_two_replicas_is_not_held_for_a_second(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(replicas=2)])
    replicas = [await here.replica() for _ in range(2)]
    await balancer.change([put(f"s{number}", replica) for number, replica in enumerate(replicas, 1)])
    await replicas[0].kill()
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    statuses = [(await request(here.port)).status for _ in range(2)]
    assert statuses == [200, 200]
    # HAProxy's own pause before it tries the last server is a second, unless the time to connect is shorter.
    assert loop.time() - asked_at < 0.9


async def test_a_post_is_sent_once_and_with_an_idempotency_key_it_is_tried_again(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(retry=Retry(attempts=3))])
    await balancer.change([put("s1", await here.replica("reset")), put("s2", await here.replica("reset"))])
    once = await request(here.port, "POST", "/once", body="x")
    assert once.status == 502
    assert here.requests() == ["POST /once HTTP/1.1"]
    await request(here.port, "POST", "/again", "Idempotency-Key: 7\r\n", body="x")
    assert here.requests().count("POST /again HTTP/1.1") == 3
    await request(here.port, "GET", "/get")
    assert here.requests().count("GET /get HTTP/1.1") == 3
    await request(here.port, "PATCH", "/patch")
    assert here.requests().count("PATCH /patch HTTP/1.1") == 1


async def test_what_only_reads_in_webdav_is_tried_again_and_what_makes_something_is_not(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(retry=Retry(attempts=3))])
    await balancer.change([put("s1", await here.replica("reset")), put("s2", await here.replica("reset"))])
    for method, times in (("PROPFIND", 3), ("REPORT", 3), ("SEARCH", 3), ("MKCALENDAR", 1), ("MOVE", 1)):
        await request(here.port, method, "/plans", body="x")
        assert here.requests().count(f"{method} /plans HTTP/1.1") == times, method


async def test_an_idempotent_request_reaches_the_replica_that_works(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica("reset")), put("s2", await here.replica())])
    for _ in range(6):
        assert (await request(here.port)).status == 200
    assert len(here.requests()) > 6


async def test_retries_can_be_switched_off_and_on_for_a_service(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica("failing")), SetRetry("web", allowed=False)])
    assert (await web(balancer)).retry_allowed is False
    assert (await request(here.port)).status == 503
    assert len(here.requests()) == 1
    await balancer.change([SetRetry("web", allowed=True)])
    assert (await web(balancer)).retry_allowed is True
    assert (await request(here.port)).status == 503
    assert len(here.requests()) == 1 + 3


async def test_the_retry_switch_outlives_a_new_configuration(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([SetRetry("web", allowed=False)])
    await balancer.configure([here.spec(servers=8)])
    await balancer.change([put("s1", await here.replica("failing"))])
    assert (await web(balancer)).retry_allowed is False
    await request(here.port)
    assert len(here.requests()) == 1


async def test_more_requests_than_may_wait_are_refused_fast(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(limits=Limits(max_concurrent=1, max_queue=2))])
    await balancer.change([put("s1", await here.replica("slow"))])
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    tasks = [asyncio.create_task(request(here.port)) for _ in range(12)]
    answers = [await task for task in asyncio.as_completed(tasks)]
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {200, 503}
    # HAProxy's threads may let a few more in than the bound says, for they look before they queue.
    assert 12 - 1 - 2 - 2 <= len(refused) <= 12 - 1 - 2
    assert all("retry-after: 1" in answer.head.lower() for answer in refused)
    assert answers[: len(refused)] == refused, "the refusals come first"
    assert loop.time() - asked_at < 3.0


async def test_a_replica_is_told_who_asked_whatever_the_client_claims(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica())])
    assert await _forwarded(here) == ["x-forwarded-for: 127.0.0.1"]


async def test_what_a_trusted_proxy_says_of_the_client_is_kept(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(trusted_proxies=("10.0.0.0/8", "127.0.0.1"))])
    replica = await here.replica()
    await balancer.change([put("s1", replica)])
    assert await _forwarded(here) == [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-for: 6.6.6.6",
        "x-forwarded-host: shop.test",
        "x-forwarded-proto: https",
    ]
    await balancer.configure([here.spec(trusted_proxies=("10.0.0.0/8",))])
    await balancer.change([put("s1", replica)])
    assert await _forwarded(here) == ["x-forwarded-for: 127.0.0.1"]


async def _forwarded(here: Site) -> list[str]:
    """The headers that the replica saw, when the client claims to have forwarded the request."""
    claimed = "x-forwarded-for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-FORWARDED-HOST: shop.test\r\n"
    answer = await request(here.port, headers=claimed)
    return sorted(line for line in answer.body.lower().splitlines() if line.startswith("x-forwarded"))


async def test_a_service_of_bytes_is_served_and_its_members_change(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(protocol=Protocol.TCP, checks=())])
    first, second = await here.replica("echo"), await here.replica("echo")
    await balancer.change([put("s1", first), put("s2", second)])
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    sessions = [server.sessions for server in (await web(balancer)).servers]
    assert sum(sessions) == 1
    name = f"s{sessions.index(1) + 1}"
    await balancer.change([put(name, None, Admin.MAINT)])
    assert (await web(balancer)).servers[sessions.index(1)].sessions == 1, "what is in maintenance still finishes"
    await balancer.change([CloseServer("web", name)])
    assert await reader.read() == b""
    writer.close()
    async with asyncio.timeout(5):
        while (await web(balancer)).servers[sessions.index(1)].sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    writer.close()


async def test_what_does_not_run_cannot_be_read_or_changed(here: Site) -> None:
    balancer = here.balancer()
    with pytest.raises(UnavailableError):
        await balancer.read()
    with pytest.raises(UnavailableError):
        await balancer.change([put("s1", None, Admin.MAINT)])
    assert await balancer.adopt(Process(2**22 - 1, 5), [here.spec()]) is False


async def test_a_light_server_gets_fewer_of_many_requests_at_a_time_and_says_what_it_weighs(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    replicas = [await here.replica("slow"), await here.replica("slow")]
    await balancer.change([put("s1", replicas[0]), put("s2", replicas[1]), WeighServer("web", "s2", 10)])
    assert [server.weight for server in (await web(balancer)).servers[:2]] == [100, 10]
    async with Load(here.port, clients=12) as load:
        await load.reach(24)
        first, second = (await web(balancer)).servers[:2]
    assert second.counters.requests < first.counters.requests / 3
    await balancer.change([WeighServer("web", "s2", 100)])
    assert (await web(balancer)).servers[1].weight == 100
