"""The arithmetic of suspicion: hand-computed increments and limits, and how fast failures of each rate are noticed."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import cusum, traffic

Q0 = 0.001
MILLION_LOOKS = math.log(1_000_000)
SHARES = st.floats(0.0005, 0.9)
COUNTS = st.integers(0, 50)
SCORES = st.tuples(*[st.floats(0.0, cusum.SCORE_MAX) for _ in cusum.GRID])


@pytest.mark.parametrize(
    ("position", "gained"), [(0, 2.9957), (1, 3.9120), (2, 4.6052), (3, 5.2983), (4, 6.2146), (5, 6.9078)]
)
def test_a_bad_observation_is_worth_the_logarithm_of_share_over_healthy_share(position: int, gained: float) -> None:
    assert cusum.observe(cusum.NOTHING, 1, 0, Q0)[position] == pytest.approx(gained, abs=5e-5)


@pytest.mark.parametrize(
    ("position", "left"), [(0, 4.98080), (1, 4.94971), (2, 4.89564), (3, 4.77786), (4, 4.30785), (5, 0.0)]
)
def test_a_good_observation_speaks_for_the_replica_and_clears_it_of_failing_always(position: int, left: float) -> None:
    assert cusum.observe((5.0,) * 6, 0, 1, Q0)[position] == pytest.approx(left, abs=5e-5)


def test_a_healthy_past_buys_no_credit() -> None:
    after_years = cusum.observe(cusum.NOTHING, 0, 1_000_000, Q0)
    assert after_years == cusum.NOTHING
    assert cusum.observe(after_years, 1, 0, Q0) == cusum.observe(cusum.NOTHING, 1, 0, Q0)


def test_a_share_that_is_not_clearly_above_the_healthy_one_speaks_against_nobody() -> None:
    scores = cusum.observe((9.0,) * 6, 3, 0, 0.08)
    assert scores[:3] == (0.0, 0.0, 0.0)
    assert min(scores[3:]) > 9.0


@given(SCORES, COUNTS, COUNTS, SHARES)
def test_sums_stay_between_nothing_and_the_bound(
    scores: cusum.Scores, bad: int, good: int, healthy_share: float
) -> None:
    assert all(0.0 <= score <= cusum.SCORE_MAX for score in cusum.observe(scores, bad, good, healthy_share))


@given(SCORES, COUNTS, COUNTS, SHARES)
def test_one_more_failure_never_lowers_the_suspicion(
    scores: cusum.Scores, bad: int, good: int, healthy_share: float
) -> None:
    fewer = cusum.observe(scores, bad, good, healthy_share)
    more = cusum.observe(scores, bad + 1, good, healthy_share)
    assert all(after >= before for before, after in zip(fewer, more, strict=True))


@pytest.mark.parametrize(("position", "answers"), [(0, 1371), (4, 39), (5, 1)])
def test_the_longest_illness_is_forgotten_after_a_known_number_of_good_answers(position: int, answers: int) -> None:
    suspected = 0.25 * cusum.threshold(1 / (30 * 86_400), 1.0)
    ill = (cusum.SCORE_MAX,) * 6
    assert cusum.observe(ill, 0, answers - 1, Q0)[position] >= suspected
    assert cusum.observe(ill, 0, answers, Q0)[position] < suspected


@pytest.mark.parametrize(
    ("days", "looks_per_s", "limit"),
    [(30, 1.0, 14.7679), (30, 10.0, 17.0705), (30, 0.1, 12.4654), (1, 1.0, 11.3667), (3650, 1.0, 19.5692)],
)
def test_the_limit_follows_from_the_tolerated_false_alarms(days: int, looks_per_s: float, limit: float) -> None:
    assert cusum.threshold(1 / (days * 86_400), looks_per_s) == pytest.approx(limit, abs=5e-5)


def test_every_limit_can_be_reached() -> None:
    assert cusum.threshold(1e-30, 1000.0) == cusum.SCORE_MAX
    assert cusum.strongest(cusum.observe(cusum.NOTHING, 1000, 0, Q0)) >= cusum.SCORE_MAX


def test_alarms_that_may_come_with_every_look_need_no_suspicion() -> None:
    assert cusum.threshold(10.0, 1.0) == 0.0


def test_the_six_sums_together_alarm_no_more_often_than_promised() -> None:
    chance, looks, alarms, scores = random.Random(11), 100_000, 0, cusum.NOTHING
    limit = cusum.threshold(1 / 1000, 1.0)
    for _ in range(looks):
        bad = (chance.random() < traffic.FLOOR) + (chance.random() < traffic.FLOOR)
        scores = cusum.observe(scores, bad, 2 - bad, traffic.FLOOR)
        if cusum.strongest(scores) >= limit:
            alarms, scores = alarms + 1, cusum.NOTHING
    assert 0 < alarms <= looks / 1000


@pytest.mark.parametrize(("failing", "requests", "tolerance"), [(0.05, 93, 12), (0.2, 16, 2), (1.0, 2, 0.5)])
def test_failures_are_noticed_after_as_many_requests_as_the_design_says(
    failing: float, requests: float, tolerance: float
) -> None:
    chance = random.Random(7)
    runs = 200
    mean = sum(requests_until_noticed(failing, chance) for _ in range(runs)) / runs
    assert mean == pytest.approx(requests, abs=tolerance)


def requests_until_noticed(failing: float, chance: random.Random) -> int:
    scores = cusum.NOTHING
    for requests in itertools.count(1):
        failed = chance.random() < failing
        scores = cusum.observe(scores, int(failed), int(not failed), Q0)
        if cusum.strongest(scores) >= MILLION_LOOKS - 1e-9:
            return requests
    raise AssertionError("unreachable")
