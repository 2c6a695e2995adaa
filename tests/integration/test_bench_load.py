"""The load generator against servers that misbehave in known ways: every count must be exactly right."""

import asyncio
import contextlib
import fcntl
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO

import pytest
from bench.load import Kind, Load, Plan
from bench.load_process import ROOT, LoadProcess
from bench.pool import Resend

Handler = Callable[["Served", int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = Kind("POST", body=b"x")
KEYED = Kind("POST", key=True, body=b"x")


class Served:
    """A server that reads one request after another and lets `handler` answer the n-th of all (counted from 1)."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""
        self.writer: asyncio.StreamWriter
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: 1" in head:
                    await reader.readexactly(1)
                self.requests.append(head)
                self.writer = writer
                await self._handler(self, len(self.requests))

    def ids(self) -> list[bytes]:
        return [head.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0] for head in self.requests]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Served]:
    served = Served(handler)
    server = await asyncio.start_server(served.accept, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield served
    finally:
        server.close()
        await served.end()
        await server.wait_closed()


async def until(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def close(served: Served) -> None:
    served.writer.close()


def reset(served: Served) -> None:
    taken = served.writer.get_extra_info("socket")
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.writer.transport.abort()


async def good(served: Served, number: int) -> None:
    served.writer.write(OK)


def every_fourth(act: Callable[[Served], None]) -> Handler:
    async def handle(served: Served, number: int) -> None:
        if number % 4 == 0:
            act(served)
        else:
            served.writer.write(OK)

    return handle


async def test_a_good_server_answers_every_request_on_schedule() -> None:
    async with serving(good) as served, Load(served.url, rate=400, count=200) as load:
        await load.done()
    result = load.result()
    assert (result.sent, result.ok, result.failed, result.unfinished, result.resent) == (200, 200, 0, 0, 0)
    assert len(set(served.ids())) == 200
    samples = sorted(load.samples(), key=lambda sample: sample.number)
    assert [sample.number for sample in samples] == list(range(1, 201))
    assert samples[-1].due_at - samples[0].due_at == pytest.approx(199 / 400, abs=1e-6)
    assert served.connections <= 20


async def test_a_duration_ends_the_load() -> None:
    async with serving(good) as served, Load(served.url, rate=200, duration_s=0.5) as load:
        await load.done()
    assert load.result().sent == load.result().ok == 100


@pytest.mark.parametrize("act", [close, reset])
async def test_a_get_whose_connection_closes_without_a_byte_is_sent_once_more(act: Callable[[Served], None]) -> None:
    async with serving(every_fourth(act)) as served, Load(served.url, rate=300, count=90, connections=1) as load:
        await load.done()
    result = load.result()
    # of each four that reach the server the last is dropped, and its second try is the first of the next four
    assert (result.sent, result.ok, result.failed, result.resent) == (90, 90, 0, 29)
    assert result.resent_fresh == 0
    assert len(served.requests) == 119
    assert len(set(served.ids())) == 90


@pytest.mark.parametrize(("act", "reason"), [(close, "closed"), (reset, "reset")])
async def test_without_resending_the_same_requests_fail(act: Callable[[Served], None], reason: str) -> None:
    never = Resend.NEVER
    async with (
        serving(every_fourth(act)) as served,
        Load(served.url, 300, count=80, connections=1, resend=never) as load,
    ):
        await load.done()
    result = load.result()
    assert (result.ok, result.failed, result.resent) == (60, 20, 0)
    assert result.outcomes == {"ok": 60, reason: 20}
    assert len(served.requests) == 80


async def test_a_post_without_a_key_is_never_sent_again_and_one_with_a_key_is() -> None:
    mix = (POST, KEYED)
    async with serving(every_fourth(close)) as served, Load(served.url, 300, count=120, connections=1, mix=mix) as load:
        await load.done()
    result = load.result()
    ids = served.ids()
    keyed = {
        head.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0]
        for head in served.requests
        if b"Idempotency-Key" in head
    }
    again = {number for number in ids if ids.count(number) > 1}
    assert again and again <= keyed
    assert len(again) == result.resent == len(ids) - 120
    assert result.failed == result.outcomes["closed"] == len(ids) // 4 - result.resent > 0
    assert all(mix[sample.kind] is POST for sample in load.samples() if sample.outcome == "closed")


async def test_a_second_close_is_a_failure_and_a_fresh_first_connection_is_counted() -> None:
    async def handle(served: Served, number: int) -> None:
        served.writer.close()

    async with serving(handle) as served, Load(served.url, rate=200, count=10) as load:
        await load.done()
    result = load.result()
    assert (result.failed, result.resent, result.resent_fresh) == (10, 10, 10)
    assert len(served.requests) == 20


async def test_the_strict_client_resends_only_on_used_connections() -> None:
    async def handle(served: Served, number: int) -> None:
        served.writer.close()

    async with serving(handle) as served, Load(served.url, rate=200, count=10, resend=Resend.REUSED) as load:
        await load.done()
    assert load.result().outcomes == {"closed": 10}
    assert load.result().resent == 0


async def test_an_answer_that_breaks_off_is_truncated_and_not_sent_again() -> None:
    async def handle(served: Served, number: int) -> None:
        served.writer.write(OK[:-1] if number % 2 else OK)
        if number % 2:
            served.writer.close()

    async with serving(handle) as served, Load(served.url, rate=300, count=60, connections=1) as load:
        await load.done()
    assert load.result().outcomes == {"ok": 30, "truncated": 30}
    assert load.result().resent == 0


async def test_errors_wrong_content_and_garbage_are_told_apart() -> None:
    answers = {
        0: OK,
        1: b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        2: OK.replace(b"\r\n\r\nok", b"\r\n\r\nno"),
        3: b"garbage\r\n\r\n",
    }

    async def handle(served: Served, number: int) -> None:
        served.writer.write(answers[number % 4])

    async with serving(handle) as served, Load(served.url, rate=300, count=80, connections=1, expect=b"ok") as load:
        await load.done()
    assert load.result().outcomes == {"content": 20, "malformed": 20, "ok": 20, "status 503": 20}


async def test_a_hanging_server_costs_a_timeout_each_and_the_rate_goes_on() -> None:
    async def handle(served: Served, number: int) -> None:
        if number % 10:
            served.writer.write(OK)
        else:
            await asyncio.sleep(30)

    async with serving(handle) as served:
        async with Load(served.url, rate=200, count=100, timeout_s=0.3) as load:
            begun_at = time.monotonic()
            await load.done()
            assert time.monotonic() - begun_at < 0.7
        assert load.result().outcomes == {"ok": 90, "timeout": 10}
        late = [sample.latency_s for sample in load.samples() if sample.outcome == "timeout"]
        assert all(0.3 <= latency_s < 0.45 for latency_s in late)
        assert "first byte" in load.result().failures[0].detail


async def test_requests_that_wait_for_a_connection_are_measured_from_when_they_were_due() -> None:
    async def handle(served: Served, number: int) -> None:
        if number == 1:
            await asyncio.sleep(0.4)
        served.writer.write(OK)

    async with serving(handle) as served, Load(served.url, rate=100, count=40, connections=1) as load:
        await load.done()
    result = load.result()
    assert (result.ok, served.connections) == (40, 1)
    first_ten = [sample.latency_s for sample in load.samples() if sample.number <= 10]
    assert all(latency_s >= 0.25 for latency_s in first_ten)


async def test_nothing_that_listens_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        async with Load(url, rate=200, count=20) as load:
            await load.done()
    assert load.result().outcomes == {"refused": 20}


async def test_a_server_that_closes_idle_connections_costs_nothing() -> None:
    async def handle(served: Served, number: int) -> None:
        served.writer.write(OK)
        if number % 5 == 0:
            served.writer.close()

    async with serving(handle) as served, Load(served.url, rate=100, count=50, connections=1) as load:
        await load.done()
    assert (load.result().ok, served.connections) == (50, 10)


async def test_the_end_of_the_block_waits_for_the_last_answer() -> None:
    async def handle(served: Served, number: int) -> None:
        writer = served.writer
        await asyncio.sleep(0.3)
        writer.write(OK)

    async with serving(handle) as served:
        async with Load(served.url, rate=100) as load:
            await until(lambda: load.result().sent >= 5)
        assert load.result().unfinished == 0
        assert load.result().ok == load.result().sent >= 5


async def test_the_load_in_its_own_process_gives_the_same_counts_and_samples() -> None:
    async with serving(every_fourth(reset)) as served:
        plan = Plan(served.url, rate=300, count=90, connections=1, name="own")
        async with LoadProcess(plan) as running:
            await running.done()
    assert (running.result.sent, running.result.ok, running.result.resent) == (90, 90, 29)
    assert [sample.number for sample in running.samples] == list(range(1, 91))
    assert set(served.ids()) == {b"own-%d" % number for number in range(1, 91)}


async def test_the_load_in_its_own_process_stops_when_told() -> None:
    async with serving(good) as served, LoadProcess(Plan(served.url, rate=200), progress_s=0.05) as running:
        await until(lambda: running.progress.ok >= 20)
    assert running.result.ok == running.result.sent == len(served.requests) >= 20


async def test_a_line_that_a_signal_interrupts_is_printed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    code = "import signal; from bench.load_process import _print; signal.signal(signal.SIGTERM, lambda *_: None)"
    command = [sys.executable, "-c", f"{code}\n_print('x' * 100_000)"]
    printing = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: ASYNC220 - read with care, below
    with printing, printing.stdout as pipe:  # type: ignore[union-attr]
        await until(lambda: _unread_bytes(pipe) == fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ))
        printing.send_signal(signal.SIGTERM)
        assert pipe.read() == b"x" * 100_000 + b"\n"


def _unread_bytes(pipe: IO[bytes]) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return int(count)


async def test_500_requests_a_second_cost_at_most_15_percent_of_a_core() -> None:
    async with serving(good) as served, LoadProcess(Plan(served.url, rate=500, duration_s=3)) as running:
        await running.done()
    assert running.result.ok == 1500
    assert running.result.cpu_s / running.result.elapsed_s <= 0.15
