"""Receivers of heartbeats: services tell that they live, by systemd's datagrams or by an HTTP POST.

`control.monitor` opens both and turns each call into evidence. Neither believes what a message says of its sender: the
kernel names the process behind a datagram, and a token that only one replica was given names the one behind a POST.
Both are small enough to be spoken here: a datagram of lines, and one request that is answered by one of five fixed
texts.
"""

import asyncio
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

MESSAGES_MAX = 64
"""Datagrams taken per wake, so that a flood of them leaves time for everything else."""
MESSAGE_BYTES = 4_096
CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid
ANCILLARY_BYTES = socket.CMSG_SPACE(CREDENTIALS.size)
"""Room for the credentials alone: descriptors that come along (`BARRIER=1`) find none, and are closed by the kernel."""
BEATS = frozenset({b"WATCHDOG=1", b"READY=1"})

HEAD_BYTES = 4_096
BODY_BYTES = 4_096
IDLE_S = 30.0
CONNECTIONS_MAX = 2_048
REQUEST = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.([01])\r\n")
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n")
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n")


class NotifySocket:
    """The datagram socket behind $NOTIFY_SOCKET; calls `on_beat(session, arrived_at)`, a session being its first pid.

    In the abstract namespace where there is one; otherwise, or with `directory`, a file in that directory. Only Linux
    names the sender of a datagram: elsewhere everything that comes is ignored, and services must use the HTTP
    heartbeat.
    """

    def __init__(
        self,
        name: str,
        on_beat: Callable[[int, float], None],
        directory: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_beat = on_beat
        self._now = now
        self._path = None if directory is None and sys.platform == "linux" else (directory or Path()) / f"{name}.sock"
        self._socket: socket.socket | None = None
        self.address = f"@{name}" if self._path is None else str(self._path.absolute())
        """What goes into $NOTIFY_SOCKET."""

    def open(self) -> None:
        """Bind and listen in the running loop. Raises OSError when the name is taken or too long."""
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            receiver.setblocking(False)
            if sys.platform == "linux":
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            if self._path is None:
                receiver.bind("\0" + self.address[1:])
            else:
                self._path.unlink(missing_ok=True)
                receiver.bind(self.address)
                self._path.chmod(0o666)
        except OSError:
            receiver.close()
            raise
        self._socket = receiver
        asyncio.get_running_loop().add_reader(receiver.fileno(), self._receive, receiver)

    def close(self) -> None:
        """Stop listening, and take the file away."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _receive(self, receiver: socket.socket) -> None:
        for _ in range(MESSAGES_MAX):
            try:
                message, ancillary, _, _ = receiver.recvmsg(MESSAGE_BYTES, ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            if BEATS.isdisjoint(message.split(b"\n")):
                continue
            session = _sender_session(ancillary)
            if session:
                self._on_beat(session, self._now())


def _sender_session(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The session of the process that the kernel names; 0 when it is gone or was not named."""
    if sys.platform == "linux":
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(content) == CREDENTIALS.size:
                with suppress(ProcessLookupError, PermissionError):
                    return os.getsid(CREDENTIALS.unpack(content)[0])
    return 0


class BeatReceiver:
    """An HTTP listener on 127.0.0.1 for `POST /beat/TOKEN`; calls `on_beat(token, arrived_at)` for every token."""

    def __init__(self, on_beat: Callable[[str, float], None], now: Callable[[], float] = time.monotonic) -> None:
        self._on_beat = on_beat
        self._now = now
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self, port: int = 0) -> int:
        """Listen, and return the port; 0 lets the system choose. Raises OSError when it is in use."""
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close the listener and every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None

    def _accept(self) -> asyncio.Protocol:
        return _Connection(self._beat, self._connections)

    def _beat(self, token: str) -> None:
        self._on_beat(token, self._now())


class _Connection(asyncio.Protocol):
    """One connection: requests are taken whole, at most 8 KiB each, and answered in order."""

    def __init__(self, beat: Callable[[str], None], connections: "set[_Connection]") -> None:
        self._beat = beat
        self._connections = connections
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._connections.add(self)
        if len(self._connections) > CONNECTIONS_MAX:
            self.abort()
            return
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def pause_writing(self) -> None:
        self.abort()  # it asks without reading the answers

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._transport is not None and not self._transport.is_closing() and self._take():
            self._wait()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _wait(self) -> None:
        """Give the peer time for its next whole request; a byte now and then wins none."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.abort)

    def _take(self) -> bool:
        """Answer the first request if it is there whole."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_BYTES:
            if max(end, len(self._received)) > HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")
            return False
        head = bytes(self._received[: end + 4])
        request = REQUEST.match(head)
        if request is None:
            return self._refuse(b"400 Bad Request")
        fields = head[request.end() - 2 :].lower()
        if b"\r\ntransfer-encoding:" in fields:
            return self._refuse(b"411 Length Required")
        lengths = CONTENT_LENGTH.findall(fields)
        if fields.count(b"\r\ncontent-length:") != len(lengths) or len(lengths) > 1:
            return self._refuse(b"400 Bad Request")
        body_bytes = int(lengths[0]) if lengths else 0
        if body_bytes > BODY_BYTES:
            return self._refuse(b"413 Content Too Large")
        if len(self._received) < end + 4 + body_bytes:
            return False
        del self._received[: end + 4 + body_bytes]
        closing = request[3] == b"0" or CLOSE.search(fields) is not None
        self._answer(request[1], request[2], closing)
        return not closing

    def _answer(self, method: bytes, path: bytes, closing: bool) -> None:
        token = path.removeprefix(b"/beat/").decode("ascii")
        if not path.startswith(b"/beat/") or not token or "/" in token:
            self._reply(b"404 Not Found", b"Content-Length: 0\r\n", closing)
        elif method != b"POST":
            self._reply(b"405 Method Not Allowed", b"Allow: POST\r\nContent-Length: 0\r\n", closing)
        else:
            self._reply(b"204 No Content", b"", closing)
            self._beat(token)

    def _refuse(self, status: bytes) -> bool:
        self._reply(status, b"Content-Length: 0\r\n", closing=True)
        return False

    def _reply(self, status: bytes, fields: bytes, closing: bool) -> None:
        assert self._transport is not None
        fields += b"Connection: close\r\n" if closing else b""
        self._transport.write(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n")
        if closing:
            self._transport.close()
