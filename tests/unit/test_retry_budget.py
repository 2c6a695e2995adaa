"""The retry budget: retries may be a share of the requests, and come back only after a while within half of it."""

import pytest

from perdure.prevent import retry
from perdure.prevent.retry import Spent


@pytest.mark.parametrize(
    ("requests", "retries", "allowed"),
    [(0, 0, True), (0, 30, True), (0, 31, False), (1000, 230, True), (1000, 231, False), (100_000, 20_031, False)],
)
def test_retries_are_switched_off_above_the_budget(requests: int, retries: int, allowed: bool) -> None:
    assert retry.allowed(Spent(requests, retries), 0.2, 50.0) is allowed


@pytest.mark.parametrize(
    ("retries", "off_for_s", "allowed"), [(0, 4.9, False), (0, 5.0, True), (115, 5.0, True), (116, 60.0, False)]
)
def test_retries_come_back_after_a_while_within_half_of_the_budget(
    retries: int, off_for_s: float, allowed: bool
) -> None:
    assert retry.allowed(Spent(1000, retries, off_since_at=100.0), 0.2, 100.0 + off_for_s) is allowed


def test_a_budget_of_nothing_still_lets_a_quiet_service_retry() -> None:
    assert retry.allowed(Spent(10, 5), 0.0, 0.0)
