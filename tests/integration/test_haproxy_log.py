"""What HAProxy logs of real requests, as it reaches the daemon."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench.load import Load
from haproxy_site import Site, put, request, site

from perdure.adapters.balancer import sample
from perdure.model.traffic import Admin, Answered


@pytest.mark.parametrize(
    ("line", "answered"),
    [
        (
            b"web 21000 200 12 -- 0 700 80 10.0.0.1 GET /a b\n",
            Answered("web", 21000, "GET", "/a b", 200, 12, 1, 64, "10.0.0.1"),
        ),
        (b"web 21000 502 -1 SH +2 9 80 ::1 POST /pay", Answered("web", 21000, "POST", "/pay", 502, None, 3, 1, "::1")),
        (b"web 21000 200 5 CD 0 9 80 ::1 GET /given-up", None),
        (b"web - 503 -1 SC 0 9 80 GET /nobody", None),
        (b"fe <NOSRV> 400 -1 PR 0 9 80 <BADREQ>", None),
        (b"", None),
        (b"\xff\xfe web", None),
    ],
)
def test_a_line_is_a_request_or_nothing(line: bytes, answered: Answered | None) -> None:
    assert sample.parse(line) == answered


async def test_lines_are_received_until_they_are_taken_and_a_name_can_be_bound_again(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    for _ in range(2):
        receiving = sample.Sample(path)
        receiving.open()
        receiving.open()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for number in range(5):
                sender.sendto(b"web 1 200 1 -- 0 9 80 ::1 GET /%d" % number, str(path))
            sender.sendto(b"nonsense", str(path))
        taken: list[Answered] = []
        async with asyncio.timeout(5):
            while len(taken) < 5:
                await asyncio.sleep(0)
                taken += receiving.take()
        assert [one.path for one in taken] == [f"/{number}" for number in range(5)]
        assert oct(path.stat().st_mode & 0o777) == "0o600"
        receiving.close()
        receiving.close()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def logged(here: Site, count: int) -> list[Answered]:
    found: list[Answered] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += (await here.balancers[-1].read()).answered
    return found


async def test_each_request_is_logged_with_its_replica_path_status_and_time(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    good, failing = await here.replica(), await here.replica("failing")
    await balancer.change([put("s1", good)])
    await request(here.port, "GET", "/a/b?secret=1")
    await balancer.change([put("s1", None, Admin.MAINT), put("s2", failing)])
    await request(here.port, "POST", "/pay")
    first, second = await logged(here, 2)
    assert first == Answered("web", good.port, "GET", "/a/b", 200, first.response_ms, 1, 1, "127.0.0.1")
    assert first.response_ms is not None and 0 <= first.response_ms < 1_000
    assert (second.port, second.method, second.path, second.status) == (failing.port, "POST", "/pay", 503)


async def test_of_many_good_requests_a_sample_is_logged_that_says_for_how_many_it_stands(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica())])
    async with Load(f"http://127.0.0.1:{here.port}/", rate=800, duration_s=3) as load:
        found: list[Answered] = []
        while load.result().ok < 2_300:
            found += (await balancer.read()).answered
            await asyncio.sleep(0.01)
    assert len(found) < 1_500
    assert sum(one.stands_for for one in found) == pytest.approx(load.result().ok, rel=0.35)
    assert max(one.stands_for for one in found) >= 4


async def test_a_haproxy_that_was_adopted_logs_to_the_daemon_that_adopted_it(here: Site) -> None:
    balancer = here.balancer()
    process = await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica())])
    balancer.detach()
    await request(here.port, "GET", "/nobody-listens")
    heir = here.balancer()
    assert await heir.adopt(process, [here.spec()])
    await request(here.port, "GET", "/heard")
    assert [one.path for one in await logged(here, 1)] == ["/heard"]
