"""Takeovers between simulated hosts: never two at once while clocks keep to the drift, and the check bites."""

import pytest

from perdure.sim import takeover

RUNS = 8
"""Of ten minutes each; `python -m bench takeover` makes ten thousand takeovers."""


@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_never_are_two_active_at_once(seed: int) -> None:
    outcome = takeover.played(seed)
    assert outcome.takeovers > 30
    assert (outcome.overlaps, outcome.epochs_fell) == ((), 0)


def test_the_same_seed_gives_the_same_run() -> None:
    assert takeover.played(7, 120.0) == takeover.played(7, 120.0)


def test_clocks_that_differ_by_more_are_caught() -> None:
    assert any(takeover.played(seed, drift=0.3).overlaps for seed in range(1, 4))


def test_nobody_is_active_for_no_longer_than_the_faults_make_it() -> None:
    """With three hosts and a fault every five seconds or so, somebody is active most of the time."""
    outcomes = [takeover.played(seed) for seed in range(1, 6)]
    assert sum(one.idle_s for one in outcomes) < 0.25 * 600.0 * len(outcomes)
