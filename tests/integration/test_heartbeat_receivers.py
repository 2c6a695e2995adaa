"""Heartbeats from real senders, honest and otherwise."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import uvloop

from perdure.adapters import heartbeat

SENDER = """
import os, socket, sys, time
address, message = sys.argv[1:3]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect(address.replace("@", chr(0), 1))
    s.send(message.encode())
print(os.getpid(), flush=True)
time.sleep(1000)
"""


# Passes on what it is given to send, descriptors too: a replica has a session of its own, and the test runner may have
# none (0), as the first process of a container.
SPEAKER = """
import array, socket, sys
given = socket.socket(fileno=int(sys.argv[1]))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect(sys.argv[2].replace("@", chr(0), 1))
    while True:
        message, descriptors, _, _ = socket.recv_fds(given, 200_000, 8)
        if not message:
            break
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        s.sendmsg([message[1:]], ancillary)
        for descriptor in descriptors:
            socket.close(descriptor)
        given.send(b"sent")
"""


class Speaker:
    """A process with a session of its own that sends to the notify socket what it is told."""

    def __init__(self, address: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SPEAKER, str(theirs.fileno()), address],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.session = self._process.pid

    async def send(self, message: bytes, *descriptors: int) -> None:
        """Beside the loop: a full queue holds the sender until the loop has read from it."""
        socket.send_fds(self._socket, [b">" + message], list(descriptors))
        assert await asyncio.to_thread(self._socket.recv, 10) == b"sent"

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)


async def until(condition: Callable[[], bool]) -> None:
    deadline_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_at, "did not happen within 10 s"
        await asyncio.sleep(0.005)


def names(directory: Path | str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


class Notified:
    """An open socket and what it told."""

    def __init__(self, directory: Path | None = None) -> None:
        self.beats: list[tuple[int, float]] = []
        name = f"perdure-test-{os.getpid()}"
        self.socket = heartbeat.NotifySocket(name, lambda session, at: self.beats.append((session, at)), directory)


@pytest.fixture
async def notified() -> AsyncIterator[Notified]:
    notified = Notified()
    notified.socket.open()
    yield notified
    notified.socket.close()


@pytest.fixture
def speaker(notified: Notified) -> Iterator[Speaker]:
    speaker = Speaker(notified.socket.address)
    yield speaker
    speaker.close()


@pytest.mark.parametrize("in_directory", [False, True])
async def test_the_session_of_the_sender_is_named_whatever_child_sends(in_directory: bool, tmp_path: Path) -> None:
    notified = Notified(tmp_path if in_directory else None)
    notified.socket.open()
    assert notified.socket.address.startswith(str(tmp_path) if in_directory else "@")
    code = f"{sys.executable} -c '{SENDER}' {notified.socket.address} WATCHDOG=1 & wait"
    sender = await asyncio.create_subprocess_exec("sh", "-c", code, stdout=subprocess.PIPE, start_new_session=True)
    try:
        before_at = time.monotonic()
        await until(lambda: bool(notified.beats))
        ((session, arrived_at),) = notified.beats
        assert sender.stdout is not None
        assert int(await sender.stdout.readline()) != session == sender.pid
        assert before_at <= arrived_at <= time.monotonic()
    finally:
        os.killpg(sender.pid, signal.SIGKILL)
        await sender.communicate()
        notified.socket.close()
    assert names(tmp_path) == []


async def test_only_watchdog_and_ready_are_beats(notified: Notified, speaker: Speaker) -> None:
    for message in (
        b"STOPPING=1",
        b"STATUS=WATCHDOG=1",
        b"WATCHDOG=trigger",
        b"",
        b"\xff\0",
        b"x" * 100_000,
        b"WATCHDOG=10",
    ):
        await speaker.send(message)
    for message in (b"WATCHDOG=1", b"READY=1\nSTATUS=fine\n", b"MAINPID=1\nWATCHDOG=1"):
        await speaker.send(message)
    await until(lambda: len(notified.beats) >= 3)
    assert [session for session, _ in notified.beats] == [speaker.session] * 3


async def test_descriptors_that_come_along_are_closed(notified: Notified, speaker: Speaker) -> None:
    reading, writing = os.pipe()
    before = len(names("/proc/self/fd"))
    for _ in range(5):
        await speaker.send(b"BARRIER=1", writing)
    await speaker.send(b"WATCHDOG=1", writing)
    await until(lambda: bool(notified.beats))
    assert len(names("/proc/self/fd")) == before
    os.close(writing)
    assert os.read(reading, 1) == b""  # nobody holds the other end: that is how a barrier is answered
    os.close(reading)


async def test_a_flood_is_drained_in_portions(notified: Notified) -> None:
    code = SENDER.replace("s.send(message.encode())", "[s.send(message.encode()) for _ in range(1_000)]")
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, notified.socket.address, "WATCHDOG=1"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await until(lambda: len(notified.beats) == 1_000)
    finally:
        sender.kill()
        await sender.wait()


async def test_a_sender_that_is_gone_is_nobody(notified: Notified, speaker: Speaker) -> None:
    code = SENDER.replace("time.sleep(1000)", "")
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, notified.socket.address, "WATCHDOG=1"), stdout=subprocess.DEVNULL
    )
    loop = asyncio.get_running_loop()
    loop.remove_reader(notified.socket._socket.fileno())  # type: ignore[union-attr]
    await sender.wait()
    loop.add_reader(notified.socket._socket.fileno(), notified.socket._receive, notified.socket._socket)  # type: ignore
    await speaker.send(b"WATCHDOG=1")
    await until(lambda: bool(notified.beats))
    assert [session for session, _ in notified.beats] == [speaker.session]


async def test_a_name_that_is_taken_is_an_error_and_leaves_no_socket(notified: Notified) -> None:
    before = len(names("/proc/self/fd"))
    with pytest.raises(OSError, match="in use"):
        Notified().socket.open()
    assert len(names("/proc/self/fd")) == before


class Posted:
    """An open receiver and what it told."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.receiver = heartbeat.BeatReceiver(lambda token, at: self.tokens.append(token))
        self.port = 0

    async def talk(self, raw: bytes) -> bytes:
        """Send bytes and return everything until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        async with asyncio.timeout(5):
            reply = await reader.read()
        writer.close()
        await writer.wait_closed()
        return reply


@pytest.fixture
async def posted() -> AsyncIterator[Posted]:
    posted = Posted()
    posted.port = await posted.receiver.open()
    yield posted
    await posted.receiver.close()


def request(line: str, *fields: str, body: str = "") -> bytes:
    return "\r\n".join([line, "Host: x", "Connection: close", *fields, "", body]).encode()


async def test_a_client_beats_again_and_again_on_one_connection(posted: Posted) -> None:
    url = f"http://127.0.0.1:{posted.port}/beat/token-1"
    async with aiohttp.ClientSession() as session:
        for body in (None, b"", b"anything", {"a": "form"}):
            async with session.post(url, data=body) as response:
                assert response.status == 204
        assert posted.tokens == ["token-1"] * 4
        assert len(posted.receiver._connections) == 1


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request("POST /beat/t HTTP/1.1"), 204),
        (request("POST /beat/t HTTP/1.1", "Content-Length: 2", body="ok"), 204),
        (b"POST /beat/t HTTP/1.0\r\n\r\n", 204),
        (request("GET /beat/t HTTP/1.1"), 405),
        (request("PUT /beat/t HTTP/1.1", "Content-Length: 2", body="ok"), 405),
        (request("POST /beat/ HTTP/1.1"), 404),
        (request("POST /beat/t/u HTTP/1.1"), 404),
        (request("POST / HTTP/1.1"), 404),
        (request("GET / HTTP/1.1"), 404),
        (request("POST /beat/t HTTP/1.1", "Content-Length: 4097"), 413),
        (request("POST /beat/t HTTP/1.1", "Content-Length: -1"), 400),
        (request("POST /beat/t HTTP/1.1", "Content-Length: 1", "Content-Length: 1", body="x"), 400),
        (request("POST /beat/t HTTP/1.1", "Transfer-Encoding: chunked", body="0\r\n\r\n"), 411),
        (request("POST /beat/t HTTP/2.0"), 400),
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
        (b"POST /beat/" + b"t" * 5_000, 431),
    ],
)
async def test_each_request_gets_its_status(posted: Posted, raw: bytes, status: int) -> None:
    reply = await posted.talk(raw)
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert reply.count(b"HTTP/1.1") == 1
    assert posted.tokens == (["t"] if status == 204 else [])


async def test_requests_may_come_in_pieces_or_together(posted: Posted) -> None:
    first = b"POST /beat/a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    reader, writer = await asyncio.open_connection("127.0.0.1", posted.port)
    for position in range(len(first)):
        writer.write(first[position : position + 1])
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
    writer.write(first.replace(b"/a", b"/b") + request("POST /beat/c HTTP/1.1"))
    assert (await reader.read()).count(b"204") == 2
    assert posted.tokens == ["a", "b", "c"]
    writer.close()
    await writer.wait_closed()


async def test_an_idle_connection_is_closed(posted: Posted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "IDLE_S", 0.05)
    for raw in (b"", b"POST /beat/a HTT", b"POST /beat/a HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"):
        try:
            assert await posted.talk(raw) == b""
        except ConnectionResetError:
            continue
    await until(lambda: not posted.receiver._connections)
    assert posted.tokens == []


async def test_connections_are_bounded(posted: Posted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "CONNECTIONS_MAX", 2)
    held = [await asyncio.open_connection("127.0.0.1", posted.port) for _ in range(2)]
    await until(lambda: len(posted.receiver._connections) == 2)
    with suppress(ConnectionResetError):
        assert await posted.talk(b"") == b""
    assert len(posted.receiver._connections) <= 2
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


async def test_closing_closes_what_is_open_and_a_taken_port_is_an_error(posted: Posted) -> None:
    with pytest.raises(OSError, match="in use"):
        await Posted().receiver.open(posted.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", posted.port)
    await until(lambda: len(posted.receiver._connections) == 1)
    await posted.receiver.close()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


def test_both_work_under_uvloop() -> None:
    async def scenario() -> None:
        notified, posted = Notified(), Posted()
        notified.socket.open()
        speaker = Speaker(notified.socket.address)
        posted.port = await posted.receiver.open()
        try:
            await speaker.send(b"WATCHDOG=1")
            await posted.talk(request("POST /beat/t HTTP/1.1"))
            await until(lambda: bool(notified.beats))
            assert notified.beats[0][0] == speaker.session
            assert posted.tokens == ["t"]
        finally:
            speaker.close()
            notified.socket.close()
            await posted.receiver.close()

    uvloop.run(scenario())
