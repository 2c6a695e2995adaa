"""A replica that takes requests and answers none: its workers are stuck, whatever its health endpoint says.

HAProxy counts what it hands to a replica and what comes back. A request that was handed over after the last answer and
is still open is a surprise that grows with its age: a healthy replica may pause for two seconds (disturbance B5), and
works on the request for the rest of that time, T. It takes longer than T with probability p(T), and each such request
is worth ln(1/p(T)) nats. p is the share of answers that took longer than T in the last ten minutes, on any replica;
beyond the longest of them it falls as 1/T^2, a tail heavier than that of a program that answers at all. One request
alone is never worth a conviction. HAProxy sends a request where the fewest are open, so a replica that is stuck gets
few: then one that stays open makes the monitor ask what clients ask most (`control.monitor`), and silence to that
convicts. A replica that answers it is not stuck, only slow at something; and when its peers do not answer it soon
either, all wait for the same.

Hard cases: all replicas wait for the same dependency (a peer must have answered since, or nobody is convicted); several
long requests at once that every replica has its share of (as many as a peer had open all the time are not counted); a
replica with nothing to do (no request is open).
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from perdure.detect import times
from perdure.detect.probe import PAUSE_TOLERATED_S
from perdure.detect.times import Times
from perdure.model.evidence import EvidenceClass
from perdure.model.verdict import Sign, Verdict

SHARE_UNKNOWN = 0.02
"""p of a request that was open for as long as a pause may take, while too few answers are known to say."""
ASKED_AFTER_S = 0.9
"""A request that is open for so long makes the monitor ask, so that the answer is there before a pause is too long."""
KNOWN_S_MIN = 60.0
"""What takes long and is rare has not been answered yet when one has looked for a few seconds."""
SHARE_MIN = 1e-4
"""p is never lower: one request is worth 9 nats at most."""
READINGS = 20
"""Readings of what is in flight that are kept: two seconds."""
COUNTED_MAX = 100
PEERS_ANSWER_AFTER_S = 1.0
"""A peer must have answered so long after the oldest open request came, or all may be waiting for the same."""


@dataclass(frozen=True, slots=True)
class Stall:
    """What was handed over since the last answer. An answer counts from its head on: a stream that goes on for hours
    waits for nothing.
    """

    answered_at: float | None = None
    """When the last answer was seen."""
    open: tuple[tuple[float, int], ...] = ()
    """Instants of readings, and how many requests were handed over before each: what was in flight at the last answer,
    as if it had just come, and what came since.
    """
    seen_at: float = 0.0
    waiting: int = 0
    """Requests without an answer at the last reading."""
    in_flight: tuple[int, ...] = ()
    """The same at the last readings."""

    @property
    def handed(self) -> int:
        """Requests that wait since the last answer, or came after it."""
        return sum(count for _, count in self.open)


@dataclass(frozen=True, slots=True)
class Others:
    """What the other replicas of the service show."""

    answered_at: float = -math.inf
    """When one of them last answered."""
    usual: int = 0
    """Requests that one of them had open at every reading of the last two seconds."""
    times: Times = field(default_factory=Times)
    """Response times of all replicas of the service."""


def observe(stall: Stall, at: float, requests: int, responses: int, sessions: int) -> Stall:
    """Add one reading: requests handed over and answers seen since the one before, and what is in flight now, streams
    included. Nobody knows what those in flight at the first reading wait for, so they do not count; a request that
    broke off without an answer counts until nothing is in flight.
    """
    before = stall.waiting if stall.answered_at is not None else 0
    waiting = min(sessions, max(0, before + requests - responses))
    in_flight = (*stall.in_flight[-(READINGS - 1) :], waiting)
    if responses or not waiting or stall.answered_at is None:
        return Stall(at, ((at, waiting),) if waiting else (), at, waiting, in_flight)
    opened = (*stall.open, (at, requests)) if requests else stall.open
    return replace(stall, open=opened, seen_at=at, waiting=waiting, in_flight=in_flight)


def always_open(stall: Stall, now: float) -> int:
    """How many requests a replica had open at every reading of the last two seconds."""
    return min(stall.in_flight, default=0) if now - stall.seen_at < PAUSE_TOLERATED_S else 0


def lasts(stall: Stall) -> bool:
    """Whether a request has been open for so long that the monitor should ask."""
    return bool(stall.open) and stall.seen_at - stall.open[0][0] >= ASKED_AFTER_S


def overdue(stall: Stall) -> int:
    """Requests that have been open for longer than a pause may take."""
    return sum(count for at, count in stall.open if stall.seen_at - at >= PAUSE_TOLERATED_S)


def score(stall: Stall, known: Times, usual: int = 0) -> float:
    """The suspicion in nats; `known` are the response times of all replicas, `usual` the requests that a peer had open
    all the time.
    """
    if not overdue(stall):
        return 0.0
    ages = [stall.seen_at - at for at, count in stall.open for _ in range(count)]
    counted = [age_s for age_s in sorted(ages, reverse=True)[usual:] if age_s >= PAUSE_TOLERATED_S]
    return sum(-math.log(_still_open(age_s, known)) for age_s in counted[:COUNTED_MAX])


def judge(stall: Stall, others: Others, limit: float) -> Verdict | None:
    """Convict when the suspicion reaches `limit` and a peer has answered meanwhile."""
    found = score(stall, others.times, others.usual)
    if not found or found < limit or others.answered_at < stall.open[0][0] + PEERS_ANSWER_AFTER_S:
        return None
    silent_s = stall.seen_at - stall.open[0][0]
    return Verdict(
        EvidenceClass.STALL,
        Sign.STALLED,
        f"answered none of the {stall.handed} requests that it got in the last {silent_s:.1f} s",
        score=found,
        threshold=limit,
        facts={"requests": stall.handed, "overdue": overdue(stall), "silent_s": round(silent_s, 3)},
    )


def leave_one_out(each: Sequence[Stall], known: Times, now: float) -> list[Others]:
    """For each of the replicas, what must be known of all the others; `known` are the response times of all."""
    answered_at = [one.answered_at if one.answered_at is not None else -math.inf for one in each]
    usual = [always_open(one, now) for one in each]
    latest, most = heapq.nlargest(2, [*answered_at, -math.inf]), heapq.nlargest(2, [*usual, 0])
    return [
        Others(latest[1] if at == latest[0] else latest[0], most[1] if count == most[0] else most[0], known)
        for at, count in zip(answered_at, usual, strict=True)
    ]


def _still_open(age_s: float, known: Times) -> float:
    """p: the share of requests that a healthy replica, which may have paused, has not answered after `age_s`."""
    answers, own_s = sum(known.counts), age_s - PAUSE_TOLERATED_S
    if answers < times.ANSWERS_MIN or known.at - known.since_at < KNOWN_S_MIN:
        return min(1.0, SHARE_UNKNOWN * (PAUSE_TOLERATED_S / age_s) ** 2)
    if own_s <= 0.0:
        return 1.0
    beyond = (times.longest_ms(known) / 1000.0 / own_s) ** 2 / answers
    return min(1.0, max(SHARE_MIN, times.share_above(known, own_s * 1000.0), beyond))


def shifted(stall: Stall, pause_s: float) -> Stall:
    """The same when the monitor itself did not look for `pause_s`."""
    if stall.answered_at is None:
        return stall
    opened = tuple((at + pause_s, count) for at, count in stall.open)
    return replace(stall, answered_at=stall.answered_at + pause_s, open=opened, seen_at=stall.seen_at + pause_s)
