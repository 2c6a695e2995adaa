"""Harm that takes more than one deed: bad releases, deadly requests, flapping, the balancer, the store, strangers.

As in `strikes`, each is called with whom it strikes and the side it happens on; what it starts is ended by
`struck.afterwards`, and it stops by itself when `struck.over` is set.
"""

import os
import signal
import sqlite3
import threading
import time
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench import lighthouses, processes, runtime, sides
from bench.faults import stages
from bench.faults.struck import Strike, Struck, port_of, switch
from bench.processes import BenchError
from bench.sides import PerdureSide, Side

ANSWERED_WITHIN_S = 3.0
BIND_WITHIN_S = 3.0
LOOK_EVERY_S = 0.05
PAGE_BYTES = 4096
CHANGES_AT = 24
"""Where a file of SQLite counts its changes, so that nobody goes on with what he remembers."""


def bad_release(struck: Struck, side: Side) -> None:
    """Deploy a release that answers 500 to all work; it is to be rolled back by itself, and the file is put back."""
    assert isinstance(side, PerdureSide)
    struck.afterwards.callback(side.declare_again)
    side.release("--fails", "1.0")


def deadly_requests(seconds: float) -> Strike:
    """Send, once a second, a request that ends whoever gets it."""

    def strike(struck: Struck, side: Side) -> None:
        until_at = time.monotonic() + seconds
        while time.monotonic() < until_at:
            sender = threading.Thread(target=_get, args=(f"{side.program.url(side.port)}/poison",))
            sender.start()
            struck.afterwards.callback(sender.join)
            if struck.over.wait(1.0):
                return

    return strike


def flapping(ill_s: float, well_s: float, times: int) -> Strike:
    """Let whoever is in the slot fail all work, then be well, again and again."""

    def strike(struck: Struck, side: Side) -> None:
        slot = struck.slot
        for _ in range(times):
            with suppress(OSError, BenchError):
                port = port_of(side, slot, struck.port)
                struck.relapses.append(None)
                switch(side, port, {"kind": "error"})
                struck.relapses[-1] = _without_requests(struck, side, port, ill_s)
                switch(side, port, {"kind": "none"})
            if struck.over.wait(well_s):
                return

    return strike


def _without_requests(struck: Struck, side: Side, port: int, seconds: float) -> float | None:
    """After how long nobody sends requests there; None: they do all the time. Returns when the time is up."""
    begun_at, found = time.monotonic(), None
    while time.monotonic() < begun_at + seconds and not struck.over.wait(LOOK_EVERY_S):
        stats = side.stats()
        seen = runtime.view(stats, side.backends) if stats is not None else None
        if found is None and seen is not None and port not in seen.ports:
            found = time.monotonic() - begun_at
    return found


def to_haproxy(number: signal.Signals) -> Strike:
    """Send a signal to the HAProxy of the side."""

    def strike(struck: Struck, side: Side) -> None:
        stats = side.stats()
        seen = runtime.view(stats, side.backends) if stats is not None else None
        if seen is None:
            raise BenchError(f"{side.name}: its HAProxy does not answer before it is struck")
        struck.family.append(seen.pid)
        struck.afterwards.callback(_kill, seen.pid)
        os.kill(seen.pid, number)

    return strike


def lock_the_store(seconds: float) -> Strike:
    """Keep the daemon out of its database, and give it something to write: the end of a replica."""

    def strike(struck: Struck, side: Side) -> None:
        assert isinstance(side, PerdureSide)
        other = sqlite3.connect(side.home / "perdure.db", timeout=ANSWERED_WITHIN_S, isolation_level=None)
        try:
            other.execute("BEGIN EXCLUSIVE")
            _kill(next(pid for pid in sides.strength(side).values() if pid is not None))
            struck.over.wait(seconds)
        finally:
            other.close()

    return strike


def stubborn_and_hung(children: int) -> Strike:
    """Let it have children, ignore SIGTERM as they do, and hang."""

    def strike(struck: Struck, side: Side) -> None:
        switch(side, struck.port, {"kind": "stubborn", "children": children})
        struck.family.extend(processes.tree(struck.pid))
        for pid in struck.family:
            struck.afterwards.callback(_kill, pid)
        switch(side, struck.port, {"kind": "hang-loop"})

    return strike


class Listening(ThreadingHTTPServer):
    """A server that does not care who hangs up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def killed_and_usurped(struck: Struck, side: Side) -> None:
    """Kill it, and listen on its port at once, answering 200 to everything."""

    class Stranger(BaseHTTPRequestHandler):
        """Answers, and counts what clients ask for."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = b"stranger"
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.headers["X-Request-Id"]:  # checks have none
                struck.strays.append(time.monotonic() - killed_at)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    killed_at = time.monotonic()
    os.kill(struck.pid, signal.SIGKILL)
    until_at = killed_at + BIND_WITHIN_S
    while time.monotonic() < until_at:
        with suppress(OSError):
            server = Listening(("127.0.0.1", struck.port), Stranger)
            struck.afterwards.callback(server.server_close)
            struck.afterwards.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            return
    raise BenchError(f"the port {struck.port} did not become free")


def slow_start(seconds: float) -> Strike:
    """Kill it; who comes next takes so long to start."""

    def strike(struck: Struck, _: Side) -> None:
        slow = struck.folder / f"slow-start-{struck.slot.replace('/', '-')}"
        slow.write_text(f"{seconds:g}")
        struck.afterwards.callback(slow.unlink, missing_ok=True)
        os.kill(struck.pid, signal.SIGKILL)

    return strike


def command(*lines: str) -> Strike:
    """Run `perdure` with each of these command lines, one after the other."""

    def strike(_: Struck, side: Side) -> None:
        assert isinstance(side, PerdureSide)
        for line in lines:
            side.ask(*line.split(), timeout_s=120.0)

    return strike


def a_single_error(struck: Struck, side: Side) -> None:
    """Let one request fail there, and send requests until it did."""
    switch(side, struck.port, {"kind": "error", "times": 1})
    for _ in range(len(stages.MIX)):
        _get(f"{side.program.url(side.port)}/")


def other_data(struck: Struck, _: Side) -> None:
    """Change one value in the database of this replica of Datasette."""
    other = sqlite3.connect(_database(struck))
    with other:
        other.execute("UPDATE lighthouses SET height_m = height_m + 1 WHERE id = 1")
    other.close()


def unreadable_data(struck: Struck, _: Side) -> None:
    """Overwrite the rows of the database of this replica of Datasette; its first page, with the schema, is left."""
    with _database(struck).open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(b"\1" * PAGE_BYTES)
        file.seek(CHANGES_AT)
        file.write(b"\1\2\3\4")


def _database(struck: Struck) -> Path:
    return struck.folder / f"data-{struck.slot.replace('/', '-')}" / lighthouses.DATABASE


def _get(url: str) -> None:
    with suppress(OSError), urllib.request.urlopen(url, timeout=ANSWERED_WITHIN_S) as answer:
        answer.read()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
