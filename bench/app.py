"""A small HTTP service that can be made to fail in known ways, for tests, benches and demonstrations.

It stands alone (standard library, uvloop when there), so that `python bench/app.py` works from any directory, and it is
fast enough not to be what a bench measures. What its faults do is in `harm.py`. It listens on $PORT and answers:

    GET  /            who answers, the slot and the pid          GET /slow?s=2   after two seconds
    GET  /pay, /search                                           the same as /
    GET  /digest      what stands for its data
    GET  /healthz     "ok"                                       GET /pid        the pid alone
    GET  /large       64 kB                                      GET /poison     nothing: the process ends
    POST /order       appends "REQUEST-ID PID" to --orders, so that a test can prove what was executed how often

With `--work S` each of them takes S seconds and up to as much again; with `--leaks S` they begin to fail S seconds
after its start, and S seconds later all of them do. Faults are switched while it runs, by a request
to the replica itself (`on=` work, health, all, or one path: which requests suffer; `share=` of them, `times=` how many
at most; a later fault replaces an earlier one):

    POST /fault?kind=error&share=0.2&status=500    POST /fault?kind=content      POST /fault?kind=slow&seconds=1
    POST /fault?kind=slow&factor=5   takes so many times as long as `--work` says
    POST /fault?kind=close    closes unanswered    POST /fault?kind=silent       never answers, the loop lives
    POST /fault?kind=hang-loop&seconds=10          POST /fault?kind=exit&code=3  POST /fault?kind=crash   (SIGKILL)
    POST /fault?kind=memory&size=100000000         POST /fault?kind=files&count=50   POST /fault?kind=mute  (no beats)
    POST /fault?kind=deaf     accepts no connection any more; those that it has are served
    POST /fault?kind=disk-full   each order gets ENOSPC   POST /fault?kind=read-only   each order gets EBADF
    POST /fault?kind=leak&size=1000000&every=1     holds so many bytes more each second, and so many `files=1`
    POST /fault?kind=data&is=other   /digest says so
    POST /fault?kind=clock&offset=3600   its clock, and with it the header Date, is so many seconds ahead
    POST /fault?kind=large-hangs   of an answer above 16 kB no more than that arrives
    POST /fault?kind=expired  shows the certificate of --tls-expired from now on
    POST /fault?kind=stubborn&children=2   ignores SIGTERM, as do so many children
    POST /fault?kind=uninterruptible   waits in state D for ever
    POST /fault?kind=none     healthy again

A file `doomed-SLOT` (`doomed-PORT` outside Perdure) where it runs ends it with 3 as soon as it starts; one
`slow-start-SLOT` holds the seconds that it takes until it listens.
SIGTERM: it stops listening, finishes the requests in flight, and exits with 0.
"""

import argparse
import asyncio
import os
import random
import signal
import socket
import sys
import time
import urllib.parse
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":  # this folder's parent is not where Python looks then
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.harm import LARGE_BYTES, Answer, Harm, Query

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}
ACCEPTED_AT_ONCE = 64
WORK = frozenset({"/", "/pay", "/search"})
LARGE = b"all work and no play " * 3125
POISONED = 70


class Service:
    """The state of the process: its connections, its faults, its answers."""

    def __init__(self, said: argparse.Namespace) -> None:
        self.said = said
        self.harm = Harm(said)
        self.connections: set[Connection] = set()
        self.ending = False
        self.ended = asyncio.Event()
        self._name = f"{os.environ.get('PERDURE_SLOT', 'app')} pid {os.getpid()}\n".encode()

    def answer(self, path: str, request_id: str, query: Query) -> Answer:
        """The answer of the healthy service."""
        match path:
            case "/" | "/pay" | "/search":
                return 200, self._name
            case "/healthz":
                return 200, b"ok"
            case "/large":
                return 200, LARGE
            case "/digest":
                return 200, self.harm.data
            case "/pid":
                return 200, b"%d" % os.getpid()
            case "/slow":
                return 200, b"slow " + self._name
            case "/order":
                return self._order(request_id)
            case "/poison":
                os._exit(POISONED)
            case "/fault":
                return self.harm.switch(query)
        return 404, b"no such page\n"

    def _order(self, request_id: str) -> Answer:
        try:
            os.write(self.harm.orders, f"{request_id} {os.getpid()}\n".encode())
        except OSError as error:
            return 500, f"cannot write: {error.strerror}\n".encode()
        return 200, b"order " + request_id.encode()

    def date(self) -> str:
        """The time as an HTTP header."""
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + self.harm.clock_s))

    def end(self) -> None:
        """Finish what is in flight, then exit."""
        self.ending = True
        for connection in list(self.connections):
            connection.close_if_idle()
        self.left()

    def left(self) -> None:
        """A connection is gone."""
        if self.ending and not self.connections:
            self.ended.set()


