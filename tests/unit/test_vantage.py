"""A replica that does not answer the monitor, seen from HAProxy: when its silence counts, and when it does not."""

import math
from dataclasses import replace

import pytest
from facts import HEALTHZ

from perdure.detect import probe, stall, vantage
from perdure.detect.stall import Stall
from perdure.detect.vantage import Answers, Heard, Hearing, Seen
from perdure.model.check import Check, CheckKind
from perdure.model.standing import View

SINCE = 10.0
NOW = 12.1
SILENT = probe.Asked(
    HEALTHZ.label, misses=3, unanswered_since_at=SINCE, unanswered_last_at=11.1, ended_at=12.1, last_good_at=9.0
)
IDLE = Stall(answered_at=9.9, seen_at=NOW)
NONE = Answers()
UP = Seen(up=True, failing=False, read_at=NOW, notices_s=5.0, same_question=True)
DOWN = replace(UP, up=False)
FAILING = replace(UP, failing=True)
PEERS = Heard(Hearing(11.5), NOW)
NOBODY = Heard(Hearing(9.9), NOW)
BUSY = Answers(20, ((10.3, 4, 3), (10.8, 12, 2)))
"""Sixteen answers came since the first mark, and three requests were under way then."""


def waiting(since_at: float, now: float = NOW) -> Stall:
    return Stall(answered_at=since_at - 0.1, open=((since_at, 1),), seen_at=now)


def test_the_interval_of_marks_and_their_number_are_bounded() -> None:
    answers = NONE
    for step in range(1000):
        answers = vantage.observe(answers, step * 0.1, 1, 2)
    assert answers.total == 1000
    assert len(answers.marks) == vantage.MARKS
    assert answers.marks[-1][0] - answers.marks[0][0] >= 5.0


@pytest.mark.parametrize(
    ("answers", "proved"),
    [
        (NONE, False),
        (BUSY, True),
        (Answers(7, ((10.3, 4, 3),)), False),  # those three were under way before
        (Answers(8, ((10.3, 4, 3),)), True),
        (Answers(99, ((9.9, 0, 0),)), False),  # they may have come before the silence
    ],
)
def test_more_answers_than_were_under_way_prove_that_it_answers(answers: Answers, proved: bool) -> None:
    assert vantage.answers_since(answers, SINCE) is proved


@pytest.mark.parametrize(
    ("answers", "stalled", "seen", "now", "view"),
    [
        (BUSY, IDLE, UP, NOW, View.ANSWERS),
        (BUSY, waiting(11.5), UP, NOW, View.ANSWERS),  # it came half a second ago
        (BUSY, waiting(11.0), UP, NOW, View.UP),  # nothing was answered for a second
        (BUSY, waiting(10.0), UP, NOW, View.WAITS),
        (NONE, IDLE, UP, NOW, View.UP),
        (NONE, IDLE, replace(UP, read_at=15.0), 15.1, View.ANSWERS),  # its own checks would have failed by now
        (BUSY, IDLE, DOWN, NOW, View.UNSEEN),
        (NONE, IDLE, FAILING, NOW, View.UNSEEN),
        (BUSY, IDLE, FAILING, NOW, View.ANSWERS),  # clients know better than one check
        (NONE, IDLE, replace(FAILING, same_question=False), NOW, View.UNSEEN),
        (BUSY, IDLE, replace(UP, read_at=11.0), NOW, View.UNSEEN),  # HAProxy was not read for a second
        (NONE, IDLE, replace(UP, same_question=False), NOW, View.UNSEEN),
        (BUSY, IDLE, replace(DOWN, same_question=False), NOW, View.ANSWERS),
        (BUSY, waiting(11.0), replace(UP, same_question=False), NOW, View.UNSEEN),
    ],
)
def test_what_haproxy_sees(answers: Answers, stalled: Stall, seen: Seen, now: float, view: View) -> None:
    assert vantage.view(answers, stalled, seen, SINCE, now) is view


@pytest.mark.parametrize("seen", [UP, DOWN])
def test_silence_counts_as_ever_while_a_peer_answers_the_monitor(seen: Seen) -> None:
    found = vantage.silence(SILENT, BUSY, IDLE, seen, PEERS)
    assert found.counts
    assert not found.together


def test_when_nobody_answers_a_request_that_was_handed_over_since_makes_it_count() -> None:
    assert vantage.silence(SILENT, NONE, waiting(10.02), UP, NOBODY).counts
    assert not vantage.silence(SILENT, NONE, waiting(9.9), UP, NOBODY).counts
    assert not vantage.silence(SILENT, NONE, IDLE, UP, NOBODY).counts


@pytest.mark.parametrize(
    ("seen", "answers", "last_at", "counts"),
    [
        (DOWN, NONE, 13.0, False),  # a network may need three seconds to find new paths
        (DOWN, NONE, 13.1, True),
        (FAILING, NONE, 13.1, True),
        (UP, NONE, 13.1, False),
        (UP, BUSY, 13.1, False),
        (replace(UP, same_question=False, shared_question=False), NONE, 13.1, True),  # it only connects
        (
            replace(UP, same_question=False),
            NONE,
            13.1,
            False,
        ),  # nobody answers: HAProxy's question is as good
    ],
)
def test_when_nobody_answers_a_long_silence_counts_where_haproxy_sees_nothing_either(
    seen: Seen, answers: Answers, last_at: float, counts: bool
) -> None:
    now = last_at + 1.0
    asked = replace(SILENT, unanswered_last_at=last_at, ended_at=now)
    seen = replace(seen, read_at=now)
    assert vantage.silence(asked, answers, IDLE, seen, Heard(Hearing(9.9), now)).counts is counts


