"""Simulated days at the level of evidence, in short: nobody healthy is isolated, somebody ill is, a seed is a run."""

from dataclasses import replace
from random import Random

import pytest

from perdure.control.world import ServiceState
from perdure.sim import day, days, quiet, weather
from perdure.sim.weather import DAY_S, Kind, Spell

LENGTH_S = 900.0
"""Of a day with the disturbances of a whole one."""
SEEDS = (1, 2, 3, 4, 5)


def short(seed: int, length_s: float) -> days.Outcome:
    """Some minutes with the disturbances of a whole day, each at most two minutes long."""
    drawn = weather.drawn(seed)
    share = length_s / DAY_S
    dense = tuple(
        replace(spell, at=spell.at * share, until_at=spell.at * share + min(120.0, spell.until_at - spell.at))
        for spell in drawn.spells
    )
    return days.played(replace(drawn, spells=dense), length_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_isolated_or_restarted_who_has_nothing_wrong(seed: int) -> None:
    outcome = short(seed, LENGTH_S)
    assert outcome.requests > 0
    assert outcome.found == ()


@pytest.mark.parametrize("rate", [0.3, 0.7, 1.9])
def test_a_dependency_that_is_slow_for_all_is_nobodys_fault_when_there_is_little_traffic(rate: float) -> None:
    for seed in (1, 7, 10, 14):
        drawn, random = weather.drawn(seed), Random(seed)
        spells = tuple(
            Spell(Kind.DEPENDENCY, 150.0 + 60.0 * n, 180.0 + 60.0 * n, 0, random.uniform(8.0, 20.0), random.random())
            for n in range(5)
        )
        climate = replace(drawn.climate, peak_rate=rate, steepness=0.0)
        assert days.played(replace(drawn, climate=climate, spells=spells), 480.0).found == ()


@pytest.mark.parametrize("ailment", days.AILMENTS)
def test_a_replica_that_is_ill_is_isolated_and_no_other_one(ailment: str) -> None:
    trial = days.tried(1, ailment)
    assert trial.isolated_s is not None
    assert trial.isolated_s < 60.0
    assert trial.false == 0


def test_the_same_seed_gives_the_same_day_and_another_one_another() -> None:
    first, again, other = short(2, 300.0), short(2, 300.0), short(4, 300.0)
    assert first.lines == again.lines
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_a_turn_that_is_spared_would_have_decided_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spared = quiet.decides_nothing
    asked = {"spared": 0, "taken": 0, "now": False}
    wrongly: list[str] = []

    def checked(self: day.Day, decision: object, now: float) -> None:
        if asked["now"] and getattr(decision, "rule", "") not in ("R04",):
            wrongly.append(f"{now:.3f} {decision}")
        act(self, decision, now)  # type: ignore[arg-type]

    def always(service: ServiceState, now: float) -> bool:
        asked["now"] = spared(service, now)
        asked["spared" if asked["now"] else "taken"] += 1
        return False

    act = day.Day._act
    monkeypatch.setattr(day.Day, "_act", checked)
    monkeypatch.setattr(quiet, "decides_nothing", always)
    short(9, 600.0)
    assert min(asked["spared"], asked["taken"]) > 100
    assert wrongly == []


def test_every_disturbance_comes_within_some_days_and_ends_with_the_day() -> None:
    drawn = [weather.drawn(seed) for seed in range(30)]
    spells = [spell for one in drawn for spell in one.spells]
    assert {spell.kind for spell in spells} == set(Kind)
    assert all(0.0 <= spell.at <= spell.until_at <= DAY_S for spell in spells)
    assert all(1.0 <= spell.until_at - spell.at <= 2.0 for spell in spells if spell.kind is Kind.PAUSE)
    assert all(
        one.climate.rate(one.climate.best_at) > 9.0 * one.climate.rate(one.climate.best_at + DAY_S / 2) for one in drawn
    )
