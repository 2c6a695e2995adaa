"""A ledger over HTTP: it writes down who accepted each write, and in which epoch, to show that there was only one.

To test an active-passive service takes a program that can tell afterwards whether two replicas ever were active. This
one appends every write that it accepts to a SQLite database, with its own pid and both epochs that it was told, and
answers only when the transaction is on the disk. It refuses a request that knows of a newer epoch than its own, as a
program that keeps data should, and nothing for its role, so that what should not have come is seen. Standard library
only; it is on $PORT:

    POST /write     appends a line with the body as its text, and answers with its number; 409 when X-Perdure-Epoch is
                    newer than its own, 503 when it cannot be written
    GET  /count     how many lines there are
    GET  /healthz   "ok"
    GET  /role      "active" or "passive": $PERDURE_ROLE, until it is told otherwise
    POST /role      the body says which: {"role": "active", "epoch": 7}; writes bear that epoch from then on

The database is `ledger.db` in $PERDURE_STATE (outside Perdure: where it runs):

    SELECT id, pid, own_epoch, epoch, role, at, text FROM writes      at: seconds of the monotonic clock

SIGTERM: it accepts no connection any more, answers the requests in flight, and exits with 0.
"""

import json
import os
import signal
import socket
import socketserver
import sqlite3
import sys
import threading
import time
from contextlib import suppress

HOST = "127.0.0.1"
LINE_BYTES_MAX = 8_192
HEADERS_MAX = 100
BODY_BYTES_MAX = 65_536
IDLE_S = 60.0
BUSY_TIMEOUT_S = 2.0
ROLES = ("active", "passive")
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    503: "Service Unavailable",
}
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS writes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pid INTEGER NOT NULL, own_epoch INTEGER, epoch INTEGER, role TEXT NOT NULL,
    at REAL NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS writes_by_epoch ON writes (epoch);
