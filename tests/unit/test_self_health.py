"""Whether the monitor itself could see: its own pauses, and what they void."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import self_health
from perdure.detect.self_health import Pause, Wakefulness


@pytest.mark.parametrize(("gap_s", "pauses"), [(0.0, 0), (0.05, 0), (0.29, 0), (0.31, 1), (10.0, 1)])
def test_a_gap_of_six_ticks_is_a_pause(gap_s: float, pauses: int) -> None:
    awake, pause = self_health.note(Wakefulness(100.0), 100.0 + gap_s)
    assert awake.noted_at == 100.0 + gap_s
    assert len(awake.pauses) == pauses
    assert (pause is not None) == bool(pauses)
    if pause is not None:
        assert pause.length_s == pytest.approx(gap_s)


def test_only_the_latest_pauses_are_kept() -> None:
    awake = Wakefulness(0.0)
    for number in range(1, 20):
        awake, _ = self_health.note(awake, float(number))
    assert [pause.end_at for pause in awake.pauses] == [float(number) for number in range(12, 20)]


@pytest.mark.parametrize(
    ("start_at", "end_at", "void"),
    [
        (0.0, 9.0, False),
        (0.0, 10.0, False),
        (0.0, 10.5, True),
        (10.0, 20.0, True),
        (15.0, 15.1, True),
        (9.0, 25.0, True),
        (19.9, 25.0, True),
        (20.0, 25.0, False),
    ],
)
def test_an_observation_that_overlaps_a_pause_is_void(start_at: float, end_at: float, void: bool) -> None:
    assert self_health.spans_pause(Wakefulness(20.0, (Pause(10.0, 20.0),)), start_at, end_at) is void


@given(st.lists(st.floats(0.0, 0.29), max_size=50))
def test_a_monitor_that_keeps_ticking_never_pauses(gaps: list[float]) -> None:
    awake = Wakefulness(0.0)
    for gap_s in gaps:
        awake, pause = self_health.note(awake, awake.noted_at + gap_s)
        assert pause is None
    assert not self_health.spans_pause(awake, 0.0, awake.noted_at)


@pytest.mark.parametrize(
    ("answered_at", "heard", "paused"),
    [(100.01, True, False), (100.29, True, False), (100.4, True, True), (101.0, False, True), (100.1, False, True)],
)
def test_a_late_echo_or_none_is_a_pause(answered_at: float, heard: bool, paused: bool) -> None:
    awake, pause = self_health.note_echo(Wakefulness(100.0), 100.0, answered_at, heard)
    assert (pause == Pause(100.0, answered_at)) is paused
    assert self_health.spans_pause(awake, 100.05, 100.06) is paused


def test_an_echo_is_late_for_a_pause_that_is_known() -> None:
    awake = Wakefulness(110.0, (Pause(100.0, 110.0),))
    assert self_health.note_echo(awake, 99.9, 110.1, heard=False) == (awake, None)
