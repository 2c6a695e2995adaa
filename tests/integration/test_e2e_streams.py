"""Answers that go on for long: a replica that only has streams waits for nothing."""

import asyncio

from bench.load import Kind
from e2e import break_replica, site

STREAMS = 5


async def _stream(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a large answer, and return when it has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer


async def test_a_replica_that_only_has_streams_is_not_held_to_be_stuck() -> None:
    """Five answers never end on one of two replicas, and all else goes to the other, which has fewer requests."""
    with site() as here:
        here.web(more='restart = { drain_timeout = "1s", stop_timeout = "1s" }\n', replicas=2)
        here.up()
        here.whole()
        since = here.newest()
        for replica in here.replicas():
            break_replica(replica, "large-hangs")
        here.ask("drain", "web/2")
        streams = [await _stream(here.port) for _ in range(STREAMS)]
        here.ask("undrain", "web/2")
        async with here.load(rate=20.0, mix=(Kind("POST", "/", body=b"x"),)) as clients:
            await asyncio.sleep(4.0)
            busy = max(here.sessions().values())
        for _, writer in streams:
            writer.close()
        assert clients.result.failed == 0, clients.result.sentence()
        assert busy >= STREAMS
        assert [one["sentence"] for one in here.events(since) if one["rule"] in ("R01", "R03", "R11")] == []
