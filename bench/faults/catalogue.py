"""The faults and disturbances that one machine can produce, each with how it is made and what must come of it.

Numbers are those of the fault catalogue in the design. A fault is done to `bench/app.py` over its own control endpoint,
or to its process with a signal. Three replicas serve three endpoints; `whom` says which of them are struck.
"""

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

CONTROL_TIMEOUT_S = 2.0


class Whom(StrEnum):
    """Who is struck."""

    ONE = "one"
    TWO = "two"
    ALL = "all"


class Expected(StrEnum):
    """What must come of it."""

    ISOLATED = "isolated"  # those that were struck get no requests, and nobody else is touched
    ALARM = "alarm"  # nobody is isolated or restarted; somebody is told what is shared
    NOTHING = "nothing"  # nobody is isolated or restarted


@dataclass(frozen=True, slots=True)
class Struck:
    """A replica that a fault is done to."""

    port: int
    pid: int


Strike = Callable[[Struck], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `within_s` is the longest time it may take, or for how long nothing may happen."""

    number: str
    name: str
    strike: Strike
    expected: Expected = Expected.ISOLATED
    within_s: float = 10.0
    whom: Whom = Whom.ONE
    again_s: float = 0.0
    """It is done again and again with this pause; 0: once."""
    heals: bool = True
    """Whether the replica is well again when it is told to be; otherwise its process is killed."""


def fault(**query: object) -> Strike:
    """Switch a fault of `bench/app.py` on."""

    def strike(struck: Struck) -> None:
        switch(struck.port, query)

    return strike


def send(number: signal.Signals) -> Strike:
    """Send a signal to the process."""

    def strike(struck: Struck) -> None:
        os.kill(struck.pid, number)

    return strike


def pause(seconds: float) -> Strike:
    """Stop the process for so long."""

    def strike(struck: Struck) -> None:
        os.kill(struck.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(struck.pid, signal.SIGCONT)

    return strike


def nearly_all_descriptors(struck: Struck) -> None:
    """Open files until three descriptors are left of the 200 that the bench allows."""
    used = len(os.listdir(f"/proc/{struck.pid}/fd"))  # noqa: PTH208
    switch(struck.port, {"kind": "files", "count": OPEN_FILES - 3 - used})


OPEN_FILES = 200


def switch(port: int, query: Mapping[str, object]) -> None:
    """Tell a replica how to fail; raises OSError when it cannot be told."""
    words = "&".join(f"{name}={value}" for name, value in query.items())
    request = urllib.request.Request(f"http://127.0.0.1:{port}/fault?{words}", b"", method="POST")
    with urllib.request.urlopen(request, timeout=CONTROL_TIMEOUT_S) as answer:
        answer.read()


def heal(struck: Struck) -> None:
    """Make a replica well again; one that is gone or cannot be told is left to whoever restarts it."""
    with suppress(OSError):
        os.kill(struck.pid, signal.SIGCONT)
    with suppress(OSError):
        switch(struck.port, {"kind": "none"})


ROWS = (
    Row("F1", "crash: SIGKILL", send(signal.SIGKILL), within_s=0.5, heals=False),
    Row("F3", "hang: SIGSTOP", send(signal.SIGSTOP), within_s=3.0, heals=False),
    Row("F4", "workers stuck, /healthz alive", fault(kind="silent")),
    Row("F5", "event loop blocked for 10 s, again and again", fault(kind="hang-loop", seconds=10), again_s=10.5),
    Row("F6", "all requests 5 x slower", fault(kind="slow", factor=5)),
    Row("F7", "5 % of requests 20 x slower", fault(kind="slow", factor=20, share=0.05), within_s=60.0),
    Row("F8 5 %", "5 % of requests answer 500", fault(kind="error", share=0.05), within_s=15.0),
    Row("F8 20 %", "20 % of requests answer 500", fault(kind="error", share=0.2), within_s=2.0),
    Row("F9", "500 on one endpoint with a tenth of the requests", fault(kind="error", on="/pay")),
    Row("F10", "wrong content with status 200", fault(kind="content", on="health")),
    Row("F11", "403 for everything", fault(kind="error", status=403)),
    Row("F12", "nobody accepts: the backlog fills", fault(kind="deaf")),
    Row("F13", "no descriptors left", nearly_all_descriptors),
    Row("F15", "memory beyond its limit", fault(kind="memory", size=300_000_000), within_s=60.0),
    Row("F34", "500 for everything, /healthz says ok", fault(kind="error")),
    Row("F39", "two of three answer 500 at once", fault(kind="error"), whom=Whom.TWO),
    Row(
        "F28",
        "a dependency gone for all: 500 on /pay",
        fault(kind="error", on="/pay"),
        Expected.ALARM,
        20.0,
        Whom.ALL,
    ),
    Row("B5", "one pause of 1.9 s", pause(1.9), Expected.NOTHING, 5.0),
    Row("B11", "one request in 500 fails on one replica", fault(kind="error", share=0.002), Expected.NOTHING, 30.0),
    Row("B14", "everything 1.5 x slower on all", fault(kind="slow", factor=1.5), Expected.NOTHING, 30.0, Whom.ALL),
)
