"""Faults and disturbances of the network between, by their names in the catalogue, at several phases."""

from dataclasses import replace

import pytest
from playing import WEB, at, played, with_replicas

from perdure.control import status
from perdure.model.check import Check, CheckKind
from perdure.sim.world import Watcher, World

PHASES_S = (0.0, 0.29, 0.5, 0.71, 0.93)
REACTED = " (R01|R11|R13) "
EXPORTING = replace(WEB, checks=(*WEB.checks, Check(CheckKind.HTTP, "/export", expect_bytes=50_000)))


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_f21_a_replica_that_is_cut_off_is_isolated_as_one_that_hangs_and_costs_no_request(phase_s: float) -> None:
    run = played(at("F21", 10.0 + phase_s, 2, length_s=15.0), until_at=45.0)
    assert run.first("R01 web/2") - (10.0 + phase_s) <= 3.05 + 0.3
    assert run.first("P06 web/2", 25.0) < 30.0
    assert not run.instants(REACTED + "web/[13]")
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_f22_a_replica_that_the_monitor_alone_does_not_reach_is_isolated_and_not_restarted(phase_s: float) -> None:
    run = played(at("F22", 10.0 + phase_s, 2, length_s=20.0, choice=0.0), until_at=45.0)
    assert run.first("R01 web/2") - (10.0 + phase_s) <= 3.05 + 0.3
    assert not run.instants(" R11 ")
    assert run.first("R02 web/2") < 30.0 + phase_s + 5.0
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_f22_a_replica_that_haproxy_alone_does_not_reach_is_isolated_for_its_failed_tries(phase_s: float) -> None:
    run = played(at("F22", 10.0 + phase_s, 2, length_s=20.0, choice=0.9), until_at=60.0)
    assert run.first("R01 web/2: is isolated: failed") - (10.0 + phase_s) <= 10.0
    assert not run.instants(REACTED + "web/[13]")
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("seed", range(1, 6))
def test_f23_a_third_of_the_packets_lost_to_one_replica_is_noticed_and_blames_no_other(seed: int) -> None:
    run = played(at("F23", 45.0, 2, length_s=30.0, choice=1.0), until_at=100.0, seed=seed)
    assert run.first("R01 web/2") - 45.0 <= 20.0
    assert not run.instants(REACTED + "web/[13]")
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("seed", range(1, 4))
def test_f23_a_twentieth_of_the_packets_lost_breaks_nothing(seed: int) -> None:
    run = played(at("F23", 45.0, 2, length_s=60.0, choice=0.0), until_at=120.0, seed=seed)
    assert not run.instants(REACTED + "web/[13]")
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_f24_a_replica_whose_large_answers_hang_is_isolated_by_the_check_that_asks_for_one(phase_s: float) -> None:
    run = played(at("F24", 10.0 + phase_s, 2, length_s=20.0), service=EXPORTING, until_at=60.0)
    assert run.first("R01 web/2: is isolated: http /export got no answer") - (10.0 + phase_s) <= 3.05 + 0.3
    assert not run.instants(REACTED + "web/[13]")
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("rate", [0.5, 40.0])
def test_b3_a_monitor_that_reaches_nobody_blames_itself_once(replicas: int, rate: float, phase_s: float) -> None:
    step = at("B3", 10.0 + phase_s, length_s=20.0)
    run = played(step, service=with_replicas(replicas), rate=rate, until_at=50.0)
    assert not run.reactions
    assert len(run.instants("R16 web: ")) == 1
    assert not run.instants("R05 ")
    assert run.failed == 0
    assert not run.broken


def test_b3_is_shown_as_long_as_it_lasts_and_not_longer() -> None:
    shown: dict[bool, set[str]] = {True: set(), False: set()}

    class Look(Watcher):
        def sampled(self, world: World) -> None:
            agent = world.daemon.agent
            if agent is not None and (15.0 < world.now < 30.0 or world.now > 33.0):
                explained = status.explain(agent.world.services["web"], world.now, None)
                assert explained["sentence"] in explained["notes"] or world.now > 33.0
                shown[world.now < 30.0].add(explained["sentence"])

    played(at("B3", 10.0, length_s=20.0), until_at=45.0, watchers=[Look()])
    assert {sentence.partition(" of them: ")[2][:14] for sentence in shown[True]} == {"Perdure's path"}
    assert shown[False] == {"3 of 3 replicas serve"}


def test_b3_a_replica_that_really_hangs_meanwhile_is_restarted_and_no_other() -> None:
    run = played(at("B3", 10.0, length_s=20.0), at("F3", 15.0, 2, choice=0.7), until_at=60.0)
    assert run.first("R11 web/2") < 30.0
    assert not run.instants(REACTED + "web/[13]")
    assert not run.broken


def test_b9_one_packet_in_a_hundred_lost_to_everybody_is_nothing() -> None:
    run = played(at("B9", 10.0, length_s=300.0), until_at=330.0)
    assert not run.reactions
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("length_s", [1.9, 2.5, 3.0])
def test_b13_a_network_that_finds_new_paths_for_three_seconds_blames_nobody(
    length_s: float, replicas: int, phase_s: float
) -> None:
    run = played(at("B13", 10.0 + phase_s, length_s=length_s), service=with_replicas(replicas), until_at=30.0)
    assert not run.instants(REACTED)
    assert run.failed == 0
    assert not run.broken


def test_b3_a_request_that_waits_since_before_accuses_nobody_whom_the_monitor_does_not_hear() -> None:
    """Seed 9017: the answer to what clients ask was awaited over the path that was lost."""
    run = played(at("F24", 28.0, 2, length_s=8.0), at("B3", 31.0, length_s=7.0), until_at=60.0)
    assert not run.instants(REACTED)
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_b3_a_daemon_that_starts_deaf_accuses_nobody_when_it_hears_the_first(phase_s: float) -> None:
    """Seeds 9120 and 9122: it had never heard anybody, so it did not know that it had been deaf."""
    run = played(
        at("kill daemon", 10.0, length_s=2.0), at("B3", 11.0 + phase_s, length_s=6.0), at("F1", 14.0, 1), until_at=40.0
    )
    assert not run.instants(REACTED)
    assert not run.broken


@pytest.mark.parametrize("phase_s", PHASES_S)
@pytest.mark.parametrize("interval_s", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("length_s", [2.1, 2.4, 3.0, 6.0])
def test_b3_with_checks_of_several_intervals_accuses_nobody(length_s: float, interval_s: float, phase_s: float) -> None:
    """Seed 9191: the first one that was heard again answered a check that is asked every two seconds."""
    checks = (replace(WEB.checks[0], interval_s=interval_s), Check(CheckKind.HTTP, "/orders", interval_s=2.0))
    step = at("B3", 10.0 + phase_s, length_s=length_s)
    run = played(step, service=replace(WEB, checks=checks), until_at=25.0)
    assert not run.instants(REACTED)
    assert not run.broken
