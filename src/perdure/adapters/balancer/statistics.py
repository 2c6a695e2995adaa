"""Reads what HAProxy says of itself into the terms of `model.traffic`, cheaply, for it happens ten times a second.

HAProxy is asked to leave out servers in MAINT: most are free places. Those that were seen there with nothing left to
finish are not asked about again until they show up or are changed; the others are asked for by number.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from perdure.model.errors import UnavailableError
from perdure.model.traffic import WEIGHT, Admin, Backend, Counters, Server

BACKENDS_AND_SERVERS = 6
SERVERS = 4

_FIELDS = (
    "pxname", "svname", "qcur", "scur",
    "stot", "lbtot", "econ", "eresp", "wretr", "wredis", "hrsp_5xx",
    "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_other",
    "status", "addr", "srv_icur", "weight",
)  # fmt: skip
_UNUSED = Counters()


class _Line(NamedTuple):
    """The cells of a server's line that count, and what they were read as."""

    cells: tuple[str, ...]
    drained: bool
    server: Server


class Reader:
    """Keeps between two readings what did not change."""

    def __init__(self, servers: Mapping[str, int], draining: Iterable[tuple[str, str]] = ()) -> None:
        """`servers` maps service -> reserved servers, `draining` names those that were put into DRAIN."""
        self._expected = {service: [f"s{n}" for n in range(1, count + 1)] for service, count in servers.items()}
        self._quiet: dict[tuple[str, str], Server] = {}
        self._known: dict[tuple[str, str], Server] = {}
        self._queued: dict[str, int] = {}
        self._draining = set(draining)
        self._header = ""
        self._pick: Callable[[Sequence[str]], Any] = tuple
        self._splits = 0
        self._before: dict[tuple[str, str], _Line] = {}

    def put(self, service: str, server: str, admin: Admin) -> None:
        """Note a change that was made: HAProxy's own word for a drained server that is down would not tell."""
        key = service, server
        self._quiet.pop(key, None)
        if admin is Admin.DRAIN:
            self._draining.add(key)
        else:
            self._draining.discard(key)

    def begin(self) -> str:
        """The command to start a reading with; its answer goes to `take`."""
        self._known.clear()
        return f"show stat -1 {BACKENDS_AND_SERVERS} -1 no-maint"

    def take(self, answer: str) -> None:
        """Add an answer to the reading; UnavailableError when it is not one."""
        text = answer.split("\n")
        if not any(line.startswith("# pxname,") for line in text):
            raise UnavailableError(f"HAProxy gave no statistics: {text[0][:200]}", "perdure explain balancer")
        for line in text:
            if line.startswith("#"):
                self._learn(line)
            elif line.startswith("be-"):
                self._take_line(line)

    def missing(self) -> str | None:
        """The command that asks for servers in MAINT that may still have something to finish; None when none may."""
        asked: list[str] = []
        for service, names in self._expected.items():
            absent = [n for n, name in enumerate(names, 1) if self._is_absent((service, name))]
            if len(absent) > len(names) // 2:
                asked.append(f"show stat be-{service} {SERVERS} -1")
            else:
                asked += [f"show stat be-{service} {SERVERS} {number}" for number in absent]
        return ";".join(asked) or None

    def backends(self) -> Sequence[Backend]:
        """The reading; UnavailableError when HAProxy does not have all servers of the configuration."""
        found = []
        for service, names in self._expected.items():
            servers = []
            for name in names:
                key = service, name
                server = self._known.get(key) or self._quiet.get(key)
                if server is None:
                    raise UnavailableError(f"HAProxy does not know server {name} of {service}", "perdure reload")
                servers.append(server)
            found.append(Backend(service, tuple(servers), self._queued.get(service, 0)))
        return found

    def _is_absent(self, key: tuple[str, str]) -> bool:
        return key not in self._known and key not in self._quiet

    def _learn(self, header: str) -> None:
        if header != self._header:
            names = header.removeprefix("# ").split(",")
            columns = [names.index(name) for name in _FIELDS]
            self._pick = itemgetter(*columns)
            self._splits = max(columns) + 1
            self._header = header

    def _take_line(self, line: str) -> None:
        # Quoted: "Detected 1 consecutive errors, last one was: ...", when an error of a request has marked it down.
        parts = line.split(",", self._splits) if '"' not in line else next(csv.reader([line]))
        cells: tuple[str, ...] = self._pick(parts)
        service, name = cells[0][3:], cells[1]
        if name == "BACKEND":
            self._queued[service] = int(cells[2])
            return
        if not name.startswith("s"):
            return
        key = service, name
        drained = key in self._draining
        before = self._before.get(key)
        if before is not None and before.cells == cells and before.drained is drained:
            server = before.server
        else:
            server = _server(cells, drained)
            self._before[key] = _Line(cells, drained, server)
        if server.admin is Admin.MAINT and server.sessions == 0 and server.idle_connections == 0:
            self._quiet[key] = server
        else:
            self._known[key] = server
            self._quiet.pop(key, None)


def _server(cells: Sequence[str], drained: bool) -> Server:
    _, name, queued, sessions, *counts, status, addr, idle, weight = cells
    maint = status.startswith("MAINT")
    return Server(
        name,
        0 if addr == "127.0.0.1:1" else int(addr.rpartition(":")[2] or 0),
        Admin.MAINT if maint else Admin.DRAIN if drained or status.startswith("DRAIN") else Admin.READY,
        status.startswith(("UP", "DRAIN", "no check")),
        int(sessions) + int(queued or 0),
        int(idle or 0),
        _counters(*counts),
        int(weight or WEIGHT),
        status.startswith("UP "),  # "UP 2/3": so many of the failures that take it out are still to come
    )


def _counters(total: str, chosen: str, *rest: str) -> Counters:
    econ, eresp, wretr, wredis, errors, *others = (int(cell or 0) for cell in rest)
    requests = max(int(total), int(chosen or 0))
    if not requests and not econ:
        return _UNUSED
    return Counters(requests, econ, eresp, errors, wretr, wredis, errors + sum(others))


def drained_servers(state: str) -> Iterable[tuple[str, str]]:
    """The servers in DRAIN, from the answer to `show servers state`, which tells it also of those that are down."""
    header: list[str] = []
    for line in state.splitlines():
        if line.startswith("# "):
            header = line[2:].split()
        elif line.count(" ") > 5 and header:
            cells = dict(zip(header, line.split(), strict=False))
            if cells["be_name"].startswith("be-") and int(cells["srv_admin_state"]) & 0x18:
                yield cells["be_name"][3:], cells["srv_name"]
