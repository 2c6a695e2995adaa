"""What asking a replica says about it (evidence class E2), one `Asked` for each declared check.

Intuition: one missed probe is nothing, several on fresh connections are a failure. The first miss of a run starts a
burst of three within 300 ms; the burst confirms, so a conviction for a quick failure (refused, wrong status, wrong
content) takes one interval plus the burst. Silence is different: a replica may pause for two seconds (a garbage
collection, a disk) without being ill, and a probe that times out cannot tell a pause from a hang. So silence convicts
only when the *oldest* unanswered question is older than the tolerated pause, and a later one was still unanswered at
the end of it; with a check every second a hang is found within about 3 s.

Hard cases: a probe that spans a pause of the monitor itself is void (`self_health`), it never gets here. The
time-outs of a forgiven pause have one cause, so they count as one miss once it is over, and confirm nothing else; or
the next single error would convict. Rejected: "N misses in a
row" alone: it never convicts a replica that fails every second question.
"""

from dataclasses import dataclass

from perdure.detect import cusum
from perdure.model.check import Check
from perdure.model.evidence import EvidenceClass, Outcome, Probed
from perdure.model.verdict import Sign, Verdict

BURST = 3
BURST_SPACING_S = 0.1
BURST_TIMEOUT_S = 1.0
SPACING_S_MIN = 0.02
"""Even a failing probe is not repeated sooner than this."""
HEALTHY_SHARE = 0.001
"""q0: one probe of a healthy replica in a thousand may fail."""
PAUSE_S = 2.0
"""A replica may be silent for this long, once, without being convicted (disturbance B5: 1 to 2 s)."""
PAUSE_TOLERATED_S = PAUSE_S + 0.05
"""The same, with the time that it takes to answer after a pause."""
CONFIRMING_MISSES = 3
SOON_S = 0.5
"""What clients ask most is answered within this by a replica that is well."""
ANSWERING_S = 0.25
"""Pause between two probes of a starting replica that answers, if not well yet: it is about to be ready."""
BOTH_KINDS_EVERY = 5
RECENT = 8
SHOWN = 120
"""So many characters of an answer stand in a sentence."""
CLOCK_OFF_S = 30.0
"""A clock that is off by less may belong to a server that writes the date of its answers ahead."""
CLOCK_LOOKS = 3