@pytest.mark.parametrize(("last_at", "counts"), [(13.1, False), (19.9, False), (20.1, True)])
def test_when_nobody_answers_one_that_haproxy_does_not_ask_is_given_more_time(last_at: float, counts: bool) -> None:
    asked = replace(SILENT, unanswered_last_at=last_at, ended_at=last_at + 1.0)
    unasked = replace(UP, asks=False, read_at=-math.inf)
    found = vantage.silence(asked, NONE, IDLE, unasked, Heard(Hearing(9.9), last_at + 1.0))
    assert (found.view, found.counts, found.together) == (View.UNSEEN, counts, True)


def test_when_the_first_one_is_heard_again_the_silence_of_the_others_begins_anew() -> None:
    hearing = vantage.hear(vantage.hear(Hearing(), 9.8, 1.0), 20.0, 1.0)
    assert hearing == Hearing(20.0, frozenset(), 9.8, 20.0)
    late = replace(SILENT, unanswered_last_at=19.8, ended_at=20.8)
    assert not vantage.silence(late, NONE, IDLE, UP, Heard(hearing, 21.0)).counts
    still = replace(SILENT, unanswered_last_at=21.5, ended_at=22.5)
    assert vantage.silence(still, NONE, IDLE, UP, Heard(hearing, 22.5)).counts


def test_answers_at_their_usual_intervals_are_no_deafness() -> None:
    hearing = Hearing()
    for asked_at in (1.0, 2.02, 2.5, 3.5, 3.4):
        hearing = vantage.hear(hearing, asked_at, 1.0)
    assert hearing == Hearing(3.5, frozenset(), -math.inf, 1.0)


@pytest.mark.parametrize(
    ("missed", "deaf"), [((), False), (("web/1#1", "web/1#1"), False), (("web/1#1", "web/2#1"), True)]
)
def test_with_long_intervals_several_that_were_asked_in_vain_make_it_deafness(
    missed: tuple[str, ...], deaf: bool
) -> None:
    hearing = vantage.hear(vantage.hear(Hearing(), 10.0, 5.0), 12.0, 5.0)
    for replica in missed:
        hearing = vantage.miss(hearing, replica)
    hearing = vantage.hear(hearing, 14.3, 5.0)
    assert hearing == Hearing(14.3, frozenset(), *((12.0, 14.3) if deaf else (-math.inf, 10.0)))


def test_the_check_that_haproxy_asks_too_speaks_for_the_others() -> None:
    other = replace(SILENT, check="http /other")
    fine = probe.Asked("http /fine", last_good_at=11.0)
    assert vantage.silent([fine], NOW, HEALTHZ.label) is None
    assert vantage.silent([other, SILENT, fine], NOW, HEALTHZ.label) is SILENT
    assert vantage.silent([other, fine], NOW, HEALTHZ.label) is other


def test_haproxy_notices_after_one_check_in_vain() -> None:
    assert vantage.notices_s(Check(CheckKind.HTTP, "/", timeout_s=1.0)) == 4.0
    assert stall.overdue(waiting(9.0)) == 1


def test_a_request_that_was_in_flight_at_the_last_answer_may_have_come_before_the_silence() -> None:
    came_since = Stall(answered_at=10.05, open=((10.1, 1),), seen_at=12.2)
    in_flight = Stall(answered_at=10.1, open=((10.1, 1),), seen_at=12.2)
    unread = replace(UP, read_at=0.0)
    assert vantage.silence(SILENT, NONE, came_since, unread, NOBODY).counts
    assert not vantage.silence(SILENT, NONE, in_flight, unread, NOBODY).counts


def test_a_path_that_breaks_in_the_middle_of_a_pause_makes_no_hang_of_it() -> None:
    """A peer answered 0.6 s after the silence began, and nobody since, though somebody is asked each second."""
    late = replace(SILENT, unanswered_last_at=11.1, ended_at=12.1)
    unread = replace(UP, read_at=0.0)
    assert vantage.silence(late, NONE, IDLE, unread, Heard(Hearing(10.6), 12.05)).counts
    assert not vantage.silence(late, NONE, IDLE, unread, Heard(Hearing(10.6), 12.2)).counts
    assert vantage.silence(late, NONE, IDLE, unread, Heard(Hearing(10.6), 12.2, 5.0)).counts, "asked each five seconds"


def test_the_time_in_which_nobody_was_heard_counts_neither_for_a_pause_that_began_before() -> None:
    """It was silent 0.9 s before the path broke; the others were heard again at 13.5."""
    late = replace(SILENT, unanswered_since_at=10.1, unanswered_last_at=13.6, ended_at=14.6)
    heard_again = Hearing(13.5, frozenset(), 11.0, 13.5)
    for now, counts in ((13.7, False), (14.6, False), (14.7, True)):
        assert vantage.silence(late, NONE, IDLE, replace(UP, read_at=0.0), Heard(heard_again, now)).counts is counts
