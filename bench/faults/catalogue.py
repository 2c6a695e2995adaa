"""The faults and disturbances that one machine can produce, each with how it is made and what must come of it.

Numbers are those of the fault catalogue in the design. Three replicas of `bench/app.py` serve four endpoints, or those
of Datasette some pages (`stages`); `whom` says which of them are struck. Some faults the application only plays, for
what they are is seen by nobody but their effect: where it says "the application answers as if".
"""

import signal
from functools import partial

from bench.faults import disasters, stages, strikes
from bench.faults.row import Expected, Row, Whom
from bench.faults.strikes import fault, pause, send
from perdure.detect import deadly

OFTEN = 3
"""Faults that happen most are made three times as often as the others."""
WARM_S = 36.0
"""Response times of a replica's first half minute are not judged."""
FORGOTTEN_S = 25.0
"""What was told is told anew after it was over for some seconds."""
DEADLY_S = deadly.KEPT_S + FORGOTTEN_S
"""For so long a deadly request is named: after that one is told of anew."""
SPELL_S = 15.0
"""What has served for so long is not held to be in a crash loop any more."""
SHARED_RULES = frozenset({"R05", "R07", "R08"})
"""The ids of events that tell: half of the replicas or more show the same;"""
RELEASE_RULES = frozenset({"L10", "L12"})
"""a new release is rolled back;"""
DEADLY_RULES = frozenset({"P14"})
"""a request ends whoever gets it;"""
CLOCK_RULES = frozenset({"P13"})
"""a clock is wrong;"""
STORE_RULES = frozenset({"A08"})
"""the store cannot be written;"""
HARM_RULES = frozenset({"R01", "R11"})
"""a replica is isolated, or restarted;"""
TOO_LATE_RULES = frozenset({"R13", "R14"})
"""it did not answer in time after its start, or was held to be ill meanwhile."""


NOTHING, ALARM, SERVES, BALANCER = Expected.NOTHING, Expected.ALARM, Expected.SERVES, Expected.ANOTHER_BALANCER
NOBODY, ALL = Whom.NOBODY, Whom.ALL
datasette = partial(Row, stage=stages.DATASETTE)
"""A row that is played on a program that we did not write, so all is done from outside."""

