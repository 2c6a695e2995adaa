"""When `perdure retry` tries again: a plain function, tried at its edges."""

import pytest

from perdure.cli import retry_decision
from perdure.cli.retry_decision import Policy, Tried


def delay_s(tried: Tried, policy: Policy, jitter: float = 0.5) -> float | None:
    return retry_decision.decide(tried, policy, jitter).delay_s


def test_success_ends_it() -> None:
    assert delay_s(Tried(1, 0, 0.0), Policy()) is None


def test_pauses_double_up_to_the_longest() -> None:
    policy = Policy(attempts=None, backoff_s=0.2, backoff_s_max=1.0)
    assert [delay_s(Tried(count, 1, 0.0), policy) for count in range(1, 6)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_spreads_a_pause_by_a_quarter_either_way() -> None:
    assert delay_s(Tried(1, 1, 0.0), Policy(backoff_s=1.0), jitter=0.0) == 0.75
    assert delay_s(Tried(1, 1, 0.0), Policy(backoff_s=1.0), jitter=1.0) == 1.25


def test_the_last_try_is_the_last() -> None:
    assert delay_s(Tried(2, 1, 0.0), Policy(attempts=3)) is not None
    assert delay_s(Tried(3, 1, 0.0), Policy(attempts=3)) is None


def test_no_try_begins_at_or_after_the_deadline() -> None:
    policy = Policy(attempts=None, deadline_s=5.0, backoff_s=1.0)
    assert delay_s(Tried(1, 1, 3.9), policy) == 1.0
    assert delay_s(Tried(1, 1, 4.0), policy) is None


def test_only_the_named_codes_are_retried() -> None:
    policy = Policy(only_on=frozenset({75, 124}))
    assert delay_s(Tried(1, 75, 0.0), policy) is not None
    assert delay_s(Tried(1, retry_decision.TIMED_OUT_CODE, 0.0), policy) is not None
    assert delay_s(Tried(1, 1, 0.0), policy) is None


def test_the_excluded_codes_are_not_retried() -> None:
    policy = Policy(never_on=frozenset({2}))
    assert delay_s(Tried(1, 2, 0.0), policy) is None
    assert delay_s(Tried(1, 1, 0.0), policy) is not None


def test_a_command_that_cannot_be_run_is_not_retried_but_its_own_code_127_is() -> None:
    assert delay_s(Tried(1, 127, 0.0, started=False), Policy()) is None
    assert delay_s(Tried(1, 127, 0.0), Policy()) is not None


@pytest.mark.parametrize(
    ("timeout_s", "deadline_s", "elapsed_s", "expected"),
    [
        (None, None, 9.0, None),
        (2.0, None, 9.0, 2.0),
        (2.0, 10.0, 9.0, 1.0),
        (2.0, 10.0, 1.0, 2.0),
        (None, 5.0, 9.0, 0.0),
    ],
)
def test_a_try_gets_no_more_time_than_the_deadline_leaves(
    timeout_s: float | None, deadline_s: float | None, elapsed_s: float, expected: float | None
) -> None:
    assert retry_decision.try_timeout_s(elapsed_s, Policy(timeout_s=timeout_s, deadline_s=deadline_s)) == expected


def test_only_a_limit_of_attempts_makes_a_try_surely_the_last() -> None:
    assert retry_decision.is_surely_last(3, Policy(attempts=3))
    assert not retry_decision.is_surely_last(2, Policy(attempts=3))
    assert not retry_decision.is_surely_last(99, Policy(attempts=None, deadline_s=1.0))


def test_codes_are_read_as_lists_and_ranges() -> None:
    assert retry_decision.codes("1,75,100-102") == {1, 75, 100, 101, 102}


@pytest.mark.parametrize("text", ["", "x", "0", "256", "5-3", "1,,2", "-1", "1-"])
def test_what_is_no_exit_code_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        retry_decision.codes(text)
