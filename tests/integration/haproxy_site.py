"""A real HAProxy with small real servers behind it and clients in front, for the tests of the balancer."""

import asyncio
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from perdure.adapters.balancer import program
from perdure.adapters.balancer.haproxy import HAProxy
from perdure.model.check import Check, CheckKind
from perdure.model.service import Address, Service
from perdure.model.traffic import Admin, Backend, BackendSpec, PutServer

SERVER = Path(__file__).with_name("haproxy_server.py")


class Clock:
    """The real clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.now()))


class Replica:
    """A server process; `kind` says how it behaves (see `haproxy_server`)."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@dataclass
class Site:
    """Everything that one test starts; it is all ended when the test ends."""

    directory: Path
    port: int
    replicas: list[Replica] = field(default_factory=list)
    balancers: list[HAProxy] = field(default_factory=list)

    def balancer(self) -> HAProxy:
        made = HAProxy(self.directory, program.find(None), Clock())
        self.balancers.append(made)
        return made

    async def replica(self, kind: str = "good", port: int = 0) -> Replica:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-E", SERVER, kind, str(port), str(self.directory / "requests"),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        started = Replica(process, int(await process.stdout.readline()))
        self.replicas.append(started)
        return started

    def requests(self) -> Sequence[str]:
        """What the replicas were sent, one line for each request that was read."""
        path = self.directory / "requests"
        return path.read_text().splitlines() if path.exists() else []

    def spec(self, servers: int = 4, **declared: object) -> BackendSpec:
        checks = (Check(CheckKind.HTTP, "/healthz"),)
        values = {"replicas": 3, "listen": Address("127.0.0.1", self.port), "checks": checks} | declared
        return BackendSpec(Service("web", ("server",), **values), servers)  # type: ignore[arg-type]


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    """A site that leaves nothing behind."""
    made = Site(directory, free_port())
    try:
        yield made
    finally:
        for balancer in made.balancers:
            await balancer.stop()
        for replica in made.replicas:
            await replica.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def put(server: str, replica: Replica | None, admin: Admin = Admin.READY) -> PutServer:
    """The change that points a server of `web` to a replica, or only changes its state."""
    return PutServer("web", server, Address("127.0.0.1", replica.port) if replica else None, admin)


async def web(balancer: HAProxy) -> Backend:
    """What HAProxy says of the service `web` now."""
    return next(backend for backend in (await balancer.read()).backends if backend.service == "web")


@dataclass(frozen=True)
class Response:
    """What a client got."""

    status: int
    head: str
    body: str


async def request(port: int, method: str = "GET", path: str = "/", headers: str = "", body: str = "") -> Response:
    """One request on a connection of its own; OSError or IncompleteReadError when there is no whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{length}{headers}\r\n"
        writer.write((head + body).encode())
        return await _response(reader)
    finally:
        writer.close()


class Load:
    """Clients that ask without pause over kept-alive connections while the block lasts; counts what they get."""

    def __init__(self, port: int, clients: int = 8, pause_s: float = 0.005) -> None:
        self.good = 0
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self._port, self._clients, self._pause_s = port, clients, pause_s
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def reach(self, count: int) -> None:
        """Return when `count` more requests were answered well."""
        goal = self.good + count
        async with asyncio.timeout(20):
            while self.good < goal:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def _client(self) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not self._over:
            asked_at = time.monotonic()
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(b"GET /work HTTP/1.1\r\nHost: web\r\n\r\n")
                response = await _response(reader)
                keep = "connection: close" not in response.head.lower()
                if response.status == 200:
                    self.good += 1
                else:
                    self.failed.append(f"status {response.status}")
            except (OSError, EOFError) as error:
                self.failed.append(repr(error))
                keep = False
            self.slowest_s = max(self.slowest_s, time.monotonic() - asked_at)
            if not keep and writer is not None:
                writer.close()
                reader = writer = None
            await asyncio.sleep(self._pause_s)
        if writer is not None:
            writer.close()


async def _response(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
    body = await (reader.readexactly(int(length[1])) if length else reader.read())
    return Response(int(head.split()[1]), head, body.decode())