ROWS = (
    Row("F1", "crash: SIGKILL", send(signal.SIGKILL), within_s=0.5, times=OFTEN),
    Row(
        "F2",
        "crash loop: it ends right after each start",
        strikes.crash_loop,
        Expected.TOLD,
        words="keep ending",
        own=True,
        rest_s=SPELL_S,
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
    Row("F24", "large answers hang after 16 kB", fault(kind="large-hangs"), stage=stages.LARGE),
    Row(
        "F25",
        "no name resolves: 502 on /search, the application answers as if",
        fault(kind="error", on="/search", status=502),
    ),
    Row("F26", "its TLS certificate expired", fault(kind="expired"), stage=stages.TLS),
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
        rules=SHARED_RULES,
        rest_s=FORGOTTEN_S,
    ),
    Row(
        "F29",
        "a bad release: 500 for everything, /healthz says ok",
        disasters.bad_release,
        ALARM,
        30.0,
        NOBODY,
        own=True,
        rules=RELEASE_RULES,
        spare=1,
        lasts_s=45.0,
        trials_max=5,
        rest_s=WARM_S,
    ),
    Row(
        "F30", "misconfigured: wrong content on /search with status 200", fault(kind="content", on="/search"), own=True
    ),
    Row(
        "F31",
        "a deadly request each second for 10 s: whoever gets it ends",
        disasters.deadly_requests(10.0),
        ALARM,
        12.0,
        NOBODY,
        rules=DEADLY_RULES,
        spare=3,
        lasts_s=15.0,
        rest_s=DEADLY_S,
    ),
    Row(
        "F32",
        "its clock is an hour ahead",
        fault(kind="clock", offset=3600),
        ALARM,
        own=True,
        rules=CLOCK_RULES,
        rest_s=FORGOTTEN_S,
    ),
    Row(
        "F33",
        "flapping: 500 for 20 s (or until it is replaced), well for 20 s, three times",
        disasters.flapping(20.0, 20.0, 3),
        lasts_s=120.0,
        trials_max=4,
        rest_s=SPELL_S,
    ),
    Row("F34", "500 for everything, /healthz says ok", fault(kind="error"), times=OFTEN),
    Row("F35", "its weight in HAProxy set to 0 by hand", strikes.weightless, Expected.PUT_RIGHT),
    Row("F36", "six busy neighbours on its core", strikes.neighbours, alone=True),
    Row("F37", "state D: waits in the kernel, where no signal reaches it", fault(kind="uninterruptible")),
    Row("F38", "the monitor killed, and a replica with it", strikes.kill_the_monitor_too, own=True),
    Row("F39", "two of three answer 500 at once", fault(kind="error"), whom=Whom.TWO),
    Row(
        "F40 killed",
        "HAProxy killed",
        disasters.to_haproxy(signal.SIGKILL),
        BALANCER,
        0.2,
        NOBODY,
        forbidden=HARM_RULES,
    ),
    Row(
        "F40 stopped",
        "HAProxy stopped",
        disasters.to_haproxy(signal.SIGSTOP),
        BALANCER,
        10.0,
        NOBODY,
        forbidden=HARM_RULES,
    ),
    Row(
        "F41",
        "the store locked for 10 s, and a replica killed meanwhile",
        disasters.lock_the_store(10.0),
        Expected.TOLD,
        10.0,
        NOBODY,
        own=True,
        words="is locked",
        rules=STORE_RULES,
        forbidden=HARM_RULES,
        spare=1,
        none_fails=True,
        lasts_s=13.0,
    ),
    Row("F42", "hangs, ignores SIGTERM, and has two children", disasters.stubborn_and_hung(2), Expected.GONE),
    Row("F43", "ends, and a stranger takes its port at once", disasters.killed_and_usurped, SERVES, lasts_s=8.0),
    Row("B1", "the monitor stopped for 10 s", strikes.pause_of_the_monitor(10.0), NOTHING, 18.0, NOBODY, own=True),
    Row(
        "B2",
        "the monitor starved to 5 % of a core",
        strikes.starve_the_monitor(15.0, 0.05),
        NOTHING,
        22.0,
        NOBODY,
        own=True,
    ),
    Row("B5", "one pause of 1.9 s", pause(1.9), NOTHING, 5.0),
    Row("B6", "five times the load for 20 s", strikes.clients(240.0, 20.0), NOTHING, 25.0, NOBODY),
    Row(
        "B7 restart",
        "a rolling restart",
        disasters.command("restart web"),
        NOTHING,
        60.0,
        NOBODY,
        own=True,
        forbidden=HARM_RULES,
        spare=3,
        none_fails=True,
        trials_max=5,
    ),
    Row(
        "B7 drain",
        "one replica drained, and put back",
        disasters.command("drain web/1", "undrain web/1"),
        NOTHING,
        10.0,
        NOBODY,
        own=True,
        forbidden=HARM_RULES,
        spare=1,
        none_fails=True,
    ),
    Row(
        "B8",
        "ends, and the next one takes 60 s to start",
        disasters.slow_start(60.0),
        SERVES,
        75.0,
        forbidden=TOO_LATE_RULES,
        trials_max=2,
    ),
    Row(
        "B10",
        "as many bad requests as good ones for 20 s: 404",
        strikes.clients(60.0, 20.0, "/missing"),
        NOTHING,
        25.0,
        NOBODY,
    ),
    Row("B11", "one request in 500 fails on one replica", fault(kind="error", share=0.002), NOTHING, 30.0),
    Row("B12", "hardly any traffic, and one fails", disasters.a_single_error, NOTHING, 40.0, stage=stages.QUIET),
    Row("B14", "everything 1.5 x slower on all", fault(kind="slow", factor=1.5), NOTHING, 30.0, ALL, rest_s=WARM_S),
    datasette("Datasette F1", "crash: SIGKILL", send(signal.SIGKILL), within_s=0.5),
    datasette("Datasette F3", "hang: SIGSTOP", send(signal.SIGSTOP), within_s=3.0),
    datasette("Datasette F13", "no descriptors left", strikes.no_more_descriptors),
    datasette("Datasette F17", "its database cannot be read", disasters.unreadable_data),
    datasette("Datasette F18", "a value changed in its database", disasters.other_data, own=True),
    datasette("Datasette F36", "six busy neighbours on its core", strikes.neighbours, alone=True),
    datasette("Datasette F43", "ends, its port is taken", disasters.killed_and_usurped, SERVES, lasts_s=8.0),
    datasette(
        "Datasette B1",
        "the monitor stopped for 10 s",
        strikes.pause_of_the_monitor(10.0),
        NOTHING,
        18.0,
        NOBODY,
        own=True,
    ),
    datasette("Datasette B5", "one pause of 1.9 s", pause(1.9), NOTHING, 5.0),
)

ELSEWHERE = (
    ("F20", "the old active wakes up: needs active-passive services on several hosts, which are not there yet"),
    ("F21 - F24, B3, B9, B13", "the network between: in the simulator, `tests/simulation/test_network.py`"),
    ("F21, a second monitor", "needs several hosts, which are not there yet"),
    ("F41", "the store on a full disk, or damaged: `tests/integration/test_e2e_store.py`, `test_store_damage.py`"),
    ("B4", "the wall clock jumps: in the simulator, `tests/simulation/test_disturbances.py`"),
    ("Datasette F16", "it writes nothing to its disk"),
)
"""What is not made here, and where it is."""
