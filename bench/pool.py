"""Sends requests over a bounded number of kept-alive connections and tells what came of each one.

The part of the load generator that knows connections: `load` decides what to send and when, `wire` reads the answers.
A request holds its connection until the answer is complete (no pipelining); when all connections are busy, it waits
in a queue, and its latency goes on counting.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import cast

from bench.tally import OK
from bench.wire import Reader, WireError


class Resend(StrEnum):
    """When an idempotent request is sent once more because its connection closed without any response byte."""

    ANY = "any"  # on every connection
    REUSED = "reused"  # only when the connection had carried a request before: what browsers do
    NEVER = "never"


class Request:
    """One request on its way. `due_at` and `deadline_at` are monotonic."""

    __slots__ = ("bodyless", "connection", "deadline_at", "due_at", "idempotent", "kind", "number", "payload", "resent")

    def __init__(self, number: int, kind: int, due_at: float, deadline_at: float, payload: bytes) -> None:
        self.number = number
        self.kind = kind
        self.due_at = due_at
        self.deadline_at = deadline_at
        self.payload = payload
        self.idempotent = True
        self.bodyless = False
        self.resent = False
        self.connection: Connection | None = None


Finished = Callable[[Request, str, str, bytes], None]
"""Called once for each request: the request, its outcome (`ok`, `status 503`, `reset`, ...), a detail, the body."""


class Pool:
    """Up to `size` connections to one address."""

    def __init__(self, host: str, port: int, size: int, finished: Finished) -> None:
        self.resend = Resend.ANY
        self.tls: ssl.SSLContext | None = None
        self.resent = 0
        self.resent_fresh = 0
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._port = port
        self._size = size
        self._finished = finished
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[Request] = deque()
        self._in_flight: dict[int, Request] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests that are not finished."""
        return len(self._in_flight)

    def submit(self, request: Request) -> None:
        """Send it now, or as soon as a connection is free. Requests must come in the order of their deadlines."""
        self._in_flight[request.number] = request
        self._dispatch(request)

    def expire(self) -> None:
        """Finish the requests whose deadline has passed with outcome `timeout`, and close their connections."""
        now = time.monotonic()
        for request in list(self._in_flight.values()):
            if request.deadline_at > now:
                break
            waited_for = "a free connection" if request.connection is None else request.connection.waits_for
            connection = request.connection
            self.settle(request, "timeout", f"no answer; it waited for {waited_for}")
            if connection is not None:
                connection.abandon()

    async def answered(self) -> None:
        """Wait until no request is in flight."""
        while self._in_flight:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Close every connection; requests still in flight finish as `abandoned`."""
        for request in list(self._in_flight.values()):
            self.settle(request, "abandoned", "the load ended")
        for connection in list(self._open):
            connection.abandon()
        await asyncio.gather(*self._opening, return_exceptions=True)
        while self._open:
            self._changed.clear()
            await self._changed.wait()

    def settle(self, request: Request, outcome: str, detail: str = "", body: bytes = b"") -> None:
        """A request is finished."""
        del self._in_flight[request.number]
        request.connection = None
        self._changed.set()
        self._finished(request, outcome, detail, body)

    def freed(self, connection: "Connection") -> None:
        """A connection can carry the next request."""
        while self._waiting:
            request = self._waiting.popleft()
            if request.number in self._in_flight:
                connection.carry(request)
                return
        self._idle.append(connection)

    def lost(self, connection: "Connection", request: Request | None, error: str) -> None:
        """A connection is gone, with the request that it carried unanswered (None: it carried none)."""
        self._open.discard(connection)
        self._changed.set()
        if connection in self._idle:
            self._idle.remove(connection)
        if request is not None:
            self._broken(connection, request, error)
        while self._waiting and len(self._open) < self._size:
            waiting = self._waiting.popleft()
            if waiting.number in self._in_flight:
                self._start(waiting)

    def _broken(self, connection: "Connection", request: Request, error: str) -> None:
        if connection.reader.started:
            self.settle(request, "truncated", f"the answer broke off ({error})")
            return
        wanted = self.resend is Resend.ANY or (self.resend is Resend.REUSED and connection.carried > 1)
        if not (wanted and request.idempotent and not request.resent):
            self.settle(request, error, "the connection closed without any byte of an answer")
            return
        request.resent = True
        self.resent += 1
        self.resent_fresh += connection.carried == 1
        self._start(request)

    def _dispatch(self, request: Request) -> None:
        if self._idle:
            self._idle.pop().carry(request)
        elif len(self._open) < self._size:
            self._start(request)
        else:
            self._waiting.append(request)

    def _start(self, request: Request) -> None:
        connection = Connection(self)
        self._open.add(connection)
        request.connection = connection
        connection.request = request
        task = self._loop.create_task(self._connect(connection, request))
        connection.opening = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, connection: "Connection", request: Request) -> None:
        try:
            await self._loop.create_connection(lambda: connection, self._host, self._port, ssl=self.tls)
        except asyncio.CancelledError:
            self.lost(connection, None, "cancelled")
        except OSError as error:
            connection.request = None
            name = "refused" if isinstance(error, ConnectionRefusedError) else "unconnected"
            if request.number in self._in_flight:
                self.settle(request, name, str(error))
            self.lost(connection, None, name)
        finally:
            connection.opening = None


class Connection(asyncio.Protocol):
    """One connection, with at most one request on it."""

    __slots__ = ("_pool", "carried", "opening", "reader", "request", "transport")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.carried = 0
        self.request: Request | None = None
        self.reader = Reader()
        self.transport: asyncio.Transport | None = None
        self.opening: asyncio.Task[None] | None = None

    @property
    def waits_for(self) -> str:
        """What a request on it is waiting for, in words."""
        if self.transport is None:
            return "the connection"
        return "the rest of the answer" if self.reader.started else "the first byte"

    def carry(self, request: Request) -> None:
        """Send a request."""
        assert self.transport is not None
        self.request = request
        self.carried += 1
        request.connection = self
        self.reader = Reader(request.bodyless)
        self.transport.write(request.payload)

    def abandon(self) -> None:
        """Close it at once; what it carries is nobody's any more."""
        self.request = None
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.request is None:
            self.transport.abort()
        else:
            self.carry(self.request)

    def data_received(self, data: bytes) -> None:
        request = self.request
        if request is None:
            self.abandon()
            return
        try:
            if self.reader.feed(data):
                self._answered(request)
        except WireError as error:
            self.abandon()
            self._pool.settle(request, "malformed", str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        request, self.request = self.request, None
        if request is not None and self.reader.end():
            self._finish(request)
            request = None
        self._pool.lost(self, request, "reset" if isinstance(exc, ConnectionError) else "closed")

    def _answered(self, request: Request) -> None:
        self.request = None
        self._finish(request)
        if self.reader.keep_alive and self.transport is not None and not self.transport.is_closing():
            self._pool.freed(self)
        else:
            self.abandon()

    def _finish(self, request: Request) -> None:
        status = self.reader.status
        self._pool.settle(request, OK if 200 <= status < 400 else f"status {status}", "", self.reader.body)
