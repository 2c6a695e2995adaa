"""Receives HAProxy's log: one datagram for each request that it logs, on a unix socket in the run directory.

`render` says what is logged (every failed request, a sample of the others) and in which form; `haproxy.HAProxy` hands
the lines over with each reading. The kernel keeps only some ten datagrams, so each is taken at once; what comes while
nobody takes it is lost, as a sample may be.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from perdure.model.traffic import Answered

LINE_BYTES = 1024
KEPT = 10_000
"""Lines between two readings beyond which the rest is let go: a storm of errors says the same with fewer."""
BATCH = 64
FIELDS = 11

THINNED = 8
"""Of good requests one of this many is logged, and again of those, each time the rate is this many times higher."""
LEVELS = 3
LOGGED_PER_S = 1000
"""Lines that all services together may cause, so that reading them costs a few percent of a core."""
LOGGED_PER_S_MIN = 8
LOGGED_PER_S_A_SERVER = 40
"""More would tell nothing sooner."""


class Sample:
    """An open log socket and the requests that it told of since they were last taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._answered: list[Answered] = []

    def open(self) -> None:
        """Listen in the running loop; does nothing when it listens already. Raises OSError."""
        if self._socket is not None:
            return
        self._path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            receiver.setblocking(False)
            receiver.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError:
            receiver.close()
            raise
        self._socket = receiver
        asyncio.get_running_loop().add_reader(receiver.fileno(), self._receive, receiver)

    def close(self) -> None:
        """Stop listening. The file stays: a HAProxy that goes on writes to whoever binds it next."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None

    def take(self) -> Sequence[Answered]:
        """What came since the last call."""
        taken, self._answered = self._answered, []
        return taken

    def _receive(self, receiver: socket.socket) -> None:
        with suppress(BlockingIOError, InterruptedError):
            for _ in range(BATCH):
                answered = parse(receiver.recv(LINE_BYTES))
                if answered is not None and len(self._answered) < KEPT:
                    self._answered.append(answered)


def all_logged_below(servers: int, services: int) -> int:
    """The rate (requests/s) below which all requests of a service with so many servers, one of several, are logged."""
    return max(LOGGED_PER_S_MIN, min(LOGGED_PER_S_A_SERVER * servers, LOGGED_PER_S // max(1, services)))


def stands_for(rate: int, below: int) -> int:
    """For how many good requests a line stands that was written at this rate (requests/s); `below`: see above."""
    return int(THINNED ** sum(rate >= below * THINNED**level for level in range(LEVELS)))


def parse(line: bytes) -> Answered | None:
    """Read `SERVICE PORT STATUS RESPONSE_MS STATE RETRIES RATE ALL_LOGGED_BELOW CLIENT METHOD PATH`; None when no
    replica was asked, the client gave up, or it is no such line.
    """
    fields = line.rstrip().decode("utf-8", "replace").split(" ", FIELDS - 1)
    if len(fields) != FIELDS:
        return None
    service, port, status, response_ms, state, retries, rate, below, client, method, path = fields
    again = retries.removeprefix("+")  # a plus says that the last try went to another server
    if not all(one.isdecimal() for one in (port, status, again, rate, below)) or state.startswith("C"):
        return None
    taken_ms = int(response_ms) if response_ms.isdecimal() else None
    stands = stands_for(int(rate), int(below))
    return Answered(service, int(port), method, path, int(status), taken_ms, 1 + int(again), stands, client)
