"""Disturbances of the catalogue, by their names there: nothing may happen, whatever the phase."""

from dataclasses import replace

import pytest
from playing import WEB, at, played, with_replicas

from perdure.model.service import Limits

PHASES_S = (0.0, 0.13, 0.29, 0.5, 0.71, 0.93)


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_b1_a_daemon_that_was_stopped_for_ten_seconds_accuses_nobody(phase_s: float) -> None:
    run = played(at("B1", 10.0 + phase_s, length_s=10.0), until_at=40.0)
    assert not run.reactions
    assert len(run.instants("A10 daemon")) == 1
    assert run.failed == 0
    assert not run.broken


def test_b1_a_real_crash_during_the_pause_is_noticed_when_it_ends() -> None:
    run = played(at("B1", 10.0, length_s=10.0), at("F1", 14.0, 2), until_at=40.0)
    assert run.first("R10 web/2") - 20.0 <= 0.5
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("choice", [0.0, 0.9], ids=["forward", "back"])
def test_b4_a_wall_clock_that_jumps_an_hour_changes_nothing(choice: float) -> None:
    run = played(at("B4", 10.0, choice=choice), until_at=30.0)
    assert not run.reactions
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
@pytest.mark.parametrize("length_s", [1.0, 1.5, 2.0])
def test_b5_a_pause_of_up_to_two_seconds_is_forgiven(length_s: float, phase_s: float) -> None:
    run = played(at("B5", 10.0 + phase_s, 2, length_s=length_s), until_at=20.0)
    assert not run.reactions
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("replicas", [2, 3])
def test_b6_five_times_the_load_on_all_replicas_accuses_none(replicas: int) -> None:
    step = at("B6", 50.0, length_s=20.0)
    run = played(step, service=with_replicas(replicas), takes_s=0.02, until_at=90.0)
    assert not run.reactions
    assert run.failed == 0
    assert not run.broken


def test_b6_more_than_all_replicas_may_do_is_told_once_as_overload() -> None:
    narrow = replace(WEB, limits=Limits(max_concurrent=2))
    run = played(at("B6", 30.0, length_s=12.0), service=narrow, takes_s=0.06, until_at=80.0)
    assert not run.instants(" (R01|R11) ")
    assert len(run.instants("P16 web: all replicas have as many requests as they may .*: overload")) == 1
    assert 30.0 + 5.0 <= run.first("P16 ") <= 30.0 + 8.0


def test_b7_a_rolling_restart_and_a_drain_are_no_failures() -> None:
    run = played(at("restart", 10.0), at("drain", 20.0, 2), at("undrain", 25.0, 2), until_at=45.0)
    assert not run.instants(" (R01|R10|R11|R13) .*(warning)")
    assert run.failed == 0
    assert not run.broken


def test_b8_a_start_that_takes_most_of_a_minute_is_waited_for() -> None:
    run = played(boot_s=45.0, until_at=70.0)
    assert not run.reactions
    assert len(run.instants("P06 web/")) == 3
    assert not run.broken


@pytest.mark.parametrize("replicas", [2, 3])
def test_b10_bad_requests_to_all_replicas_accuse_none(replicas: int) -> None:
    run = played(at("B10", 10.0, length_s=15.0, choice=0.8), service=with_replicas(replicas), until_at=40.0)
    assert run.failed > 0
    assert not run.instants(" (R01|R11) ")
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
@pytest.mark.parametrize("replicas", [2, 5])
def test_b10_bad_requests_beside_slow_ones_accuse_none(replicas: int, phase_s: float) -> None:
    """Seed 701: who is busy with slow requests gets hardly any others but the repeats of bad ones."""
    bad = at("B10", 10.0 + phase_s, length_s=15.0, choice=0.8)
    run = played(bad, service=with_replicas(replicas), slow_share=0.02, until_at=40.0)
    assert run.failed > 0
    assert not run.instants(" (R01|R11) ")
    assert not run.broken


def test_b10_bad_requests_to_the_only_replica_do_not_convict_it_when_it_gets_peers() -> None:
    """Seed 7047: what was gathered without peers says nothing in comparison with them."""
    bad = at("B10", 10.0, length_s=15.0, choice=0.8)
    run = played(bad, at("scale", 14.0, choice=0.8), service=with_replicas(1), until_at=60.0)
    assert run.failed > 0
    assert len(run.world.kernel.living()) > 1
    assert not run.instants(" (R01|R11) ")
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_b11_a_single_error_is_nothing(phase_s: float) -> None:
    run = played(at("B11", 10.0 + phase_s, 2), until_at=20.0)
    assert not run.reactions
    assert not run.broken


def test_b12_a_failure_of_one_of_very_few_requests_is_nothing() -> None:
    run = played(at("B12", 10.0, length_s=30.0), until_at=50.0)
    assert not run.reactions
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_b14_a_backup_that_makes_everything_slower_accuses_none(phase_s: float) -> None:
    run = played(at("B14", 50.0 + phase_s, length_s=40.0), takes_s=0.02, until_at=110.0)
    assert not run.reactions
    assert run.failed == 0
    assert not run.broken


def test_nothing_happens_when_nothing_is_wrong() -> None:
    quiet = replace(WEB, replicas=6)
    run = played(service=quiet, until_at=120.0)
    assert not run.reactions
    assert len(run.lines) == 1 + 6 + 6 + 1
    assert run.failed == 0
    assert not run.broken
