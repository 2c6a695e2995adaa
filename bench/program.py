"""What a side runs three times: its command, how one asks whether it is well, and who answers on a port.

`APP` is the bench's own application; others are programs that we did not write, of which nothing can be asked but what
they offer to everybody.
"""

import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.processes import HERE

TIMEOUT_S = 0.3
LISTENS = "0A"
"""State of a socket in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command without its port; `port_option` is how it is told (empty: by $PORT alone)."""

    command: tuple[str, ...]
    port_option: str = "--port"
    health: str = "/healthz"
    healthy: str = "ok"
    """What a good answer to `health` contains."""
    tls: bool = False
    tells_pid: bool = True
    """Whether GET /pid is answered with it; otherwise the kernel is asked who listens."""
    timeout_s: float = TIMEOUT_S

    def on(self, port: int | str) -> list[str]:
        """The whole command for this port."""
        return [*self.command, *([self.port_option, str(port)] if self.port_option else [])]

    def url(self, port: int) -> str:
        """Where one replica is asked directly."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"

    def pid(self, port: int) -> int | None:
        """Who answers on this port, asked directly; None for nobody, and for somebody else than this program."""
        if self.tells_pid:
            body = self.get(port, "/pid").partition(b"\r\n\r\n")[2]
            return int(body) if body.isdigit() else None
        if self.healthy.encode() not in self.get(port, self.health):
            return None
        return next(iter(_listening(port)), None)

    def get(self, port: int, path: str) -> bytes:
        """The answer of whoever listens there, head and body; empty when there is none in time."""
        reply = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), self.timeout_s) as connection:
            connection.settimeout(self.timeout_s)
            with careless().wrap_socket(connection) if self.tls else connection as asking:
                asking.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n".encode())
                while part := asking.recv(65_536):
                    reply += part
                return reply
        return b""


APP = Program((sys.executable, str(HERE / "app.py")))


def careless() -> ssl.SSLContext:
    """TLS with anybody, whatever the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _listening(port: int) -> Iterator[int]:
    """The processes that hold a socket which listens on this port of IPv4."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    at = f":{port:04X}"
    sockets = {f"socket:[{row[9]}]" for row in rows if row[3] == LISTENS and row[1].endswith(at)}
    if not sockets:
        return
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                if any(str(one.readlink()) in sockets for one in (process / "fd").iterdir()):
                    yield int(process.name)
