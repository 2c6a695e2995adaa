"""What time it is at a replica: the `Date` header of its answers."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from perdure.adapters.prober import Probers
from perdure.model.check import Check, CheckKind
from perdure.model.evidence import Outcome
from perdure.ports.prober import Target


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        (lambda: formatdate(time.time() + 3600.0, usegmt=True).encode(), 3600.0),
        (lambda: formatdate(usegmt=True).encode(), 0.0),
        (lambda: b"yesterday", None),
        (lambda: b"", None),
    ],
    ids=["ahead", "right", "no date", "empty"],
)
async def test_an_answer_tells_by_how_much_the_replicas_clock_is_ahead(
    date: Callable[[], bytes], ahead_s: float | None
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ndate: " + date() + b"\r\n\r\nok")
        writer.close()

    probers = Probers()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        got = await probers.probe(Check(CheckKind.HTTP, "/healthz"), Target(server.sockets[0].getsockname()[1]), 5.0)
    await probers.close()
    assert got.outcome is Outcome.GOOD
    assert got.clock_ahead_s == (None if ahead_s is None else pytest.approx(ahead_s, abs=5.0))
