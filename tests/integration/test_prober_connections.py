"""HTTP and TCP checks against real sockets that behave well, badly, and not at all."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from perdure.adapters.prober import Probers
from perdure.model.check import Check, CheckKind, CheckRole
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target

Handler = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTP = Check(CheckKind.HTTP, path="/healthz?full=1")
TCP = Check(CheckKind.TCP)


class Server:
    """Counts what arrives; what it answers is a function."""

    def __init__(self, handler: Handler) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._handler = handler

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handler(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        return self.requests[-1]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    server = Server(handler)
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(server.accept(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


@pytest.fixture
async def probers() -> AsyncIterator[Probers]:
    probers = Probers()
    yield probers
    await probers.close()


def replying(*replies: bytes) -> Handler:
    """Answers every request of a connection with the next reply, the last one for ever."""

    async def handler(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await server.request(reader)
            writer.write(replies[min(len(server.requests), len(replies)) - 1])
            if b"Connection: close" in request:
                return

    return handler


async def reset(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.request(reader)
    linger = b"\x01\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def hang_up(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.request(reader)


async def silence(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1000)


def sending(raw: bytes, pause_s: float) -> Handler:
    async def handler(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(raw)
        await writer.drain()
        await asyncio.sleep(pause_s)

    return handler


async def ask(probers: Probers, port: int, twice: bool = False, check: Check = HTTP, timeout_s: float = 5.0) -> Answer:
    return await probers.probe(check, Target(port), timeout_s, twice)


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


async def test_a_fresh_question_opens_a_connection_and_says_who_asks(probers: Probers) -> None:
    async with serving(replying(OK)) as server:
        for _ in range(3):
            assert await ask(probers, server.port) == Answer(Outcome.GOOD, "HTTP 200", 200)
        assert server.connections == 3
        lines = server.requests[0].decode().split("\r\n")
        assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
        assert set(lines[1:-2]) == {
            f"Host: 127.0.0.1:{server.port}",
            "User-Agent: perdure",
            "Accept: */*",
            "Connection: close",
        }


async def test_two_questions_share_one_connection_that_is_closed_after_them(probers: Probers) -> None:
    async with serving(replying(OK)) as server:
        for asked in range(1, 4):
            assert await ask(probers, server.port, twice=True) == Answer(Outcome.GOOD, "HTTP 200", 200)
            assert (server.connections, len(server.requests)) == (asked, 2 * asked)
    assert [b"Connection: close" in request for request in server.requests] == [False, True] * 3


async def test_a_server_that_closes_after_each_answer_is_well(probers: Probers) -> None:
    async def once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(OK)

    async with serving(once) as server:
        for _ in range(4):
            assert (await ask(probers, server.port, twice=True)).outcome == Outcome.GOOD


@pytest.mark.parametrize(
    ("second", "outcome", "excerpt"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", Outcome.STATUS, "on a kept-alive connection: HTTP 500: "),
        (b"", Outcome.TIMEOUT, "on a kept-alive connection: no answer within "),
    ],
)
async def test_a_server_that_fails_on_kept_alive_connections_is_found(
    probers: Probers, second: bytes, outcome: Outcome, excerpt: str
) -> None:
    async def fails_later(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(OK)
        await server.request(reader)
        writer.write(second)
        await asyncio.sleep(1000)

    async with serving(fails_later) as server:
        assert (await ask(probers, server.port)).outcome == Outcome.GOOD
        answer = await ask(probers, server.port, twice=True, timeout_s=0.3)
    assert answer.outcome == outcome
    assert answer.excerpt.startswith(excerpt)


async def test_the_monitor_hears_its_own_echo(probers: Probers) -> None:
    assert await probers.echo(1.0)
    assert not await probers.echo(0.0)


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize(
    ("handler", "excerpt"),
    [(reset, "the connection was reset"), (hang_up, "the connection was closed without an answer")],
)
async def test_a_broken_connection_is_refused_and_not_asked_again(
    probers: Probers, handler: Handler, excerpt: str, twice: bool
) -> None:
    async with serving(handler) as server:
        assert await ask(probers, server.port, twice) == Answer(Outcome.REFUSED, excerpt)
        assert server.connections == 1


@pytest.mark.parametrize("check", [HTTP, TCP])
async def test_a_port_that_nobody_listens_on_is_refused(probers: Probers, check: Check) -> None:
    answer = await ask(probers, closed_port(), check=check)
    assert answer == Answer(Outcome.REFUSED, "nothing listens on the port")


@pytest.mark.parametrize(
    ("handler", "excerpt"),
    [
        (silence, "no answer within 0.1 s"),
        (sending(b"HTTP/1.1 200 OK\r\n", 1000), "no answer within 0.1 s"),
        (
            sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 1000),
            "no answer within 0.1 s after HTTP 200 and an unfinished body",
        ),
    ],
)
async def test_silence_at_any_point_is_a_timeout_in_time(probers: Probers, handler: Handler, excerpt: str) -> None:
    async with serving(handler) as server:
        asked_at = time.monotonic()
        assert await ask(probers, server.port, timeout_s=0.1) == Answer(Outcome.TIMEOUT, excerpt)
        assert time.monotonic() - asked_at < 0.5


async def test_a_body_that_breaks_off_is_refused(probers: Probers) -> None:
    async with serving(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 0)) as server:
        answer = await ask(probers, server.port)
    assert answer == Answer(Outcome.REFUSED, "HTTP 200, and the connection broke off inside the body")


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01\0\0", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99_999]
)
async def test_what_is_no_http_is_said_to_be_none(probers: Probers, raw: bytes) -> None:
    async with serving(sending(raw, 0)) as server:
        answer = await ask(probers, server.port)
    assert answer.outcome == Outcome.STATUS
    assert answer.excerpt.startswith("no HTTP answer: ")
    assert len(answer.excerpt) <= 300


async def test_of_an_endless_body_only_the_beginning_is_read(probers: Probers) -> None:
    async def endless(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async with serving(endless) as server:
        assert (await ask(probers, server.port)).outcome == Outcome.GOOD
        assert (await ask(probers, server.port, twice=True)).outcome == Outcome.GOOD


async def test_as_much_of_a_body_is_read_as_is_expected(probers: Probers) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    check = Check(CheckKind.HTTP, expect_bytes=250_000)
    async with serving(replying(large)) as server:
        assert (await ask(probers, server.port, check=check)).outcome == Outcome.GOOD


async def test_a_large_body_that_hangs_is_a_timeout(probers: Probers) -> None:
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 100_000
    check = Check(CheckKind.HTTP, expect_bytes=250_000)
    async with serving(sending(part, 60.0)) as server:
        answer = await ask(probers, server.port, check=check, timeout_s=0.3)
    assert answer.outcome == Outcome.TIMEOUT


async def test_redirects_proxies_and_cookies_are_left_alone(probers: Probers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with serving(replying(redirect)) as server:
        assert await ask(probers, server.port, twice=True) == Answer(Outcome.GOOD, "HTTP 302", 302)
        assert len(server.requests) == 2
        assert b"Cookie" not in server.requests[1]


async def test_expectations_are_applied_to_what_came_back(probers: Probers) -> None:
    check = Check(CheckKind.HTTP, expect_status=(200,), expect_body="ready")
    async with serving(replying(OK)) as server:
        assert await ask(probers, server.port, check=check) == Answer(
            Outcome.CONTENT, "HTTP 200 without 'ready': ok", 200
        )


async def test_a_tcp_check_connects_and_closes(probers: Probers) -> None:
    closed = asyncio.Event()

    async def listen(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        closed.set()

    async with serving(listen) as server:
        assert await ask(probers, server.port, check=TCP) == Answer(Outcome.GOOD)
        async with asyncio.timeout(5):
            await closed.wait()


async def test_a_tcp_check_of_a_full_backlog_times_out(probers: Probers) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert (await ask(probers, port, check=TCP, timeout_s=0.1)).outcome == Outcome.TIMEOUT


@pytest.mark.parametrize("check", [HTTP, TCP, Check(CheckKind.COMMAND, command=("true",))])
async def test_a_daemon_without_descriptors_blames_itself(probers: Probers, check: Check) -> None:
    async with serving(replying(OK)) as server:
        assert (await ask(probers, server.port)).outcome == Outcome.GOOD
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
            while True:
                try:
                    opened.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            with pytest.raises(UnavailableError, match="Too many open files"):
                await ask(probers, server.port, check=check)
            with pytest.raises(UnavailableError, match="Too many open files"):
                await probers.echo(1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in opened:
                os.close(descriptor)


def test_all_kinds_work_under_uvloop() -> None:
    async def scenario() -> list[Answer]:
        probers = Probers()
        try:
            async with serving(replying(OK)) as server:
                return [
                    await ask(probers, server.port),
                    await ask(probers, server.port, twice=True),
                    await ask(probers, server.port, check=TCP),
                    await ask(probers, server.port, check=Check(CheckKind.COMMAND, command=("echo", "$PORT"))),
                    await ask(probers, closed_port()),
                ]
        finally:
            await probers.close()

    outcomes = [answer.outcome for answer in uvloop.run(scenario())]
    assert outcomes == [Outcome.GOOD] * 4 + [Outcome.REFUSED]


DIGEST = Check(CheckKind.HTTP, path="/digest", role=CheckRole.DIGEST)


@pytest.mark.parametrize(
    ("body", "outcome", "told"), [(b"abc", Outcome.GOOD, True), (b"x" * 65_536, Outcome.CONTENT, False)]
)
async def test_a_digest_is_that_of_the_whole_answer_or_none(
    probers: Probers, body: bytes, outcome: Outcome, told: bool
) -> None:
    async def says(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with serving(says) as server:
        answer = await probers.probe(DIGEST, Target(server.port), 1.0)
    assert (answer.outcome, bool(answer.digest), answer.status) == (outcome, told, 200)


@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD"])
async def test_a_canary_asks_by_its_own_method(probers: Probers, method: str) -> None:
    async def says(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    canary = Check(CheckKind.HTTP, path="/order", method=method, role=CheckRole.CANARY)
    async with serving(says) as server:
        answer = await probers.probe(canary, Target(server.port), 1.0)
        assert server.requests[0].startswith(f"{method} /order HTTP/1.1\r\n".encode())
    assert (answer.outcome, answer.status, answer.digest) == (Outcome.GOOD, 201, "")
