"""Faults of the catalogue, by their names there, in virtual time: what Perdure does, and how soon."""

from dataclasses import replace

import pytest
from playing import at, played, with_replicas

from perdure.control import status
from perdure.model.check import Check, CheckKind
from perdure.sim.world import Watcher, World


def test_f1_a_crash_is_out_of_traffic_within_half_a_second_and_costs_no_request() -> None:
    run = played(at("F1", 10.0, 2))
    assert run.first("R10 web/2") - 10.0 <= 0.5
    assert run.first("P06 web/2", 10.0) - 10.0 <= 0.5 + 0.13 + 0.5
    assert run.failed == 0
    assert not run.broken


def test_f2_the_back_off_doubles_and_never_ends() -> None:
    run = played(at("F2", 10.0, 1, length_s=60.0), until_at=100.0)
    gaps = [run.first("P01 web/1", ended_at) - ended_at for ended_at in run.instants("R10 web/1") if ended_at < 69.0]
    assert len(gaps) >= 8
    for number, gap in enumerate(gaps[:8]):
        assert 0.75 * 0.1 * 2**number - 0.01 <= gap <= 1.25 * 0.1 * 2**number + 0.05
    assert run.first("P06 web/1", 70.0) < 100.0
    assert not run.broken


def test_f2_a_crash_loop_is_shown_as_long_as_it_lasts() -> None:
    states: set[str] = set()

    class Look(Watcher):
        def sampled(self, world: World) -> None:
            if world.daemon.agent is not None and 15.0 < world.now < 40.0:
                states.add(status.services(world.daemon.agent.world, world.now)["web"]["state"])

    played(at("F2", 10.0, 1, length_s=30.0), until_at=40.0, watchers=[Look()])
    assert states == {"crash-looping"}


@pytest.mark.parametrize("choice", [0.0, 0.7, 0.9], ids=["stopped", "deadlocked", "deadlocked and stubborn"])
@pytest.mark.parametrize("phase_s", [0.0, 0.31, 0.77])
def test_f3_a_hang_is_isolated_within_three_seconds_and_costs_no_request(choice: float, phase_s: float) -> None:
    run = played(at("F3", 10.0 + phase_s, 3, choice=choice))
    assert run.first("R01 web/3") - (10.0 + phase_s) <= 3.0 + 0.01 + (0.3 if choice else 0.0)
    assert run.first("P06 web/3", 11.0) < 16.0
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("rate", [0.0, 40.0])
@pytest.mark.parametrize("replicas", [1, 2])
def test_f3_a_hang_of_all_that_only_a_command_can_see_is_repaired(replicas: int, rate: float) -> None:
    """HAProxy connects to who hangs, so it is no witness that they answer."""
    asked = replace(with_replicas(replicas), checks=(Check(CheckKind.COMMAND, command=("ask",)),))
    steps = [at("F3", 10.0, number, choice=0.7) for number in range(1, replicas + 1)]
    run = played(*steps, service=asked, rate=rate, until_at=40.0)
    assert run.first("R11 web/1") - 10.0 <= 6.0 + 5.0 * (replicas - 1)
    assert not run.instants(" R16 ")
    assert not run.broken


def test_f8_a_fifth_of_errors_is_isolated_within_ten_seconds() -> None:
    run = played(at("F8", 10.0, 2, length_s=30.0), rate=60.0, until_at=45.0)
    assert run.first("R01 web/2") - 10.0 <= 10.0
    assert not run.broken


def test_f10_wrong_content_is_isolated_and_then_restarted() -> None:
    run = played(at("F10", 10.0, 2, length_s=60.0), until_at=60.0)
    assert run.first("R01 web/2") - 10.0 <= 2.0
    assert run.first("R11 web/2") - 10.0 <= 15.0
    assert not run.broken


