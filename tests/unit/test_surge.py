"""A release that fails more than it used to, with nothing to compare it with: during a rollout, and after it."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.recover import compare, relapse, surge
from perdure.recover.observed import Failed, Observed
from perdure.recover.relapse import Watch
from perdure.recover.surge import NOTHING, Surge
from perdure.recover.usual import Frozen

USUAL = 0.002


@pytest.mark.parametrize(("position", "gained"), [(0, 0.6986), (1, 1.4026), (2, 0.5012)])
def test_a_failure_of_a_hundred_requests_is_worth_what_is_computed_by_hand(position: int, gained: float) -> None:
    """ln 3 - 100 x 0.002 x 2, ln 10 - 0.2 x 9 + 0.9, ln 30 - 0.1 x 29."""
    requests = (100, 50, 50)[position]
    assert surge.observe(NOTHING, requests, 1, USUAL).sums[position] == pytest.approx(gained, abs=1e-4)


@pytest.mark.parametrize(
    ("sums", "value"), [((0.0, 0.0, 0.0), 0.0), ((0.0, 0.0, math.log(298.0)), math.log(100.0)), ((5.0,) * 3, 5.0)]
)
def test_what_counts_is_the_mean_of_the_likelihood_ratios(sums: tuple[float, ...], value: float) -> None:
    assert surge.value(Surge(sums)) == pytest.approx(value)


SUMS = st.tuples(*[st.floats(0.0, surge.SUM_MAX)] * 3)


@given(SUMS, st.integers(0, 1_000), st.integers(0, 1_000), st.floats(0.002, 0.5))
def test_sums_stay_between_nothing_and_the_bound(
    sums: tuple[float, ...], requests: int, failures: int, usual: float
) -> None:
    assert all(0.0 <= one <= surge.SUM_MAX for one in surge.observe(Surge(sums), requests, failures, usual).sums)


@given(st.integers(1, 200), st.floats(0.002, 0.3))
def test_what_is_usual_is_worth_nothing_in_the_mean(requests: int, usual: float) -> None:
    """The mean factor of a binomial number of failures, for each ratio, is at most 1."""
    for ratio in surge.RATIOS:
        mean = math.exp(requests * math.log1p(usual * (ratio - 1.0)) - requests * usual * (ratio - 1.0))
        assert mean <= 1.0


def test_one_sum_alone_can_reach_the_limit() -> None:
    assert surge.lasts(Surge((surge.SUM_MAX, 0.0, 0.0)))


def watched(watch: Watch, seconds: range, failing: float, chance: random.Random) -> Watch:
    for second in seconds:
        failures = [Failed(True, str(number)) for number in range(50) if chance.random() < failing]
        watch = relapse.observe(watch, Observed(1_000.0 + second, 50, 0, failures, (), 1.0))
        if relapse.suspicious(watch):
            break
    return watch


@pytest.mark.parametrize(("failing", "requests_max"), [(1.0, 60), (0.2, 150), (0.05, 500), (0.02, 2_500)])
def test_a_release_that_turns_bad_is_suspected_soon(failing: float, requests_max: int) -> None:
    chance = random.Random(5)
    for _ in range(20):
        watch = watched(Watch(USUAL), range(600), failing, chance)
        assert watch.requests <= requests_max
        assert relapse.suspicious(watch).startswith(f"failed {watch.failures:,} of its last {watch.requests:,} req")


def test_what_is_usual_raises_a_suspicion_at_most_once_in_twenty_thousand_failures() -> None:
    """What is usual is the floor, and each failure a reading of its own: the worst case."""
    chance, alarms, found = random.Random(7), 0, NOTHING
    for _ in range(100_000):
        found = surge.observe(found, chance.expovariate(USUAL), 0, USUAL)
        found = surge.observe(found, 0, 1, USUAL)
        if surge.lasts(found):
            alarms, found = alarms + 1, NOTHING
    assert alarms <= 5


def test_one_client_that_fails_in_every_request_is_no_relapse_of_a_busy_service() -> None:
    watch = Watch(USUAL)
    for tenth in range(600):
        failures = [Failed(True, "one")] * 3
        watch = relapse.observe(watch, Observed(1_000.0 + tenth / 10, 50, 0, failures, (), 1.0))
    assert relapse.suspicious(watch) == ""


def test_failures_of_the_release_that_stands_by_do_not_count() -> None:
    failures = [Failed(False, str(number)) for number in range(50)]
    assert relapse.observe(Watch(USUAL), Observed(1_000.0, 50, 50, failures, (), 1.0)) == Watch(USUAL)


def test_a_suspicion_fades_when_the_release_is_well_again() -> None:
    watch = watched(Watch(USUAL), range(600), 1.0, random.Random(5))
    assert relapse.suspicious(watch)
    for second in range(600, 700):
        watch = relapse.observe(watch, Observed(1_000.0 + second, 50, 0, (), (), 1.0))
    assert watch == Watch(USUAL, clients=watch.clients)


def test_what_failed_during_the_rollout_is_usual_after_it() -> None:
    comparison = compare.begin(Frozen(), 0.0)
    for second in range(1, 201):
        failures = [Failed(second % 4 == 0, str(second))] if second % 2 else [Failed(True, str(second))]
        comparison = compare.observe(comparison, Observed(float(second), 25, 25, failures, (), 0.5))
    assert compare.usual_share(comparison) == pytest.approx(202 / 10_020)
