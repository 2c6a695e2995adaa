"""What a replica tells about itself (evidence class E2'): heartbeats, judged by the last one and the usual gap.

The next beat is expected by the later of two instants: the last beat and the period that was promised, or the last beat
and the mean gap over the last thousand, for who is slower than it promised. That there are two, of which the later one
counts, is the thought of 2W-FD (Tomsic et al. 2015); its estimates are others, Chen's expected arrival (2002) over a
short and a long window of arrivals. Silence past that instant plus a margin adds evidence as it lasts: for a healthy
replica lateness has an exponential tail, P(later than x) = q0 e^(-x/scale), so the log-likelihood ratio grows linearly
with x.

Hard cases: a beat that arrives while the monitor pauses is read late; the pause shifts `last_at` (`self_health`). A
replica that never sent a beat is not judged here: it does not become ready. Rejected: phi with a normal tail, the
popular choice and the worst at equal detection time on real traces.
"""

import math
from dataclasses import dataclass, replace

from perdure.detect.probe import HEALTHY_SHARE, PAUSE_TOLERATED_S
from perdure.model.evidence import EvidenceClass
from perdure.model.verdict import Sign, Verdict

LONG_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """Arrivals so far: their number, the last one, and the mean gap over the long window (exponential beyond it)."""

    count: int = 0
    last_at: float = 0.0
    mean_gap_s: float = 0.0


def observe(told: Told, at: float) -> Told:
    """Add an arrival at monotonic instant `at`; one that is older than the last is ignored."""
    if told.count == 0:
        return Told(1, at, 0.0)
    gap_s = at - told.last_at
    if gap_s < 0.0:
        return told
    gaps = min(told.count, LONG_WINDOW)
    return Told(told.count + 1, at, told.mean_gap_s + (gap_s - told.mean_gap_s) / gaps)


def expected_by(told: Told, every_s: float) -> float:
    """Monotonic instant by which a healthy replica has sent its next beat; `every_s` is what it promised."""
    margin_s = max(PAUSE_TOLERATED_S, every_s / 2.0)
    return told.last_at + max(every_s, told.mean_gap_s) + margin_s


def score(told: Told, now: float, every_s: float) -> float:
    """The suspicion in nats: 0 while the beat is not late, then ln(1/q0) plus the lateness in units of every_s / 10."""
    late_s = now - expected_by(told, every_s)
    if told.count == 0 or late_s <= 0.0:
        return 0.0
    return -math.log(HEALTHY_SHARE) + late_s / (every_s / 10.0)


def convicts_at(told: Told, every_s: float, limit: float) -> float:
    """The instant at which continued silence reaches `limit` nats; infinity before the first beat."""
    if told.count == 0:
        return float("inf")
    return expected_by(told, every_s) + max(0.0, limit + math.log(HEALTHY_SHARE)) * every_s / 10.0


def judge(told: Told, now: float, every_s: float, limit: float) -> Verdict | None:
    """Convict when silence reached `limit` nats."""
    if now < convicts_at(told, every_s, limit):
        return None
    silence_s = now - told.last_at
    return Verdict(
        EvidenceClass.HEARTBEAT,
        Sign.SILENT,
        f"sent no heartbeat for {silence_s:.1f} s (one every {every_s:g} s was promised)",
        score=max(limit, score(told, now, every_s)),
        threshold=limit,
        facts={"silence_s": round(silence_s, 3), "beats": told.count},
    )


def shifted(told: Told, pause_s: float) -> Told:
    """The same evidence when the monitor itself did not look for `pause_s`."""
    return replace(told, last_at=told.last_at + pause_s) if told.count else told
