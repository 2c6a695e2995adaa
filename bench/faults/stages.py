"""What faults are played on: a program, what Perdure's file says of it, and its clients.

A *stage* is one side at work: three replicas behind a HAProxy, and an open-loop load, mostly 20 requests a second for
each replica. Most rows of the catalogue are played on `SHOP`; the others differ in what the row is about.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import certificates, load
from bench.processes import HERE
from bench.program import APP, Program

RATE = 60.0
"""Requests a second: 20 for each of three replicas."""
OPEN_FILES = 200
KNOWN_S = 45.0
"""Load before the first fault: response times count from half a minute on."""
SOON_S = 8.0
SHOP, LARGE, TLS, QUIET, DATASETTE = "shop", "large", "tls", "quiet", "Datasette"
MIX = (
    load.Kind("GET", "/", 5.0),
    load.Kind("GET", "/search", 3.0),
    load.Kind("GET", "/pay", 1.0),
    load.Kind("POST", "/order", 1.0),
)
TIMES = 'restart = { stop_timeout = "2s", start_timeout = "90s" }\n'
MORE = (
    'limits = { memory = "250MB" }\nheartbeat = { every = "1s" }\ndigest = { path = "/digest", every = "1s" }\n'
    'canary = { path = "/search", rate = "2/s", expect = { body = "pid" } }\n'
)
LARGE_CHECK = '[[service.web.check]]\nhttp = "/large"\ninterval = "1s"\nexpect = { status = 200, min_size = "64kB" }\n'
PAGES = (
    load.Kind("GET", "/lighthouses/lighthouses.json?_shape=array&_size=5&_sort=height_m", 3.0),
    load.Kind("GET", "/lighthouses/lighthouses/1", 1.0),
    load.Kind("GET", "/lighthouses", 1.0),
)
WHOLE_TABLE = "/lighthouses/lighthouses.json?_shape=array&_size=100"


@dataclass(frozen=True, slots=True)
class Stage:
    """`more` stands in Perdure's file, in the section of the service; `checks` are tables after it."""

    program: Program
    more: str = TIMES
    checks: str = ""
    mix: tuple[load.Kind, ...] = MIX
    rate: float = RATE
    known_s: float = KNOWN_S
    """Load before the first fault."""
    at_once: int = 6
    """So many of its kind may be at work at the same time, for their programs want the machine, too."""
    trust: Path | None = None
    """Whose signatures the clients accept, over TLS."""

    def plan(self, port: int) -> load.Plan:
        """What the clients send to the side on this port, until they are stopped."""
        trust = str(self.trust) if self.trust is not None else ""
        return load.Plan(f"{self.program.url(port)}/", self.rate, mix=self.mix, connections=1024, trust=trust)


def made(name: str, directory: Path) -> Stage:
    """The stage of this name; what it needs on disk is written into the directory."""
    return _STAGES[name](directory)


def _shop(_: Path) -> Stage:
    limited = ("prlimit", f"--nofile={OPEN_FILES}:{OPEN_FILES}", *APP.command)
    options = ("--work", "0.005", "--backlog", "8", "--heartbeat", "0.5", "--orders", "orders.txt")
    return Stage(Program((*limited, *options)), TIMES + MORE)


def _large(_: Path) -> Stage:
    mix = (*MIX[:3], load.Kind("GET", "/large", 1.0))
    return Stage(replace(APP, command=(*APP.command, "--work", "0.005")), checks=LARGE_CHECK, mix=mix, known_s=SOON_S)


def _tls(directory: Path) -> Stage:
    certificates.make(directory)
    shown = ("--tls", str(directory / "valid.pem"), "--tls-expired", str(directory / "expired.pem"))
    program = Program((*APP.command, *shown), tls=True)
    trust = directory / "trusted.pem"
    return Stage(program, f'protocol = "tcp"\n{TIMES}', mix=MIX[:3], known_s=SOON_S, trust=trust)


def _quiet(_: Path) -> Stage:
    return Stage(APP, mix=MIX[:1], rate=0.1, known_s=SOON_S)


def _datasette(_: Path) -> Stage:
    program = Program(
        (sys.executable, str(HERE / "lighthouses.py")),
        health="/-/versions.json",
        healthy="datasette",
        tells_pid=False,
        timeout_s=1.0,
    )
    digest = f'digest = {{ path = "{WHOLE_TABLE}", every = "1s" }}\n'
    return Stage(program, TIMES + digest, mix=PAGES, at_once=1)


_STAGES: dict[str, Callable[[Path], Stage]] = {
    SHOP: _shop,
    LARGE: _large,
    TLS: _tls,
    QUIET: _quiet,
    DATASETTE: _datasette,
}
NAMES = tuple(_STAGES)
"""All stages, in the order in which they are played."""