_SIGNS = {
    Outcome.REFUSED: Sign.REFUSED,
    Outcome.TIMEOUT: Sign.HANG,
    Outcome.STATUS: Sign.STATUS,
    Outcome.CONTENT: Sign.CONTENT,
    Outcome.FOREIGN: Sign.FOREIGN,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The evidence of one check: scores, the current runs, and the last answers."""

    check: str
    scores: cusum.Scores = cusum.NOTHING
    misses: int = 0
    """Failed probes since the last good one."""
    goods: int = 0
    """Good probes since the last failed one."""
    recent: tuple[Outcome, ...] = ()
    """The last eight outcomes, the newest last."""
    unanswered_since_at: float | None = None
    """When the oldest question of the current silence was asked; an error is an answer, too."""
    unanswered_last_at: float | None = None
    """When the newest of them was."""
    scores_before: cusum.Scores = cusum.NOTHING
    """The scores when the current silence began."""
    last_outcome: Outcome | None = None
    last_answer: str = ""
    last_good_at: float | None = None
    """When the last probe that was answered well was *asked*."""
    ended_at: float | None = None
    slow_at: float | None = None
    """When an answer, or none, came last that took longer than `SOON_S`."""
    certificate_until: float | None = None
    """Until when the certificate that it shows is valid (Unix time, seconds); None: it shows none."""
    clock_off_s: float = 0.0
    """By how much its clock was ahead of the host's in the last answer, behind if negative; 0: not by much."""
    clock_off: int = 0
    """Answers in a row of which that was so: the host's own clock may have been set between two of them."""


def observe(asked: Asked, probed: Probed) -> Asked:
    """Add the result of one probe. A bad one that was asked before the last one that was answered well is old news, and
    says nothing; a good one always counts.
    """
    good = probed.outcome is Outcome.GOOD
    if not good and asked.last_good_at is not None and probed.started_at < asked.last_good_at:
        return asked
    recent = (*asked.recent[-(RECENT - 1) :], probed.outcome)
    silent = probed.outcome is Outcome.TIMEOUT
    scores = asked.scores
    if asked.unanswered_since_at is not None and not silent:
        scores = cusum.observe(asked.scores_before, 1, 0, HEALTHY_SHARE)
    scores = cusum.observe(scores, 0 if good else 1, 1 if good else 0, HEALTHY_SHARE)
    off_s, off = asked.clock_off_s, asked.clock_off
    if probed.clock_ahead_s is not None:
        wrong = abs(probed.clock_ahead_s) > CLOCK_OFF_S
        off_s, off = (probed.clock_ahead_s, off + 1) if wrong else (0.0, 0)
    misses, goods, last_good_at = asked.misses + 1, 0, asked.last_good_at
    since_at, last_at, scores_before = None, None, asked.scores_before
    if good:
        misses, goods = 0, asked.goods + 1
        last_good_at = max(probed.started_at, last_good_at or probed.started_at)
    elif silent:
        since_at, last_at = asked.unanswered_since_at, asked.unanswered_last_at
        scores_before = asked.scores if since_at is None else scores_before
        since_at = min(probed.started_at, since_at if since_at is not None else probed.started_at)
        last_at = max(probed.started_at, last_at if last_at is not None else probed.started_at)
    return Asked(
        asked.check,
        scores,
        misses,
        goods,
        recent,
        unanswered_since_at=since_at,
        unanswered_last_at=last_at,
        scores_before=scores_before,
        last_outcome=probed.outcome,
        last_answer=probed.answer,
        last_good_at=last_good_at,
        ended_at=probed.ended_at,
        slow_at=probed.ended_at if probed.ended_at - probed.started_at >= SOON_S else asked.slow_at,
        certificate_until=probed.certificate_until or asked.certificate_until,
        clock_off_s=off_s,
        clock_off=off,
    )


def judge(asked: Asked, now: float, limit: float) -> Verdict | None:
    """Convict when the suspicion reaches `limit` (nats) and was confirmed; None otherwise."""
    score = cusum.strongest(asked.scores)
    if score < limit or asked.last_outcome is None:
        return None
    sign = _SIGNS.get(asked.last_outcome)
    if sign is None or not _confirmed(asked, sign, now):
        return None
    return Verdict(
        EvidenceClass.PROBE,
        sign,
        _sentence(asked, now, sign),
        endpoint=asked.check,
        score=score,
        threshold=limit,
        facts={"misses": asked.misses, "answer": asked.last_answer[:300]},
    )


def hint(asked: Asked) -> Sign | None:
    """What the last answer looked like when it was a bad one: too little for a verdict on this replica, but enough to
    doubt that another one, which shows the same, is alone to blame. Silence may be a pause, and hints at nothing.
    """
    if not asked.misses or asked.last_outcome is None or asked.last_outcome is Outcome.TIMEOUT:
        return None
    return _SIGNS.get(asked.last_outcome)


def clock_ahead_s(asked: Asked) -> float | None:
    """By how much the replica's clock is wrong, positive if it is ahead; None while it is not, or was not seen so for
    three answers in a row.
    """
    return asked.clock_off_s if asked.clock_off >= CLOCK_LOOKS else None


def silence_convicts_at(asked: Asked) -> float:
    """The instant at which silence is too long to be a pause; infinity while nothing is unanswered."""
    if asked.unanswered_since_at is None:
        return float("inf")
    return asked.unanswered_since_at + PAUSE_TOLERATED_S


def silence_speaks(asked: Asked, now: float) -> bool:
    """Whether the current silence is too long to be a pause, and was seen to last: the time alone that passed since
    the last question proves nothing.
    """
    since_at, ended_at = asked.unanswered_since_at, asked.ended_at
    if since_at is None or ended_at is None:
        return False
    return now >= silence_convicts_at(asked) and ended_at - since_at >= PAUSE_S


def wants_burst(asked: Asked) -> bool:
    """Whether the last result asks for a confirming burst: it is the first miss after a good answer, or the first at
    all.
    """
    return asked.misses == 1


def on_both_kinds(asked: Asked | None) -> bool:
    """Whether the next question is asked once more on the same connection: each fifth time, and while the replica is
    suspected. A new connection alone would miss who forgets those that it has.
    """
    if asked is None:
        return False
    return asked.misses > 0 or asked.goods % BOTH_KINDS_EVERY == BOTH_KINDS_EVERY - 1


def interval_s(check: Check, asked: Asked, starting: bool, since_start_s: float) -> float:
    """Seconds until the next ordinary probe: quick while the replica starts, most of all when it answers already, if
    not well; four times as quick while it is suspected.
    """
    if starting:
        answers = asked.last_outcome not in (None, Outcome.REFUSED, Outcome.TIMEOUT)
        slowest_s = ANSWERING_S if answers else check.interval_s
        return min(check.interval_s, slowest_s, max(0.05, since_start_s / 10.0))
    if asked.misses or 0 < asked.goods < CONFIRMING_MISSES:
        return max(min(0.1, check.interval_s), check.interval_s / 4.0)
    return check.interval_s


def _confirmed(asked: Asked, sign: Sign, now: float) -> bool:
    """Whether silence lasted too long, or enough of the recent questions failed otherwise than by silence, which may
    have been a pause.
    """
    if sign is Sign.HANG:
        return asked.misses >= CONFIRMING_MISSES and silence_speaks(asked, now)
    failed = len(asked.recent) - asked.recent.count(Outcome.GOOD) - asked.recent.count(Outcome.TIMEOUT)
    return failed >= CONFIRMING_MISSES


def _sentence(asked: Asked, now: float, sign: Sign) -> str:
    if sign is Sign.HANG:
        since_at = asked.unanswered_since_at
        silence_s = now - since_at if since_at is not None else 0.0
        return f"{asked.check} got no answer for {silence_s:.1f} s ({asked.misses} probes)"
    what = {
        Sign.REFUSED: "was refused",
        Sign.STATUS: "answered with an error",
        Sign.CONTENT: "answered with wrong content",
        Sign.FOREIGN: "was answered by a process that is not the replica's",
    }[sign]
    many = "once" if asked.misses == 1 else f"{asked.misses} times in a row"
    return f"{asked.check} {what}, {many}" + (f": {asked.last_answer[:SHOWN]}" if asked.last_answer else "")