COMMIT;
"""

Answer = tuple[int, str]


class Ledger:
    """The database and what was seen: all writes go through one lock, so their order is that of their numbers."""

    def __init__(self, path: str, own_epoch: int | None, role: str) -> None:
        self.role = role
        self._path = path
        self._own_epoch = own_epoch
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        with self._lock:
            self._opened()

    def write(self, epoch: int | None, text: str) -> Answer:
        """Append a line, unless the request knows of a newer epoch: then another replica is active."""
        with self._lock:
            database = self._opened()
            if epoch is not None and self._own_epoch is not None and epoch > self._own_epoch:
                return 409, f"epoch {self._own_epoch} is over: this came in epoch {epoch}"
            line = (os.getpid(), self._own_epoch, epoch, self.role, time.monotonic(), text)
            added = database.execute(
                "INSERT INTO writes (pid, own_epoch, epoch, role, at, text) VALUES (?, ?, ?, ?, ?, ?)", line
            )
            return 200, str(added.lastrowid)

    def become(self, role: str, epoch: int) -> None:
        """What it was told; writes that are under way bear the role and epoch of before."""
        with self._lock:
            self.role, self._own_epoch = role, epoch

    def count(self) -> Answer:
        """How many lines there are."""
        with self._lock:
            return 200, str(self._opened().execute("SELECT count(*) FROM writes").fetchone()[0])

    def close(self) -> None:
        """Leave the file as a single one, without a log beside it."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _opened(self) -> sqlite3.Connection:
        """The database, opened anew when another file has its name: that of a passive replica is replaced while it
        runs."""
        file = self._identity()
        if self._database is None or file != self._file:
            if self._database is not None:
                self._database.close()
                self._database = None
            database = sqlite3.connect(self._path, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                _prepare(database)
            except sqlite3.Error:
                database.close()
                raise
            self._database, self._file = database, self._identity()
        return self._database

    def _identity(self) -> tuple[int, int] | None:
        with suppress(FileNotFoundError):
            found = os.stat(self._path)  # noqa: PTH116 - pathlib would be a fifth of the start
            return found.st_dev, found.st_ino
        return None


def _prepare(database: sqlite3.Connection) -> None:
    """Make the table when there is none."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'writes'").fetchone():
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # nothing was promised yet
        database.executescript(SCHEMA)
    database.execute("PRAGMA synchronous = FULL")


class Connection(socketserver.StreamRequestHandler):
    """One client: reads a request, answers it, reads the next."""

    server: "Server"
    timeout = IDLE_S
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Until the client leaves, is silent for a minute, or the server ends."""
        self.server.connections.add(self.connection)
        try:
            with suppress(OSError):
                while not self.server.ending and self._serve_one():
                    pass
        finally:
            self.server.connections.discard(self.connection)

    def _serve_one(self) -> bool:
        line = self.rfile.readline(LINE_BYTES_MAX).split()
        if not line:
            return False
        headers = self._headers()
        if len(line) != 3 or headers is None:
            return self._send((400, "this is no HTTP request"), False)
        if "transfer-encoding" in headers:
            return self._send((411, "say the length of the body"), False)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            return self._send((413, f"a body has at most {BODY_BYTES_MAX} bytes"), False)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return False
        method, path = line[0].decode("latin-1"), line[1].decode("latin-1").partition("?")[0]
        keep = line[2] == b"HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return self._send(self._answer(f"{method} {path}", headers, body.decode("utf-8", "replace")), keep)

    def _headers(self) -> dict[str, str] | None:
        headers: dict[str, str] = {}
        for _ in range(HEADERS_MAX):
            line = self.rfile.readline(LINE_BYTES_MAX).decode("latin-1").rstrip("\r\n")
            if not line:
                return headers
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return None

    def _answer(self, request: str, headers: dict[str, str], body: str) -> Answer:
        ledger = self.server.ledger
        try:
            match request:
                case "POST /write":
                    epoch = headers.get("x-perdure-epoch")
                    if epoch is not None and not epoch.isdecimal():
                        return 400, "X-Perdure-Epoch must be a number"
                    return ledger.write(None if epoch is None else int(epoch), body)
                case "GET /count":
                    return ledger.count()
                case "GET /healthz":
                    return 200, "ok"
                case "GET /role":
                    return 200, ledger.role
                case "POST /role":
                    return self._become(body)
        except sqlite3.Error as error:
            return 503, f"the ledger cannot be used: {error}"
        return 404, "no such page"

    def _become(self, body: str) -> Answer:
        try:
            told = json.loads(body)
            role, epoch = told["role"], int(told["epoch"])
        except (ValueError, TypeError, KeyError):
            return 400, 'the body must be {"role": ..., "epoch": ...}'
        if role not in ROLES:
            return 400, "a role is active or passive"
        self.server.ledger.become(role, epoch)
        return 200, role

    def _send(self, answer: Answer, keep: bool) -> bool:
        status, text = answer
        keep = keep and not self.server.ending
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain\r\nContent-Length: {len(text) + 1}\r\n"
        end = "\r\n" if keep else "Connection: close\r\n\r\n"
        self.wfile.write(f"{head}{end}{text}\n".encode("ascii", "replace"))
        return keep


class Server(socketserver.ThreadingTCPServer):
    """Accepts connections; each has a thread of its own."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, ledger: Ledger) -> None:
        super().__init__((HOST, port), Connection)
        self.ledger = ledger
        self.connections: set[socket.socket] = set()
        self.ending = False

    def end(self) -> None:
        """Accept nothing more, let idle clients go, and wait for the answers in flight."""
        self.ending = True
        self.shutdown()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # what has arrived can still be read
        self.server_close()


def main() -> int:
    """Serve on $PORT until SIGTERM."""
    asked = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)  # in all threads: the main one waits for them
    own_epoch = os.environ.get("PERDURE_EPOCH", "")
    role = os.environ.get("PERDURE_ROLE", "active")
    path = f"{os.environ.get('PERDURE_STATE', '.')}/ledger.db"
    try:
        ledger = Ledger(path, int(own_epoch) if own_epoch.isdecimal() else None, role)
        server = Server(int(os.environ.get("PORT", "8080")), ledger)
    except (sqlite3.Error, OSError, ValueError) as error:
        print(f"ledger: cannot start on {path}: {error}", file=sys.stderr)
        return 1
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="accept").start()
    signal.sigwait(asked)
    server.end()
    ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
