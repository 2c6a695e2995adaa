"""The processes of HAProxy: replaced under load, killed, adopted by the next daemon, refused, and ended."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from haproxy_site import Load, Site, put, request, site, web

from perdure.adapters.balancer import launch
from perdure.model.errors import ConfigError, ConflictError, UnavailableError
from perdure.model.service import Address
from perdure.model.traffic import Admin, SetRetry


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def listening_sockets(port: int) -> int:
    lines = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    cells = [line.split() for line in lines.splitlines()]
    return sum(1 for cell in cells if cell[3] == "0A" and cell[1].endswith(f":{port:04X}"))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def test_a_new_configuration_under_load_fails_no_request(here: Site) -> None:
    balancer = here.balancer()
    old = await balancer.configure([here.spec()])
    replica = await here.replica()
    await balancer.change([put("s1", replica)])
    async with Load(here.port) as load:
        for servers in (8, 16, 32):
            await load.reach(60)
            new = await balancer.configure([here.spec(servers=servers)])
            await balancer.change([put("s1", replica)])
        await load.reach(60)
    assert load.failed == []
    assert new.pid != old.pid
    assert (await balancer.read()).pid == new.pid
    async with asyncio.timeout(5):
        while launch.started_ticks(old.pid) == old.started_ticks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_request_in_flight_is_finished_by_the_old_process(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica("slow"))])
    asked = asyncio.create_task(request(here.port))
    async with asyncio.timeout(5):
        while (await web(balancer)).servers[0].sessions == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await balancer.configure([here.spec(servers=8)])
    assert (await asked).status == 200


async def test_connections_made_while_haproxy_is_dead_are_answered_by_the_next(here: Site) -> None:
    balancer = here.balancer()
    first = await balancer.configure([here.spec()])
    replica = await here.replica()
    ended = asyncio.Event()
    balancer.on_exit(ended.set)
    balancer.kill()
    await asyncio.wait_for(ended.wait(), 2)
    with pytest.raises(UnavailableError):
        await balancer.read()
    waiting = [asyncio.create_task(request(here.port)) for _ in range(20)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    second = await balancer.configure([here.spec()])
    await balancer.change([put("s1", replica)])
    assert [(await task).status for task in waiting] == [200] * 20
    assert loop.time() - started_at < 2.0
    assert second.pid != first.pid


async def test_the_next_daemon_adopts_haproxy_with_its_sockets_and_its_state(here: Site) -> None:
    before = here.balancer()
    spec = here.spec()
    process = await before.configure([spec])
    replica = await here.replica()
    await before.change([put("s1", replica), put("s2", replica, Admin.DRAIN), SetRetry("web", allowed=False)])
    async with Load(here.port) as load:
        await load.reach(30)
        before.detach()
        after = here.balancer()
        assert await after.adopt(process, [spec])
        assert await after.configure([spec]) == process, "the same configuration changes nothing"
        await load.reach(30)
        found = await web(after)
        assert found.retry_allowed is False
        assert [server.admin for server in found.servers[:3]] == [Admin.READY, Admin.DRAIN, Admin.MAINT]
        await after.configure([here.spec(servers=8)])
        await after.change([put("s1", replica)])
        await load.reach(30)
    assert load.failed == []


async def test_the_listening_sockets_come_along_with_an_adopted_haproxy(here: Site) -> None:
    before = here.balancer()
    process = await before.configure([here.spec()])
    before.detach()
    after = here.balancer()
    ended = asyncio.Event()
    after.on_exit(ended.set)
    assert await after.adopt(process, [here.spec()])
    after.kill()
    await asyncio.wait_for(ended.wait(), 2)
    # Without HAProxy a connection waits instead of being refused.
    waiting = asyncio.create_task(request(here.port))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await after.configure([here.spec()])
    await after.change([put("s1", await here.replica())])
    assert (await waiting).status == 200


async def test_the_end_of_an_adopted_haproxy_is_seen(here: Site) -> None:
    before = here.balancer()
    process = await before.configure([here.spec()])
    before.detach()
    after = here.balancer()
    ended = asyncio.Event()
    after.on_exit(ended.set)
    assert await after.adopt(process, [here.spec()])
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.wait_for(ended.wait(), 2)
    other = here.balancer()
    assert await other.adopt(process, [here.spec()]) is False
    assert await other.adopt(replace(process, started_ticks=process.started_ticks + 1), [here.spec()]) is False


async def test_a_haproxy_that_nobody_noted_is_ended_by_the_next_daemon(here: Site) -> None:
    before = here.balancer()
    stray = await before.configure([here.spec()])
    before.detach()
    (here.directory / "haproxy.json").unlink()
    after = here.balancer()
    process = await after.configure([here.spec()])
    await after.change([put("s1", await here.replica())])
    assert process.pid != stray.pid
    assert launch.started_ticks(stray.pid) != stray.started_ticks
    assert (await request(here.port)).status == 200


async def test_a_daemon_that_dies_between_starting_the_next_haproxy_and_noting_it_fails_no_request(here: Site) -> None:
    """The next one has told the one that was noted to finish: neither is what the next daemon can go on with."""
    before, replica = here.balancer(), await here.replica()
    noted = await before.configure([here.spec()])
    await before.change([put("s1", replica)])
    known = (here.directory / "haproxy.json").read_text()
    async with Load(here.port) as load:
        await load.reach(60)
        unnoted = await before.configure([here.spec(servers=8)])
        await before.change([put("s1", replica)])
        before.detach()
        (here.directory / "haproxy.json").write_text(known)
        after = here.balancer()
        assert not await after.adopt(noted, [here.spec()])
        process = await after.configure([here.spec(servers=16)])
        await after.change([put("s1", replica)])
        await load.reach(60)
    assert load.failed == []
    assert process.pid not in (noted.pid, unnoted.pid) and (await after.read()).pid == process.pid
    async with asyncio.timeout(5):
        while any(launch.started_ticks(one.pid) == one.started_ticks for one in (noted, unnoted)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_haproxy_that_hangs_does_not_answer_and_can_be_replaced(here: Site) -> None:
    balancer = here.balancer()
    process = await balancer.configure([here.spec()])
    ended = asyncio.Event()
    balancer.on_exit(ended.set)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(UnavailableError, match="did not answer"):
        await balancer.read()
    balancer.kill()
    await asyncio.wait_for(ended.wait(), 2)
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica())])
    assert (await request(here.port)).status == 200


async def test_the_end_of_a_replaced_process_is_no_event(here: Site) -> None:
    balancer = here.balancer()
    events: list[str] = []
    balancer.on_exit(lambda: events.append("ended"))
    old = await balancer.configure([here.spec()])
    await balancer.configure([here.spec(servers=8)])
    async with asyncio.timeout(5):
        while launch.started_ticks(old.pid) == old.started_ticks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert events == []


async def test_a_configuration_that_haproxy_refuses_changes_nothing(here: Site) -> None:
    balancer = here.balancer()
    process = await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica())])
    files = sorted(path.name for path in here.directory.iterdir())
    with pytest.raises(ConfigError, match="be-web"):
        await balancer.configure([here.spec(), here.spec()])
    assert (await balancer.read()).pid == process.pid
    assert (await request(here.port)).status == 200
    assert sorted(path.name for path in here.directory.iterdir() if path.name != "requests") == files


@pytest.mark.parametrize("shares", [False, True])
async def test_a_port_that_somebody_else_listens_on_is_a_conflict(here: Site, shares: bool) -> None:
    with socket.socket() as stranger:
        if shares:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", here.port))
        stranger.listen()
        with pytest.raises(ConflictError, match=str(here.port)) as caught:
            await here.balancer().configure([here.spec()])
    assert str(here.port) in caught.value.hint


async def test_an_address_of_another_machine_is_an_error_of_the_file(here: Site) -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        await here.balancer().configure([here.spec(listen=Address("192.0.2.1", here.port))])


async def test_a_directory_too_long_for_sockets_is_an_error_with_a_hint(here: Site) -> None:
    deep = here.directory / ("d" * 90)
    deep.mkdir()
    balancer = replace(here, directory=deep).balancer()
    with pytest.raises(ConfigError, match="too long") as caught:
        await balancer.configure([here.spec()])
    assert "PERDURE_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "asked"),
    [("::1", "::1"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1"), ("127.0.0.1",) * 2],
)
async def test_every_kind_of_address_is_served_on_one_socket_alone(here: Site, host: str, asked: str) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec(listen=Address(host, here.port))])
    await balancer.change([put("s1", await here.replica())])
    # A second one would be HAProxy's own, and what the kernel gives to the lent one would never be answered.
    assert listening_sockets(here.port) == 1
    reader, writer = await asyncio.open_connection(asked, here.port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_service_that_goes_takes_its_socket_with_it(here: Site) -> None:
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.configure([])
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            except ConnectionRefusedError:
                break
            writer.close()
            await asyncio.sleep(0.01)
    assert (await balancer.read()).backends == ()


async def test_stop_leaves_no_process_no_socket_and_no_file_but_log_and_memory(here: Site) -> None:
    descriptors = open_descriptors()
    balancer = here.balancer()
    await balancer.configure([here.spec()])
    await balancer.change([put("s1", await here.replica("slow"))])
    asked = asyncio.create_task(request(here.port))
    async with asyncio.timeout(5):
        while (await web(balancer)).servers[0].sessions == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    process = await balancer.configure([here.spec(servers=8)])
    await balancer.stop()
    await balancer.stop()
    await asyncio.gather(asked, return_exceptions=True)
    assert launch.started_ticks(process.pid) != process.started_ticks
    left = {path.name for path in here.directory.iterdir()} - {"requests"}
    assert left == {"haproxy.log", "haproxy.json"}
    with pytest.raises(ConnectionRefusedError):
        await request(here.port)
    await here.replicas[0].kill()
    await asyncio.sleep(0)
    assert open_descriptors() <= descriptors + 1  # the pipe of the replica's output
