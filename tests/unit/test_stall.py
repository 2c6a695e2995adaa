"""A replica that takes requests and answers none."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from perdure.detect import cusum, stall, times
from perdure.detect.stall import Others, Stall
from perdure.model.verdict import Sign

LIMIT = cusum.threshold(1 / (30 * 86_400), 10.0)
KNOWN = times.observe(times.Times(since_at=-100.0), Counter({times.bucket(20.0): 1_000}), 1.0)
ANSWERING = Others(answered_at=1e9, times=KNOWN)


def stuck(requests: int, until_s: float, each_s: float = 0.0) -> Stall:
    """Requests handed over from instant 10 on, none answered, read every 100 ms for `until_s`."""
    seen = Stall(answered_at=9.9, seen_at=9.9)
    handed = 0
    for number in range(round(until_s * 10) + 1):
        since_s = number / 10
        new = min(requests, 1 + int(since_s / each_s) if each_s else requests) - handed
        handed += new
        seen = stall.observe(seen, 10.0 + since_s, new, 0, handed)
    return seen


@pytest.mark.parametrize(
    ("requests", "until_s", "convicted"),
    [(1, 60.0, False), (2, 2.0, False), (2, 2.2, True), (5, 1.9, False), (5, 2.1, True)],
)
def test_two_overdue_requests_convict_where_answers_are_quick_and_one_never_does(
    requests: int, until_s: float, convicted: bool
) -> None:
    verdict = stall.judge(stuck(requests, until_s), ANSWERING, LIMIT)
    assert (verdict is not None) is convicted
    if verdict is not None:
        assert verdict.sign is Sign.STALLED


def test_where_nothing_is_known_of_answers_it_takes_more_requests() -> None:
    for unknown in (times.Times(), replace(KNOWN, since_at=-50.0)):
        assert stall.judge(stuck(2, 5.0), Others(1e9, 0, unknown), LIMIT) is None
        assert stall.judge(stuck(5, 5.0), Others(1e9, 0, unknown), LIMIT) is not None


def test_requests_that_take_long_by_design_convict_nobody() -> None:
    both = Counter({times.bucket(20.0): 500, times.bucket(30_000.0): 500})
    slow = times.observe(times.Times(since_at=-100.0), both, 1.0)
    assert stall.judge(stuck(6, 10.0), Others(1e9, 0, slow), LIMIT) is None


def test_a_pause_on_top_of_answers_that_are_slow_by_nature_is_no_stall() -> None:
    both = Counter({times.bucket(20.0): 500, times.bucket(900.0): 500})
    slow = times.observe(times.Times(since_at=-100.0), both, 1.0)
    assert stall.judge(stuck(6, 2.9), Others(1e9, 0, slow), LIMIT) is None
    assert stall.judge(stuck(6, 3.5), Others(1e9, 0, slow), LIMIT) is not None


def test_an_answer_or_nothing_in_flight_ends_the_stall() -> None:
    late = stuck(5, 3.0)
    assert stall.overdue(late) == 5
    answered = stall.observe(late, 13.1, 0, 1, 4)
    assert (answered.handed, stall.overdue(answered)) == (4, 0)
    assert stall.overdue(stall.observe(late, 13.1, 0, 0, 0)) == 0


def test_nobody_is_convicted_while_no_peer_answers_or_peers_have_as_many_open() -> None:
    late = stuck(3, 5.0)
    assert stall.judge(late, ANSWERING, LIMIT) is not None
    assert stall.judge(late, replace(ANSWERING, answered_at=10.5), LIMIT) is None
    assert stall.judge(late, replace(ANSWERING, usual=2), LIMIT) is None


def test_what_a_peer_had_open_all_the_time_is_known_for_two_seconds() -> None:
    busy = stuck(4, 5.0)
    idle = Stall(answered_at=14.0, seen_at=15.0, in_flight=(0, 3))
    found = stall.leave_one_out([busy, idle, Stall()], KNOWN, 15.0)
    assert [(one.answered_at, one.usual) for one in found] == [(14.0, 0), (busy.answered_at, 4), (14.0, 4)]
    assert stall.always_open(busy, 20.0) == 0
    assert stall.leave_one_out([busy], KNOWN, 15.0) == [Others(-math.inf, 0, KNOWN)]


def test_streams_that_have_begun_wait_for_nothing() -> None:
    """Five streams got the head of their answer; nothing came for a minute, while the peers answered."""
    seen = stall.observe(Stall(answered_at=9.9, seen_at=9.9), 10.0, 5, 5, 5)
    for second in range(60):
        seen = stall.observe(seen, 11.0 + second, 0, 0, 5)
    assert not seen.open and stall.judge(seen, ANSWERING, LIMIT) is None
    for tenth in range(40):
        seen = stall.observe(seen, 80.0 + tenth / 10, 3 if not tenth else 0, 0, 8)
    verdict = stall.judge(seen, ANSWERING, LIMIT)
    assert verdict is not None and verdict.facts["requests"] == 3


def test_what_was_in_flight_before_anybody_looked_does_not_count() -> None:
    seen = Stall()
    for tenth in range(100):
        seen = stall.observe(seen, 10.0 + tenth / 10, 0, 0, 7)
    assert not seen.open


def test_a_pause_of_the_monitor_makes_nothing_overdue() -> None:
    late = stuck(3, 1.0)
    after = stall.observe(stall.shifted(late, 10.0), 21.1, 0, 0, 3)
    assert stall.overdue(after) == 0