class Connection(asyncio.Protocol):
    """One client: reads a request, answers it, reads the next."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._service.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._service.connections.discard(self)
        self._service.left()

    def close_if_idle(self) -> None:
        """Close it when no request is being answered; otherwise it closes after the answer."""
        if not self._busy and not self._buffer and self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].decode("latin-1")
        length = int(_field(head, "content-length") or 0)
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = self._buffer[end + 4 + length :]
        self._busy = True
        self._route(head)

    def _route(self, head: str) -> None:
        target = head.split(" ", 2)[1]
        path, _, rest = target.partition("?")
        query = dict(urllib.parse.parse_qsl(rest)) if rest else {}
        service, fault = self._service, self._service.harm.fault
        kind = service.harm.strikes(path)
        if kind == "close" and self._transport is not None:
            self._transport.close()
            return
        if kind == "silent":
            return
        if kind == "error":
            status, body = int(fault.get("status", "500")), b"broken on purpose\n"
        else:
            status, body = service.answer(path, _field(head, "x-request-id"), query)
        if kind == "content":
            body = b"wrong on purpose\n"
        work_s = service.said.work * (1.0 + random.random()) if path in WORK else 0.0
        delay_s = work_s
        if kind == "slow":
            delay_s = work_s * float(fault["factor"]) if "factor" in fault else float(fault.get("seconds", "1"))
        if path == "/slow":
            delay_s += float(query.get("s", "1"))
        arrives = LARGE_BYTES if kind == "large-hangs" and len(body) > LARGE_BYTES else None
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._write, head, status, body, arrives)
        else:
            self._write(head, status, body, arrives)

    def _write(self, head: str, status: int, body: bytes, arrives: int | None) -> None:
        """Send the answer; `arrives`: so many bytes of its body, and then nothing more."""
        self._busy = arrives is not None
        if self._transport is None:
            return
        last = self._service.ending or _field(head, "connection").lower() == "close" or head.endswith("HTTP/1.0")
        closing = "Connection: close\r\n" if last else ""
        start = f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\nDate: {self._service.date()}\r\n"
        start += f"Content-Length: {len(body)}\r\n{closing}\r\n"
        self._transport.write(start.encode() + (b"" if head.startswith("HEAD ") else body[:arrives]))
        if arrives is not None:
            return
        if last:
            self._transport.close()
        elif self._buffer:
            self._next()


def _field(head: str, name: str) -> str:
    for line in head.split("\r\n")[1:]:
        if line[: len(name)].lower() == name and line[len(name) : len(name) + 1] == ":":
            return line[len(name) + 1 :].strip()
    return ""


async def _beat(service: Service, every_s: float) -> None:
    """Tell the supervisor that this process lives, by both ways that it offers."""
    while True:
        if not service.harm.mute:
            if url := os.environ.get("PERDURE_HEARTBEAT_URL"):
                await asyncio.to_thread(_post, url)
            if path := os.environ.get("NOTIFY_SOCKET"):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, suppress(OSError):
                    notify.setblocking(False)  # whoever should read may be stopped
                    notify.sendto(b"WATCHDOG=1", path.replace("@", "\0", 1) if path.startswith("@") else path)
        await asyncio.sleep(every_s)


def _post(url: str) -> None:
    import urllib.request  # it takes longer to import than all the rest, and few need it

    with suppress(OSError), urllib.request.urlopen(urllib.request.Request(url, b""), timeout=1) as answer:
        answer.read()


def _fork_children(count: int) -> None:
    """Children that do nothing but stay, and ignore SIGTERM: whoever ends the service must end them too."""
    for _ in range(count):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()


class Door:
    """The listening socket: accepts connections while it is open; shut, it lets them wait in the kernel."""

    def __init__(self, service: Service, listening: socket.socket) -> None:
        self._service = service
        self._listening = listening
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        listening.setblocking(False)

    def accepting(self, wanted: bool) -> None:
        """Begin or end to accept."""
        if wanted:
            self._loop.add_reader(self._listening, self._accept)
        else:
            self._loop.remove_reader(self._listening)

    def close(self) -> None:
        """Listen no more."""
        self.accepting(False)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(ACCEPTED_AT_ONCE):
                connection, _ = self._listening.accept()
                connection.setblocking(False)
                served = self._loop.connect_accepted_socket(
                    lambda: Connection(self._service), connection, ssl=self._service.harm.tls
                )
                task = self._loop.create_task(served)
                self._tasks.add(task)
                task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever hangs up during the handshake does no harm


async def _serve(said: argparse.Namespace) -> None:
    service, loop = Service(said), asyncio.get_running_loop()
    door = Door(service, socket.create_server((said.host, said.port), backlog=said.backlog))
    door.accepting(True)
    service.harm.accepting = door.accepting
    beating = asyncio.create_task(_beat(service, said.heartbeat)) if said.heartbeat else None

    def end() -> None:
        door.close()
        service.end()

    if not said.ignore_sigterm:
        loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, end)
    print(f"listening on {said.host}:{said.port}", flush=True)
    await service.ended.wait()
    if beating is not None:
        beating.cancel()


def main() -> None:
    """Read the command line and serve until SIGTERM or SIGINT."""
    said = _parser().parse_args()
    if said.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    slot = os.environ.get("PERDURE_SLOT", str(said.port)).replace("/", "-")
    if Path(f"doomed-{slot}").exists():
        print("doomed, as somebody wrote", file=sys.stderr)
        sys.exit(3)
    if said.exit_at_start is not None:
        print("refusing to start, as asked", file=sys.stderr)
        sys.exit(said.exit_at_start)
    _fork_children(said.children)
    slow = Path(f"slow-start-{slot}")
    time.sleep(said.start_delay + (float(slow.read_text()) if slow.exists() else 0.0))
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_serve(said))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="An HTTP service that fails on request.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8000"))
    parser.add_argument("--work", type=float, default=0.0, metavar="SECONDS", help="how long a request takes at least")
    parser.add_argument("--backlog", type=int, default=1024, help="connections that may wait (%(default)s)")
    parser.add_argument("--fails", type=float, default=0.0, metavar="SHARE", help="of its work fails from the start")
    parser.add_argument("--leaks", type=float, metavar="SECONDS", help="until its work begins to fail, more and more")
    parser.add_argument("--start-delay", type=float, default=0.0, metavar="SECONDS", help="before it listens")
    parser.add_argument("--exit-at-start", type=int, metavar="CODE", help="exit at once: a crash loop")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--children", type=int, default=0, help="fork children that ignore SIGTERM")
    parser.add_argument(
        "--heartbeat", type=float, metavar="SECONDS", help="tell $PERDURE_HEARTBEAT_URL, $NOTIFY_SOCKET"
    )
    parser.add_argument("--orders", type=Path, metavar="FILE", help="where /order notes what it executed")
    parser.add_argument("--tls", type=Path, metavar="FILE", help="speak TLS, with this key and certificate")
    parser.add_argument("--tls-expired", type=Path, metavar="FILE", help="what it shows instead, when told")
    return parser


if __name__ == "__main__":
    main()
