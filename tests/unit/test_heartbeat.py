"""What heartbeats say: expected arrivals, and lateness that counts more the longer it lasts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import heartbeat
from perdure.detect.heartbeat import Told
from perdure.model.verdict import Sign

LIMIT = math.log(30 * 86_400)
EVERY_S = st.floats(0.1, 60.0)
TOLD = st.builds(Told, st.integers(1, 5000), st.floats(0.0, 1e6), st.floats(0.0, 10.0))


def beaten(*arrivals: float) -> Told:
    told = Told()
    for at in arrivals:
        told = heartbeat.observe(told, at)
    return told


@pytest.mark.parametrize(
    ("arrivals", "mean_gap_s"),
    [((5.0,), 0.0), ((5.0, 7.0), 2.0), ((5.0, 7.0, 8.0), 1.5), ((5.0, 7.0, 8.0, 8.0), 1.0)],
)
def test_the_mean_gap_is_that_of_all_beats_so_far(arrivals: tuple[float, ...], mean_gap_s: float) -> None:
    told = beaten(*arrivals)
    assert (told.count, told.last_at) == (len(arrivals), arrivals[-1])
    assert told.mean_gap_s == pytest.approx(mean_gap_s)


def test_beyond_the_long_window_one_gap_moves_the_mean_by_a_thousandth() -> None:
    assert heartbeat.observe(Told(50_000, 100.0, 2.0), 103.0).mean_gap_s == pytest.approx(2.001)


def test_a_beat_that_is_older_than_the_last_is_ignored() -> None:
    told = beaten(1.0, 2.0)
    assert heartbeat.observe(told, 1.5) == told


@pytest.mark.parametrize(
    ("told", "every_s", "expected_by"),
    [
        (Told(2, 100.0, 1.0), 1.0, 103.05),  # the promise, and the tolerated pause
        (Told(2, 100.0, 3.0), 1.0, 105.05),  # the long window says that it is slower than promised
        (Told(2, 100.0, 1.0), 10.0, 115.0),  # half of a long period is a larger margin than the pause
    ],
)
def test_the_next_beat_is_expected_by_the_later_of_two_estimates(
    told: Told, every_s: float, expected_by: float
) -> None:
    assert heartbeat.expected_by(told, every_s) == pytest.approx(expected_by)


def test_lateness_adds_one_nat_for_each_tenth_of_the_period() -> None:
    told = Told(10, 100.0, 2.0)
    by = heartbeat.expected_by(told, 2.0)
    assert heartbeat.score(told, by, 2.0) == 0.0
    assert heartbeat.score(told, by + 0.2, 2.0) == pytest.approx(6.9078 + 1.0, abs=1e-4)
    assert heartbeat.score(told, by + 2.0, 2.0) == pytest.approx(6.9078 + 10.0, abs=1e-4)


def test_silence_of_two_beats_of_one_second_convicts_after_3_8_seconds() -> None:
    told = Told(100, 100.0, 1.0)
    assert heartbeat.convicts_at(told, 1.0, LIMIT) == pytest.approx(103.836, abs=1e-3)
    verdict = heartbeat.judge(told, 104.0, 1.0, LIMIT)
    assert verdict is not None
    assert verdict.sign is Sign.SILENT
    assert verdict.sentence == "sent no heartbeat for 4.0 s (one every 1 s was promised)"
    assert verdict.facts == {"silence_s": 4.0, "beats": 100}


@given(TOLD, EVERY_S, st.floats(0.0, 30.0))
def test_the_instant_that_is_foretold_is_the_first_that_convicts(told: Told, every_s: float, limit: float) -> None:
    at = heartbeat.convicts_at(told, every_s, limit)
    verdict = heartbeat.judge(told, at, every_s, limit)
    assert verdict is not None and verdict.score >= limit
    assert heartbeat.judge(told, math.nextafter(at, 0.0), every_s, limit) is None


@given(st.floats(0.1, 10.0), st.floats(0.0, 2.0), st.floats(0.0, 1.0))
def test_a_pause_of_two_seconds_between_beats_never_convicts(every_s: float, pause_s: float, phase: float) -> None:
    told = beaten(*[number * every_s for number in range(5)])
    next_at = max(told.last_at + every_s, told.last_at + phase * every_s + pause_s)
    assert heartbeat.judge(told, next_at, every_s, 0.0) is None


def test_a_replica_that_never_sent_a_beat_is_not_judged() -> None:
    assert heartbeat.judge(Told(), 1e9, 1.0, LIMIT) is None
    assert heartbeat.score(Told(), 1e9, 1.0) == 0.0
    assert heartbeat.convicts_at(Told(), 1.0, LIMIT) == math.inf
    assert heartbeat.shifted(Told(), 10.0) == Told()


@given(TOLD, EVERY_S, st.floats(0.0, 3600.0))
def test_a_pause_of_the_monitor_postpones_the_conviction_by_its_length(
    told: Told, every_s: float, pause_s: float
) -> None:
    later = heartbeat.convicts_at(heartbeat.shifted(told, pause_s), every_s, LIMIT)
    assert later == pytest.approx(heartbeat.convicts_at(told, every_s, LIMIT) + pause_s)
