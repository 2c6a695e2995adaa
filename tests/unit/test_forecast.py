"""When will it be full: leaks are forecast, noise and sawteeth are not."""

from random import Random

import pytest

from perdure.detect import forecast
from perdure.detect.forecast import Trend


def trend(*amounts: float, every_s: float = 10.0) -> Trend:
    found = Trend()
    for number, amount in enumerate(amounts):
        found = forecast.observe(found, number * every_s, amount)
    return found


def leak(points: int, per_point: float, noise: float = 0.0, seed: int = 1) -> list[float]:
    random = Random(seed)
    return [100.0 + number * per_point + random.gauss(0.0, noise) for number in range(points)]


def test_points_that_come_too_soon_are_left_out_and_the_oldest_go() -> None:
    assert len(trend(*range(5), every_s=2.0).points) == 1
    long = trend(*range(200))
    assert len(long.points) == forecast.POINTS and long.points[-1] == (1990.0, 199)


def test_the_slope_is_not_changed_by_a_third_of_wild_points() -> None:
    points = [(float(at), 2.0 * at) for at in range(30)]
    wild = [(at, 1_000.0 if number % 4 == 0 else amount) for number, (at, amount) in enumerate(points)]
    assert forecast.slope(points) == pytest.approx(2.0)
    assert forecast.slope(wild) == pytest.approx(2.0, rel=0.35)
    assert forecast.slope(points[:1]) == 0.0


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_leak_is_forecast_within_a_fifth(noise: float) -> None:
    found = forecast.full_in_s(trend(*leak(30, 5.0, noise)), 330.0)
    assert found == pytest.approx((330.0 - 245.0) / 0.5, rel=0.2)


@pytest.mark.parametrize(
    "amounts",
    [
        leak(11, 30.0),  # watched for too short
        [400.0] * 60,  # nothing grows
        [300.0 + amount for amount in leak(60, 0.05, 5.0)],  # noise
        [300.0 + amount for amount in leak(30, 1.0)],  # less than a tenth of the limit
        [370.0 + 30.0 * (number % 4) for number in range(60)],  # a sawtooth
        [300.0 + 20.0 * (number % 9) for number in range(60)],  # a slower one, near its highest now
        leak(30, -5.0),
        leak(30, 5.0),  # half of the limit: perhaps a cache that fills
    ],
)
def test_what_does_not_grow_steadily_is_no_forecast(amounts: list[float]) -> None:
    assert forecast.full_in_s(trend(*amounts), 500.0) is None


def test_what_is_full_already_is_full_now() -> None:
    assert forecast.full_in_s(trend(*leak(30, 20.0)), 600.0) == 0.0
