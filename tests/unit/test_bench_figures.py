"""How the benches attribute, summarize and print what they measured, without running any of it."""

import pytest
from bench.control import Busy, Cost, marginal
from bench.failure import Trial, _attribute, _times
from bench.load import Kind, Plan
from bench.load_process import arguments, parse
from bench.pool import Resend
from bench.report import Report, spread
from bench.tally import OK, Sample


def cost(replicas: int, cpu: float) -> Cost:
    return Cost(replicas, cpu, 0.0, 0, 0.0, 0.0, 0.0, 0, Busy(0.0, 0.0, 0.0, 0), None)


def test_a_request_belongs_to_the_trial_in_which_it_was_due_even_when_it_ended_later() -> None:
    trials = [Trial(10.0, ended_at=12.0), Trial(14.0, ended_at=16.0)]
    samples = [
        Sample(3, 13.0, 0.2, OK, 0),
        Sample(1, 9.9, 5.0, "timeout", 0),
        Sample(2, 11.0, 0.1, OK, 0),
        Sample(4, 17.0, 9.0, "reset", 0),
    ]
    _attribute(trials, samples)
    assert [(trial.requests, trial.failed, trial.slowest_s) for trial in trials] == [(2, 1, 5.0), (1, 0, 0.2)]


def test_times_show_median_maximum_and_what_was_never_seen() -> None:
    trials = [Trial(0.0, isolated_s=value) for value in (0.01, 0.03, 0.02, None)]
    assert _times(trials, lambda trial: trial.isolated_s) == "20 / 30, never 1"
    assert _times(trials[3:], lambda trial: trial.isolated_s) == "never 1"


def test_linear_growth_has_one_marginal_cost() -> None:
    growth = marginal([cost(10, 0.011), cost(100, 0.02), cost(1000, 0.11)])
    assert [(low, high) for low, high, _ in growth] == [(10, 100), (100, 1000)]
    assert [micros for *_, micros in growth] == pytest.approx([100.0, 100.0])


def test_a_spread_of_one_value_is_that_value() -> None:
    assert set(spread([3.0]).values()) == {3.0}
    assert spread([1.0, 2.0, 9.0])["median"] == 2.0


def test_a_report_is_a_markdown_table() -> None:
    text = Report("a", "Title", ("x", "y"), (("1|2", "3"),), ("a note",)).markdown()
    assert text.splitlines() == ["## Title", "", "| x | y |", "| --- | --- |", "| 1\\|2 | 3 |", "", "- a note"]


def test_a_plan_survives_its_way_over_the_command_line() -> None:
    keyed = Kind("POST", "/order", key=True, body=b"x")
    mix = (keyed, Kind("GET", "/x", 2.0))
    plan = Plan("http://127.0.0.1:1/a", 50.0, 3.0, 7, mix, 9, 1.5, Resend.REUSED, b"ok", 3, "name")
    assert parse(arguments(plan))[0] == plan
