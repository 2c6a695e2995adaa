"""The waiting room: no server is up, and requests wait for the next one instead of failing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from haproxy_site import Load, Site, put, request, site

from perdure.model.service import Limits, Protocol, Retry
from perdure.model.traffic import Admin


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def test_the_only_replica_is_killed_and_replaced_after_a_second_and_no_get_fails(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(replicas=1)])
    replica = await here.replica()
    await balancer.change([put("s1", replica)])
    async with Load(here.port) as load:
        for server, next_one in (("s1", "s2"), ("s2", "s3")):
            await load.reach(100)
            await replica.kill()
            await balancer.change([put(server, None, Admin.MAINT)])
            await asyncio.sleep(1.0)
            replica = await here.replica()
            await balancer.change([put(next_one, replica)])
        await load.reach(100)
    assert load.failed == []
    assert 1.0 <= load.slowest_s < 2.0


async def test_waiting_may_last_longer_than_a_try(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(retry=Retry(timeout_s=0.2), limits=Limits(queue_timeout_s=5.0))])
    waiting = asyncio.create_task(request(here.port))
    await asyncio.sleep(1.5)
    await balancer.change([put("s1", await here.replica())])
    assert (await waiting).status == 200


async def test_a_wait_in_vain_ends_once_with_503_and_retry_after(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(limits=Limits(queue_timeout_s=0.5))])
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    answer = await request(here.port)
    assert (answer.status, "retry-after: 1" in answer.head.lower()) == (503, True)
    assert 0.45 <= loop.time() - asked_at < 1.2


async def test_more_than_may_wait_are_refused_at_once(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(limits=Limits(max_queue=3, queue_timeout_s=5.0))])
    tasks = {asyncio.create_task(request(here.port)) for _ in range(8)}
    refused: set[asyncio.Task[object]] = set()
    async with asyncio.timeout(3):
        while len(refused) < 5:
            done, _ = await asyncio.wait(tasks - refused, return_when=asyncio.FIRST_COMPLETED)
            refused |= done  # type: ignore[arg-type]
    await balancer.change([put("s1", await here.replica())])
    answers = [await task for task in tasks]
    assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 5


async def test_a_post_that_waited_is_still_sent_only_once(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(replicas=1)])
    waiting = asyncio.create_task(request(here.port, "POST", "/once", body="x"))
    await asyncio.sleep(0.3)
    await balancer.change([put("s1", await here.replica("reset"))])
    assert (await waiting).status == 502
    assert here.requests() == ["POST /once HTTP/1.1"]


async def test_a_get_that_waited_is_not_tried_more_often_than_declared(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(retry=Retry(attempts=3))])
    waiting = asyncio.create_task(request(here.port, "GET", "/some"))
    await asyncio.sleep(0.3)
    await balancer.change([put("s1", await here.replica("reset"))])
    assert (await waiting).status == 502
    assert len(here.requests()) <= 3


async def test_who_asked_is_known_also_after_waiting(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    waiting = asyncio.create_task(request(here.port))
    await asyncio.sleep(0.2)
    await balancer.change([put("s1", await here.replica())])
    assert "x-forwarded-for: 127.0.0.1" in (await waiting).body.lower()


async def test_what_waits_in_a_replaced_haproxy_is_answered_by_the_new_one(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    tasks = [asyncio.create_task(request(here.port)) for _ in range(4)]
    await asyncio.sleep(0.3)
    await balancer.configure([here.spec(servers=8)])
    await balancer.change([put("s1", await here.replica())])
    assert [(await task).status for task in tasks] == [200] * 4


async def test_new_connections_of_a_service_of_bytes_wait_too(here: Site) -> None:
    balancer = here.balancer()
    limits = Limits(queue_timeout_s=5.0)
    await balancer.configure([here.spec(protocol=Protocol.TCP, checks=(), limits=limits, replicas=1)])
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(b"hello")
    await asyncio.sleep(0.5)
    replica = await here.replica("echo")
    await balancer.change([put("s1", replica)])
    assert await asyncio.wait_for(reader.readexactly(5), 3) == b"hello"
    writer.close()
    await replica.kill()
    # Nobody told HAProxy: it learns from this connection, which waits like any other.
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(b"again")
    await asyncio.sleep(0.5)
    await balancer.change([put("s2", await here.replica("echo"))])
    assert await asyncio.wait_for(reader.readexactly(5), 3) == b"again"
    writer.close()


async def test_connections_that_wait_in_vain_are_closed(here: Site) -> None:
    balancer = here.balancer()
    limits = Limits(queue_timeout_s=0.4)
    await balancer.configure([here.spec(protocol=Protocol.TCP, checks=(), limits=limits)])
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    assert await asyncio.wait_for(reader.read(), 4) == b""
    writer.close()
