"""The documented rules of other tools, on streams that are short enough to count by hand."""

from collections.abc import Iterator

import pytest
from bench.rollout import rivals
from bench.rollout.rivals import Argo, Flagger, Outcome, Request


def stream(until_s: float, every_s: float = 1.0, fails_each: int = 0, from_s: float = 0.0) -> Iterator[Request]:
    """Requests whose draws run evenly through 0.05, 0.15 .. 0.95; from an instant on, of those that the new release
    gets each `fails_each`-th fails there (0: none).
    """
    number = 0
    while (at := (number + 0.5) * every_s) < until_s:
        bad = bool(fails_each) and at >= from_s and number // 10 % fails_each == 0
        yield Request(at, number % 10 / 10 + 0.05, bad, False, 20.0, 20.0)
        number += 1


def test_flagger_lets_a_good_release_in_by_a_tenth_each_minute() -> None:
    outcome = rivals.flagger(stream(600.0))
    assert outcome.moves == ((0.0, 0.1), (60.0, 0.2), (120.0, 0.3), (180.0, 0.4), (240.0, 0.5), (300.0, 1.0))
    assert (outcome.promoted_at, outcome.rolled_back_at) == (300.0, None)
    assert outcome.requests_new == 6 + 12 + 18 + 24 + 30 + 300


def test_flagger_takes_back_a_release_that_fails_always_after_five_checks() -> None:
    """A tenth of one request a second, for five minutes."""
    outcome = rivals.flagger(stream(900.0, fails_each=1))
    assert outcome.moves == ((0.0, 0.1), (300.0, 0.0))
    assert (outcome.rolled_back_at, outcome.failed_new, outcome.promoted_at) == (300.0, 30, None)


def test_flagger_halts_at_a_failed_check_and_goes_on_after_a_good_one() -> None:
    """One failure of 60, in the second minute: 98.3 %."""
    requests = [one._replace(fails_new=60.0 <= one.at < 66.0) for one in stream(600.0)]
    assert rivals.flagger(requests).moves[:4] == ((0.0, 0.1), (60.0, 0.2), (180.0, 0.3), (240.0, 0.4))


def test_flagger_counts_failed_checks_in_all_not_in_a_row() -> None:
    requests = [one._replace(fails_new=int(one.at / 60.0) % 2 == 0) for one in stream(900.0)]
    outcome = rivals.flagger(requests)
    assert outcome.rolled_back_at == 540.0
    assert outcome.moves[:3] == ((0.0, 0.1), (120.0, 0.2), (240.0, 0.3))


@pytest.mark.parametrize(("slow", "moves"), [(0, 6), (1, 6), (2, 2)])
def test_flagger_takes_back_a_slow_release_by_its_99th_percentile(slow: int, moves: int) -> None:
    """Of the 60 x 1.67 = 100 requests that the new release gets in the first minutes so many take 501 ms."""
    requests = [
        one._replace(ms_new=501.0 if number // 10 % 100 < slow else 500.0)
        for number, one in enumerate(stream(600.0, every_s=0.06))
    ]
    assert len(rivals.flagger(requests).moves) == moves


def test_flagger_holds_a_check_without_requests_for_a_failed_one() -> None:
    requests = [one._replace(draw=0.99) for one in stream(600.0)]
    assert rivals.flagger(requests).rolled_back_at == 300.0


def test_argo_gives_more_by_the_clock() -> None:
    outcome = rivals.argo(stream(3_000.0))
    assert outcome.moves == ((0.0, 0.2), (600.0, 0.4), (1_200.0, 0.6), (1_800.0, 0.8), (2_400.0, 1.0))
    assert (outcome.promoted_at, outcome.rolled_back_at) == (2_400.0, None)


def test_argo_takes_back_a_release_that_fails_always_with_the_third_measurement() -> None:
    """Measured at 600, 900 and 1,200 s: a fifth of 600 requests, and two fifths of 600."""
    outcome = rivals.argo(stream(3_000.0, fails_each=1))
    assert outcome.moves == ((0.0, 0.2), (600.0, 0.4), (1_200.0, 0.0))
    assert (outcome.rolled_back_at, outcome.failed_new) == (1_200.0, 120 + 240)


def test_argo_never_minds_a_release_that_fails_one_in_twenty_five() -> None:
    outcome = rivals.argo(stream(3_000.0, every_s=0.1, fails_each=25))
    assert outcome.rolled_back_at is None
    assert outcome.failed_new > 0


def test_argo_looks_at_the_last_minute_only() -> None:
    """Bad between the measurements, good in the minute before each."""
    requests = [one._replace(fails_new=one.at % 300.0 < 239.0) for one in stream(3_000.0)]
    assert rivals.argo(requests).rolled_back_at is None


def test_the_settings_can_be_others() -> None:
    quick = rivals.flagger(stream(600.0, fails_each=1), Flagger(interval_s=10.0, threshold=2))
    assert quick.rolled_back_at == 20.0
    assert rivals.argo(stream(3_000.0, fails_each=1), Argo(failure_limit=1)).rolled_back_at == 600.0


def test_failures_of_the_old_release_are_counted_apart() -> None:
    requests = [one._replace(fails_old=True) for one in stream(60.0)]
    assert rivals.flagger(requests) == Outcome(((0.0, 0.1),), 6, 0, 54)