@pytest.mark.parametrize("replicas", [2, 3, 6])
@pytest.mark.parametrize("phase_s", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_f28_what_all_share_is_told_once_and_nobody_is_isolated_or_restarted(replicas: int, phase_s: float) -> None:
    run = played(at("F28", 10.0 + phase_s, length_s=10.0), service=with_replicas(replicas), until_at=35.0)
    assert len(run.instants("R05 web: ")) == 1
    assert not run.reactions
    assert not run.broken


@pytest.mark.parametrize("choice", [0.0, 0.5, 0.8, 0.95], ids=["killed", "hung", "all in maint", "all ready"])
def test_f40_haproxy_is_right_again_soon(choice: float) -> None:
    run = played(at("F40", 10.0, choice=choice), until_at=20.0)
    assert not run.broken
    assert not run.reactions


def test_f40_a_server_that_is_opened_by_hand_to_a_stranger_is_closed_within_half_a_second() -> None:
    """Seed 30239: a stranger has the old port of a replica that crashed, and somebody opens its old server (every
    second one is).
    """
    wrong = []
    for slot in (1, 2, 3):
        crash, theft = at("F1", 9.0, slot), at("F43", 10.0, slot, choice=0.9)
        run = played(crash, theft, at("F40", 10.6, choice=0.95), until_at=40.0)
        wrong.append(run.world.clients.tallies["web"].wrong)
        assert not run.broken
    assert 0 < max(wrong) <= 7, "a third of 40 requests a second, for half a second"


def test_f41_a_locked_store_changes_nothing_for_clients_and_is_told() -> None:
    run = played(at("F41", 10.0, length_s=15.0), at("F1", 12.0, 1), at("F3", 15.0, 2), until_at=60.0)
    assert len(run.instants("A08 daemon")) == 1
    assert len(run.instants("A09 daemon")) == 1
    assert run.first("P06 web/1", 12.0) < 14.0
    assert run.failed == 0
    assert not run.broken


@pytest.mark.parametrize("choice", [0.0, 0.6, 0.9], ids=["dies and leaves children", "hangs", "is only stubborn"])
def test_f42_the_whole_group_is_gone_before_the_next_one_starts(choice: float) -> None:
    run = played(at("F42", 10.0, 1, choice=choice), at("restart slot", 20.0, 1), until_at=60.0)
    assert run.first("P06 web/1", 20.0) < 30.0
    assert not run.broken


def test_f43_a_taken_port_is_not_mistaken_for_a_healthy_replica() -> None:
    run = played(at("F43", 10.0, 1, choice=0.9), until_at=40.0)
    assert len(run.instants("somebody takes port")) == 3
    assert run.world.clients.tallies["web"].wrong == 0
    assert not run.broken


def test_a_stopped_replica_that_still_starts_is_ended_long_before_its_start_deadline() -> None:
    run = played(at("F1", 10.0, 1), at("F3", 12.0, 1), boot_s=8.0, until_at=60.0)
    assert run.first("R14 web/1") - 12.0 <= 3.0
    assert not run.broken


def test_a_daemon_that_starts_again_keeps_requests_in_flight_on_a_hung_replica() -> None:
    run = played(at("F3", 15.0, 1, choice=0.7), at("kill daemon", 15.5, length_s=1.0), until_at=40.0, boot_s=0.5)
    assert run.failed == 0
    assert not run.broken


def test_a_scaled_service_stays_scaled_when_the_daemon_is_killed() -> None:
    run = played(at("scale", 10.0, choice=0.99), at("kill daemon", 15.0, length_s=2.0), until_at=40.0)
    assert len(run.world.kernel.living()) == 6
    assert not run.broken


def test_a_run_that_nobody_recorded_gets_no_requests_and_no_twin() -> None:
    run = played(
        at("F41", 9.0, length_s=6.0),
        at("F43", 10.0, 1, choice=0.0),
        at("kill daemon", 14.0, length_s=4.0),
        until_at=40.0,
    )
    assert run.world.clients.tallies["web"].wrong == 0
    assert not run.broken


def test_a_power_cut_takes_back_no_acknowledged_command() -> None:
    run = played(at("scale", 10.0, choice=0.75), at("power cut", 10.2, length_s=3.0), until_at=40.0)
    assert len(run.world.kernel.living()) == 5
    assert not run.broken


def test_the_daemon_killed_between_any_two_acts_leaves_no_second_process() -> None:
    for act in range(1, 20):
        steps = (at("restart", 10.0), at("F1", 10.1, 2), at("kill daemon", 10.0, length_s=2.0, choice=0.5 + act / 40.0))
        run = played(*steps, until_at=50.0, seed=act)
        assert not run.broken, run.broken
