"""Who reaches whom: a replica that does not answer the monitor may answer others.

The monitor asks over one path, HAProxy hands over requests and asks its own checks over another. Silence to the monitor
alone does not tell a replica that hangs from a path that is broken, so the second vantage point is heard before much
is done about it:

- *A peer answers the monitor.* Then the monitor and most of its paths are well. Silence isolates as ever, whatever
  HAProxy sees: it costs little, is undone by three answers, and a check may ask for what few clients do (large answers,
  one endpoint). But a restart is not undone. A replica that HAProxy goes on reaching is not restarted: its process is
  well and only the path to it is not, or it would be ended in vain, and might never get ready again, for readiness is
  judged over the same path. When its health endpoint alone hangs, HAProxy's check of it soon fails as well, and the
  restart comes some seconds later. Where HAProxy asks another question than the silent check, what it sees proves
  little, and the restart only waits (`recover.restart`).
- *Nobody answers the monitor.* Then it is the monitor's own path, or all of them hang, or the network has failed for a
  moment. Silence counts at once only when a client's request waits as well, though it was handed over after the silence
  began: somebody took it, and does not answer. Without that, HAProxy's view decides: what it reaches does not hang;
  what it does not reach either hangs when the silence lasts longer than a network takes to find new paths. When the
  first one is heard again, the time in which nobody was does not count, for the others are asked one after the other.

That a replica answers clients is not told by its last answer: slow ones that were under way when it began to hang come
in later. So more answers must have come since some instant of the silence than requests were under way at it: at least
one of them was handed over later. And nothing may have waited for a second since the last answer. Without requests,
HAProxy's own check speaks: one that failed convicts with the monitor, long before the third in a row takes the replica
out; when it has had the time to fail and did not, it acquits.

Rejected: to let the last check acquit at once. It is up to two seconds old, and a hang is to be found in three.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from perdure.detect import probe, stall
from perdure.detect.probe import PAUSE_TOLERATED_S
from perdure.model.check import Check
from perdure.model.standing import View

MARK_EVERY_S = 0.5
MARKS = 12
KEEPS_ANSWERING_S = 1.0
"""Nothing may have waited longer since the last answer."""
RECONVERGENCE_S = 3.05
"""A network may need 3 s to find new paths (disturbance B13): so long must questions have been in vain."""
UNASKED_S = 10.0
"""The same for one that HAProxy does not ask either, when nobody else is heard: it carries nothing, and its silence may
be that of the monitor's path, of which nothing else tells.
"""
CHECK_S, SLACK_S = 2.0, 1.0
"""How often HAProxy asks, and how long it may take until its answer is read."""
DEAF_INTERVALS = 1.5
"""Nobody was heard for so many intervals of the checks: then the monitor was deaf meanwhile."""
DEAF_S_MIN = 1.0
"""And when it was so for longer than this, while several replicas were asked in vain."""
SAME_MOMENT_S = 0.5
"""A path breaks between two questions that were asked one right after the other: a peer must be heard later."""
READ_S_MAX = 1.0
"""An older reading of HAProxy says nothing of the present."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Good answers to clients, counted; `marks` are instants with the count then and the requests under way."""

    total: int = 0
    marks: tuple[tuple[float, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What HAProxy shows of a replica: whether it is up there, whether its last check failed nevertheless, when that
    was read, and how long a check of it takes to fail.
    """

    up: bool
    failing: bool
    read_at: float
    notices_s: float
    same_question: bool
    """It asks what the monitor gets no answer to."""
    asks: bool = True
    """HAProxy asks it at all: not one that stands by, or that was drained and has no request any more."""
    shared_question: bool = True
    """It asks what the monitor asks as well, here or at another check."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """When a question to any replica of the service was last answered, be it by an error, and when that was longer ago
    than usual.
    """

    at: float = -math.inf
    vain: frozenset[str] = frozenset()
    """Replicas that have left a question without an answer since."""
    deaf_from_at: float = -math.inf
    deaf_until_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Heard:
    """What the monitor has heard up to now."""

    hearing: Hearing
    now: float
    interval_s: float = 1.0
    """Some check is asked so often."""

    @property
    def nobody(self) -> bool:
        """Whether nobody is heard just now, though the next answer is overdue."""
        return self.now - self.hearing.at > DEAF_INTERVALS * self.interval_s


@dataclass(frozen=True, slots=True)
class Silence:
    """A replica does not answer the monitor; whether that counts, and what HAProxy sees of it."""

    view: View
    counts: bool
    together: bool
    """No other replica of the service answers the monitor."""


def observe(answers: Answers, at: float, good: int, under_way: int) -> Answers:
    """Add one reading: good answers since the one before, and the requests under way now."""
    total = answers.total + max(0, good)
    if answers.marks and at - answers.marks[-1][0] < MARK_EVERY_S:
        return Answers(total, answers.marks)
    return Answers(total, (*answers.marks[-(MARKS - 1) :], (at, total, under_way)))


def answers_since(answers: Answers, since_at: float) -> bool:
    """Whether a request that was handed over after `since_at` has been answered."""
    return any(at >= since_at and answers.total - total > under_way for at, total, under_way in answers.marks)


def silent(each: Iterable[probe.Asked], now: float, preferred: str) -> probe.Asked | None:
    """A check whose silence is too long for a pause, the one that HAProxy asks as well if there are several."""
    found = [asked for asked in each if probe.silence_speaks(asked, now)]
    return next((asked for asked in found if asked.check == preferred), found[0] if found else None)


def notices_s(check: Check) -> float:
    """How long HAProxy's own check may take to find that a replica does not answer, and a little more."""
    return CHECK_S + check.timeout_s + SLACK_S


def view(answers: Answers, stalled: stall.Stall, seen: Seen, since_at: float, now: float) -> View:
    """What HAProxy sees of a replica that has been silent to the monitor since `since_at`."""
    if stall.overdue(stalled):
        return View.WAITS
    found = _reached(answers, seen, since_at, now)
    waits_s = now - stalled.open[0][0] if stalled.open else 0.0
    if found is View.ANSWERS and waits_s >= KEEPS_ANSWERING_S:
        return View.UP if seen.same_question else View.UNSEEN
    return found


def _reached(answers: Answers, seen: Seen, since_at: float, now: float) -> View:
    if now - seen.read_at > READ_S_MAX or (seen.same_question and not seen.up):
        return View.UNSEEN
    if answers_since(answers, since_at):
        return View.ANSWERS
    if not seen.same_question or seen.failing:
        return View.UNSEEN
    return View.ANSWERS if now - since_at >= seen.notices_s else View.UP


def hear(hearing: Hearing, asked_at: float, interval_s: float) -> Hearing:
    """Note that a question that was asked at this instant was answered; some check is asked each `interval_s`.

    Before the first one the monitor was deaf, too: a daemon may have been started while it reaches nobody.
    """
    gap_s = asked_at - hearing.at
    if gap_s > DEAF_INTERVALS * interval_s or (gap_s > DEAF_S_MIN and len(hearing.vain) >= 2):
        return Hearing(asked_at, frozenset(), hearing.at, asked_at)
    vain = frozenset() if gap_s > 0.0 else hearing.vain
    return Hearing(max(asked_at, hearing.at), vain, hearing.deaf_from_at, hearing.deaf_until_at)


def miss(hearing: Hearing, replica: str) -> Hearing:
    """Note that a question to this replica got no answer."""
    return hearing if replica in hearing.vain else replace(hearing, vain=hearing.vain | {replica})


def silence(asked: probe.Asked, answers: Answers, stalled: stall.Stall, seen: Seen, heard: Heard) -> Silence:
    """Whether a silence that is too long for a pause counts, and what HAProxy sees.

    When no question to anybody was answered since, those that HAProxy asks as well were not either, whichever check
    this is. Where it only connects, and the monitor runs a command, it cannot tell.
    """
    since_at, last_at, ended_at, now = asked.unanswered_since_at, asked.unanswered_last_at, asked.ended_at, heard.now
    assert since_at is not None and last_at is not None and ended_at is not None
    shown = view(answers, stalled, seen, since_at, now)
    # What was in flight at the last answer counts as if it had just come then, but was handed over before, nobody
    # knows when: it proves nothing.
    known_at = max(since_at, stalled.answered_at if stalled.answered_at is not None else since_at)
    taken = any(at > known_at and stalled.seen_at - at >= PAUSE_TOLERATED_S for at, _ in stalled.open)
    # The path may also have broken in the middle of a pause of this replica that would have been forgiven.
    if heard.hearing.at < since_at + SAME_MOMENT_S or heard.nobody:
        unseen = _reached(answers, replace(seen, same_question=seen.shared_question), since_at, now) is View.UNSEEN
        lasts = last_at - since_at >= (RECONVERGENCE_S if seen.asks else UNASKED_S)
        return Silence(shown, taken or (lasts and unseen), together=True)
    if since_at <= heard.hearing.deaf_until_at:
        before_s = heard.hearing.deaf_from_at - since_at
        since_at = heard.hearing.deaf_until_at - (before_s if before_s >= SAME_MOMENT_S else 0.0)
    lasts = now >= since_at + PAUSE_TOLERATED_S and ended_at - since_at >= probe.PAUSE_S and last_at >= since_at
    return Silence(shown, taken or lasts, together=False)
