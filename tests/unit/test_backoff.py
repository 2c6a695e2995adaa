"""How long to wait before the next try: doubled each time, capped, and spread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model import backoff


@pytest.mark.parametrize(
    ("failures", "delay_s"), [(1, 0.1), (2, 0.2), (3, 0.4), (8, 12.8), (9, 25.6), (10, 30.0), (5000, 30.0)]
)
def test_the_delay_doubles_up_to_the_cap(failures: int, delay_s: float) -> None:
    assert backoff.delay_s(failures, 0.1, 30.0, 0.5) == pytest.approx(delay_s)


@given(st.integers(1, 10_000), st.floats(0.001, 10.0), st.floats(0.001, 3600.0), st.floats(0.0, 1.0, exclude_max=True))
def test_the_delay_is_spread_by_a_quarter_to_either_side(
    failures: int, first_s: float, cap_s: float, jitter: float
) -> None:
    nominal_s = backoff.delay_s(failures, first_s, cap_s, 0.5)
    assert nominal_s <= cap_s
    assert 0.75 * nominal_s <= backoff.delay_s(failures, first_s, cap_s, jitter) <= 1.25 * nominal_s


def test_no_failure_has_no_delay_to_ask_for() -> None:
    with pytest.raises(AssertionError):
        backoff.delay_s(0, 0.1, 30.0, 0.5)
