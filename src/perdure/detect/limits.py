"""What a replica holds of what is limited (evidence class E1): its listen backlog and its descriptors.

Both are facts of this machine, seen before clients notice. A full backlog means that nobody accepts: the kernel goes on
completing handshakes, so kept-alive connections and TCP checks say that all is well, while new clients wait. A replica
without descriptors cannot accept, open a file or ask a database, and usually says so nowhere. A pause of two seconds
fills a small backlog, too (disturbance B5), so it convicts only when it was full at every look for longer than that.

Hard cases: overload, which fills the backlogs of all replicas: then it is shared, and nobody is isolated (`scope`).
What fills slowly is `forecast`'s.
"""

from dataclasses import dataclass, replace

from perdure.detect.probe import PAUSE_TOLERATED_S
from perdure.model.evidence import EvidenceClass, Held
from perdure.model.verdict import Sign, Verdict

DESCRIPTORS_FULL = 0.98
DESCRIPTORS_LEFT = 2
"""Or so few are left: of a small limit two percent is less than one."""
SIGHTS = 2


@dataclass(frozen=True, slots=True)
class Holdings:
    """The last look, and since when (or how often in a row) something was full."""

    last: Held | None = None
    backlog_full_since_at: float | None = None
    descriptors_full: int = 0


def observe(before: Holdings, held: Held) -> Holdings:
    """Add one look; what it does not know stays as it was."""
    last = before.last
    since_at, full = before.backlog_full_since_at, before.descriptors_full
    if held.backlog_max:
        since_at = (since_at if since_at is not None else held.at) if held.backlog >= held.backlog_max else None
    elif last is not None:
        held = replace(held, backlog=last.backlog, backlog_max=last.backlog_max)
    if held.descriptors_max:
        room = max(DESCRIPTORS_LEFT, (1.0 - DESCRIPTORS_FULL) * held.descriptors_max)
        full = full + 1 if held.descriptors_max - held.descriptors <= room else 0
    elif last is not None:
        held = replace(held, descriptors=last.descriptors, descriptors_max=last.descriptors_max)
    return Holdings(held, since_at, full)


def backlog_full_s(holdings: Holdings) -> float:
    """For how long the backlog was seen to be full; 0 while it is not."""
    if holdings.last is None or holdings.backlog_full_since_at is None:
        return 0.0
    return holdings.last.at - holdings.backlog_full_since_at


def judge(holdings: Holdings) -> Verdict | None:
    """Convict a replica that accepts nothing, or has no descriptors left."""
    last = holdings.last
    if last is None:
        return None
    full_s = backlog_full_s(holdings)
    if full_s >= PAUSE_TOLERATED_S:
        return Verdict(
            EvidenceClass.LIMIT,
            Sign.BACKLOG,
            f"{last.backlog} connections wait to be accepted, and no more may ({last.backlog_max}), for {full_s:.1f} s",
            facts={"backlog": last.backlog, "limit": last.backlog_max, "full_s": round(full_s, 3)},
        )
    if holdings.descriptors_full >= SIGHTS:
        return Verdict(
            EvidenceClass.LIMIT,
            Sign.DESCRIPTORS,
            f"has {last.descriptors} of {last.descriptors_max} descriptors open",
            facts={"descriptors": last.descriptors, "limit": last.descriptors_max},
        )
    return None


def shifted(holdings: Holdings, pause_s: float) -> Holdings:
    """The same when the monitor itself did not look for `pause_s`."""
    if holdings.backlog_full_since_at is None:
        return holdings
    return replace(holdings, backlog_full_since_at=holdings.backlog_full_since_at + pause_s)
