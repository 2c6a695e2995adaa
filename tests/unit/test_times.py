"""Response times: quantiles from few buckets, and from when on an answer is slow."""

import math
from collections import Counter
from random import Random

import pytest

from perdure.detect import times
from perdure.detect.times import Times


def measured(each_ms: list[float], at: float = 1.0) -> Times:
    return times.observe(Times(), Counter(map(times.bucket, each_ms)), at)


def log_normal(median_ms: float, sigma: float, count: int, seed: int = 1) -> list[float]:
    random = Random(seed)
    return [median_ms * math.exp(random.gauss(0.0, sigma)) for _ in range(count)]


@pytest.mark.parametrize("taken_ms", [0.0, 0.9, 1.0, 7.0, 100.0, 3_000.0, 60_000.0])
def test_a_bucket_holds_its_time_within_26_percent(taken_ms: float) -> None:
    upper_ms = times.upper_ms(times.bucket(taken_ms))
    assert taken_ms <= upper_ms + 1e-6 <= (taken_ms + 1.0) * 2 ** (1 / 3)


def test_a_quantile_is_told_from_enough_answers_only() -> None:
    assert times.quantile_ms(measured([10.0] * 49)) is None
    found = times.quantile_ms(measured([10.0] * 80 + [100.0] * 20))
    assert found is not None and 100.0 <= found <= 130.0
    assert times.quantile_ms(measured([10.0] * 95 + [100.0] * 5)) == pytest.approx(11.7, abs=0.1)


def test_old_answers_fade_with_a_time_constant_of_ten_minutes() -> None:
    later = times.observe(measured([10.0] * 100), {}, 601.0)
    assert sum(later.counts) == pytest.approx(100 * math.exp(-1.0))


@pytest.mark.parametrize(
    ("peers_ms", "limit_ms"),
    [([], None), ([1.0], 10.0), ([20.0], 60.0), ([20.0, 500.0], 60.0), ([20.0, 30.0, 500.0], 90.0)],
)
def test_slow_is_three_times_what_the_median_peer_shows(peers_ms: list[float], limit_ms: float | None) -> None:
    assert times.limit_ms(peers_ms) == limit_ms


@pytest.mark.parametrize(
    ("sigma", "factor", "least", "most"),
    [(1.0, 1.0, 0.0, 0.01), (1.0, 5.0, 0.15, 0.3), (1.0, 1.5, 0.0, 0.03), (0.2, 1.0, 0.0, 0.0), (0.2, 5.0, 0.4, 1.0)],
)
def test_five_times_as_slow_exceeds_the_limit_often_and_half_as_slow_again_does_not(
    sigma: float, factor: float, least: float, most: float
) -> None:
    healthy = times.quantile_ms(measured(log_normal(50.0, sigma, 5_000)))
    assert healthy is not None
    limit_ms = times.limit_ms([healthy])
    assert limit_ms is not None
    answers = [factor * taken_ms for taken_ms in log_normal(50.0, sigma, 5_000, seed=2)]
    assert least <= times.slow(Counter(map(times.bucket, answers)), limit_ms) / 5_000 <= most


def test_the_share_above_and_the_longest_are_known_of_several_replicas_together() -> None:
    together = times.merged([measured([10.0] * 90), measured([3_000.0] * 10, at=2.0)])
    assert times.share_above(together, 2_000.0) == pytest.approx(0.1)
    assert times.share_above(together, 4_000.0) == 0.0
    assert 3_000.0 <= times.longest_ms(together) <= 3_800.0
    assert times.longest_ms(times.merged([])) == 0.0
