"""The faults and disturbances that one machine can produce, each with how it is made and what must come of it.

Numbers are those of the fault catalogue in the design. Three replicas of `bench/app.py` serve four endpoints; `whom`
says which of them are struck. Some faults the application only plays, for what they are is seen by nobody but their
effect: where it says "the application answers as if".
"""

import signal
from dataclasses import dataclass
from enum import StrEnum

from bench.faults import strikes
from bench.faults.strikes import Strike, fault, pause, send

OFTEN = 3
"""Faults that happen most are made three times as often as the others."""
REST_S = 6.0
WARM_S = 36.0
"""Response times of a replica's first half minute are not judged."""
FORGOTTEN_S = 25.0
"""What was told is told anew after it was over for some seconds."""


class Whom(StrEnum):
    """Who is struck."""

    NOBODY = "nobody"
    ONE = "one"
    TWO = "two"
    ALL = "all"


class Expected(StrEnum):
    """What must come of it."""

    ISOLATED = "isolated"  # those that were struck get no requests, and nobody else is touched
    ALARM = "alarm"  # nobody is isolated or restarted; somebody is told what is shared
    TOLD = "told"  # the status says so, in these words, and nobody else is touched
    PUT_RIGHT = "put right"  # every server has its weight again, and nobody is touched
    NOTHING = "nothing"  # nobody is isolated or restarted


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
    words: str = ""
    """What the status must say."""
    own: bool = False
    """It is about something that only Perdure has, so no other side is asked."""
    times: int = 1
    """How often it is made for each trial."""
    rest_s: float = REST_S
    """For how long all must have been well before."""
    alone: bool = False
    """It would disturb what runs beside it, so nothing does."""

    @property
    def heals(self) -> bool:
        """Whether those that were struck are made well again; otherwise they are ended."""
        return self.expected in (Expected.ALARM, Expected.PUT_RIGHT, Expected.NOTHING)


NOTHING, ALARM, ALL = Expected.NOTHING, Expected.ALARM, Whom.ALL

ROWS = (
    Row("F1", "crash: SIGKILL", send(signal.SIGKILL), within_s=0.5, times=OFTEN),
    Row(
        "F2",
        "crash loop: it ends right after each start",
        strikes.crash_loop,
        Expected.TOLD,
        words="keep ending",
        own=True,
    ),
    Row("F3", "hang: SIGSTOP", send(signal.SIGSTOP), within_s=3.0, times=OFTEN),
    Row("F4", "workers stuck, /healthz alive", fault(kind="silent")),
    Row("F5", "event loop blocked for 10 s, again and again", fault(kind="hang-loop", seconds=10), again_s=10.5),
    Row("F6", "all requests 5 x slower", fault(kind="slow", factor=5), rest_s=WARM_S),
    Row("F7", "5 % of requests 20 x slower", fault(kind="slow", factor=20, share=0.05), within_s=60.0, rest_s=WARM_S),
    Row("F8 5 %", "5 % of requests answer 500", fault(kind="error", share=0.05), within_s=15.0, times=OFTEN),
    Row("F8 20 %", "20 % of requests answer 500", fault(kind="error", share=0.2), within_s=2.0, times=OFTEN),
    Row("F9", "500 on one endpoint with a tenth of the requests", fault(kind="error", on="/pay"), times=OFTEN),
    Row("F10", "wrong content with status 200", fault(kind="content", on="health"), times=OFTEN),
    Row("F11", "403 for everything", fault(kind="error", status=403)),
    Row("F12", "nobody accepts: the backlog fills", fault(kind="deaf")),
    Row("F13", "no descriptors left", strikes.nearly_all_descriptors),
    Row("F14", "no thread left for /search: the application answers as if", fault(kind="error", on="/search")),
    Row("F15", "memory beyond its limit", fault(kind="memory", size=300_000_000), within_s=60.0),
    Row("F16", "disk full: each write gets ENOSPC", fault(kind="disk-full")),
    Row("F17", "read-only: each write fails", fault(kind="read-only")),
    Row("F18", "a bit flipped in its data", fault(kind="data", **{"is": "sane"}), own=True),
    Row("F19", "its data diverged", fault(kind="data", **{"is": "other"}), own=True),
    Row(
        "F25",
        "no name resolves: 502 on /search, the application answers as if",
        fault(kind="error", on="/search", status=502),
    ),
    Row(
        "F27",
        "a dependency gone for one: 504 on /pay, the application answers as if",
        fault(kind="error", on="/pay", status=504),
    ),
    Row(
        "F28",
        "a dependency gone for all: 500 on /pay",
        fault(kind="error", on="/pay"),
        ALARM,
        20.0,
        ALL,
        rest_s=FORGOTTEN_S,
    ),
    Row(
        "F30", "misconfigured: wrong content on /search with status 200", fault(kind="content", on="/search"), own=True
    ),
    Row("F34", "500 for everything, /healthz says ok", fault(kind="error"), times=OFTEN),
    Row("F35", "its weight in HAProxy set to 0 by hand", strikes.weightless, Expected.PUT_RIGHT),
    Row("F36", "six busy neighbours on its core", strikes.neighbours, alone=True),
    Row("F38", "the monitor killed, and a replica with it", strikes.kill_the_monitor_too, own=True),
    Row("F39", "two of three answer 500 at once", fault(kind="error"), whom=Whom.TWO),
    Row("B1", "the monitor stopped for 10 s", strikes.pause_of_the_monitor(10.0), NOTHING, 18.0, Whom.NOBODY, own=True),
    Row(
        "B2",
        "the monitor starved to 5 % of a core",
        strikes.starve_the_monitor(15.0, 0.05),
        NOTHING,
        22.0,
        Whom.NOBODY,
        own=True,
    ),
    Row("B5", "one pause of 1.9 s", pause(1.9), NOTHING, 5.0),
    Row("B6", "five times the load for 20 s", strikes.clients(240.0, 20.0), NOTHING, 25.0, Whom.NOBODY),
    Row(
        "B10",
        "as many bad requests as good ones for 20 s: 404",
        strikes.clients(60.0, 20.0, "/missing"),
        NOTHING,
        25.0,
        Whom.NOBODY,
    ),
    Row("B11", "one request in 500 fails on one replica", fault(kind="error", share=0.002), NOTHING, 30.0),
    Row("B14", "everything 1.5 x slower on all", fault(kind="slow", factor=1.5), NOTHING, 30.0, ALL, rest_s=WARM_S),
)

ELSEWHERE = (
    ("F20 - F24, B13", "need several hosts: with them"),
    ("F26", "needs a service that speaks TLS: not built"),
    ("F29", "a bad release: with releases"),
    ("F31, F32, F33", "a deadly request, a wrong clock, flapping: not made"),
    ("F37", "state D needs a device that hangs: `tests/unit/test_process.py`"),
    ("F40", "HAProxy killed: `python -m bench failure --fault balancer`"),
    ("F41", "the store: `tests/integration/test_e2e_store.py`"),
    ("F42, F43", "SIGTERM ignored, a port taken: `tests/integration/test_e2e_failing.py`, `test_e2e_replicas.py`"),
    ("B3, B4, B7, B8, B9, B12", "in the simulator and in transcripts: `tests/scenario`, `tests/simulation`"),
)
"""What is not made here, and where it is."""
