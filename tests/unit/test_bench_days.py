"""How the bench of simulated days counts: bounds, exposure, and whether the aim is met."""

import pytest
from bench import days

from perdure.sim.day import Found
from perdure.sim.days import Outcome
from perdure.sim.weather import DAY_S


def outcome(*found: Found) -> Outcome:
    return Outcome(1, 4, DAY_S, 1000, found, 0, (), "", 1.0)


def found(rule: str, during: str, wrong: bool = True) -> Found:
    return Found(10.0, rule, 1, "is isolated", during, {}, wrong)


@pytest.mark.parametrize(("events", "bound"), [(0, 2.996), (1, 4.744), (2, 6.296), (10, 16.962)])
def test_the_bound_is_that_of_the_tables_of_poisson(events: int, bound: float) -> None:
    assert days.upper_bound(events) == pytest.approx(bound, abs=0.001)


def test_acts_are_counted_under_each_disturbance_in_force_and_only_when_wrong() -> None:
    ended = outcome(found("R01", "B1+B6"), found("R11", "none"), found("R01", "B6", wrong=False))
    rows = {row.during: (row.isolated, row.restarted) for row in days._rows([ended])}
    assert rows["all"] == (1, 1)
    assert rows["B1"] == rows["B6"] == (1, 0)
    assert rows["none"] == (0, 1)


def test_exposure_to_a_disturbance_is_a_part_of_the_day() -> None:
    rows = {row.during: row.replica_days for row in days._rows([outcome()])}
    assert rows["all"] == 4.0
    assert 0.0 < rows["B5"] < rows["none"] < 4.0


def test_a_miss_of_the_aim_is_marked_and_few_days_are_not_enough_to_be_sure() -> None:
    assert days.verdict(days.Row("all", 500.0, 1, 0)) == "MISSED"
    assert days.verdict(days.Row("all", 500.0, 0, 0)).startswith("met, but")
    assert days.verdict(days.Row("all", 3000.0, 0, 0)) == "met"


def test_as_many_days_are_drawn_as_make_up_the_replica_days() -> None:
    assert days._seeds(0.5) == [1]
    assert len(days._seeds(40.0)) > len(days._seeds(20.0)) > 3
