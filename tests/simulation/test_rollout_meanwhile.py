"""What people and dependencies do while a release is let in, watched, or on its way back."""

from collections.abc import Callable
from typing import Any

import pytest
from rolling import Rolling, crashes, never_ready, turn_ill
from test_release_handovers import active, stands_by

from perdure.model import deploy
from perdure.model.release import Phase
from perdure.model.service import Standby


def all_web(rolling: Rolling, change: Callable[[Any], None]) -> None:
    """Change how every replica of `web` behaves."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    for slot in agent.world.services["web"].slots.values():
        runs = rolling.world.kernel.of(slot.replica.process) if slot.replica and slot.replica.process else None
        if runs is not None:
            change(runs.behaviour)


def test_a_rolling_release_that_turns_bad_is_compared_beside_the_old_one_and_taken_back() -> None:
    rolling = Rolling(deploy.Strategy.ROLLING, warm_s=20.0, watch_s=60.0)
    rolling.at(45.0, lambda: turn_ill(rolling, "web@2", 0.5))
    rolling.play(110.0)
    assert (rolling.rollout.phase, rolling.releases) == (Phase.ROLLED_BACK, ["web@1"] * 3)
    assert len(rolling.instants("L08")) == len(rolling.instants("L12")) == 1


def test_what_a_service_was_scaled_to_meanwhile_is_what_the_release_before_comes_back_with() -> None:
    rolling = Rolling(warm_s=40.0, watch_s=60.0)
    rolling.at(42.0, lambda: rolling.ask(lambda releasing: releasing.controller.scale("web", 6)))
    rolling.at(47.0, lambda: turn_ill(rolling, "web@2", 0.5))
    rolling.play()
    assert not rolling.problems
    assert (rolling.rollout.phase, rolling.releases) == (Phase.ROLLED_BACK, ["web@1"] * 6)


def test_a_restart_of_the_only_replica_by_command_is_no_fault_of_its_release() -> None:
    rolling = Rolling(replicas=1, warm_s=40.0, watch_s=60.0)
    rolling.ill = lambda behaviour: setattr(behaviour, "boot_s", 3.0)
    rolling.at(45.0, lambda: rolling.ask(lambda releasing: releasing.controller.restart("web")))
    rolling.play()
    assert not rolling.instants("L10") and rolling.desired.release == "web@2"


def test_replicas_that_somebody_drained_are_no_fault_of_their_release() -> None:
    rolling = Rolling(replicas=2, warm_s=40.0, watch_s=60.0)
    rolling.at(45.0, lambda: rolling.ask(lambda releasing: releasing.controller.drain("web")))
    rolling.at(60.0, lambda: rolling.ask(lambda releasing: releasing.controller.undrain("web")))
    rolling.play()
    assert not rolling.instants("L10") and rolling.desired.release == "web@2"


def test_a_second_rollback_by_command_does_not_undo_the_first() -> None:
    rolling = Rolling()
    for at in (60.0, 60.3):
        rolling.at(at, lambda: rolling.ask(lambda releasing: releasing.roll_back("web")))
    rolling.play()
    assert len(rolling.problems) == 1 and "web goes back to web@1 already" in rolling.problems[0]
    assert (rolling.rollout.phase, rolling.releases) == (Phase.DONE, ["web@1"] * 3)


def test_a_dependency_that_breaks_the_checks_of_both_releases_for_long_throws_nothing_out() -> None:
    rolling = Rolling(steps=(deploy.Step(0.1, 4.0), deploy.Step(0.5, 30.0)), deadline_s=12.0)

    def broken(whether: bool) -> None:
        all_web(rolling, lambda behaviour: setattr(behaviour, "wrong_content", whether))

    rolling.at(22.0, lambda: broken(True))
    rolling.at(40.0, lambda: broken(False))
    rolling.play(110.0)
    assert not rolling.instants("L10") and not rolling.instants("L14")
    assert (rolling.rollout.phase, rolling.releases) == (Phase.DONE, ["web@2"] * 3)


def test_a_drained_slot_beside_two_that_crash_does_not_keep_the_old_ones_from_taking_over() -> None:
    rolling = Rolling(watch_s=200.0, warm_s=25.0)

    def kill() -> None:
        rolling.ill = crashes
        end(rolling, {5, 6})

    rolling.at(42.0, lambda: rolling.ask(lambda releasing: releasing.controller.drain("web/4")))
    rolling.at(45.0, kill)
    played = rolling.play()
    assert not played.failed and (rolling.rollout.phase, rolling.releases) == (Phase.ROLLED_BACK, ["web@1"] * 3)


@pytest.mark.parametrize("port", [None, 9_000])
def test_a_release_that_is_gone_for_good_is_taken_back_also_when_nobody_stands_by_any_more(port: int | None) -> None:
    alone = {"port": port, "replicas": 1} if port is not None else {}
    rolling = Rolling(deploy.Strategy.ROLLING if port else deploy.Strategy.CANARY, watch_s=200.0, warm_s=5.0, **alone)

    def kill() -> None:
        rolling.ill = crashes
        end(rolling, {1, 4, 5, 6})

    rolling.at(45.0, kill)
    rolling.play(100.0)
    assert rolling.rollout.phase is Phase.ROLLED_BACK and {*rolling.releases} == {"web@1"}
    (over,) = rolling.instants("L10")
    assert 75.0 < over < 76.0, "an end or two may be chance"


def test_a_release_that_repairs_an_ill_one_and_never_gets_ready_has_a_deadline() -> None:
    rolling = Rolling(ill=never_ready, deadline_s=20.0)
    for second in range(16, 80):
        rolling.at(float(second), lambda: all_web(rolling, lambda one: setattr(one, "wrong_content", True)))
    rolling.play()
    assert rolling.instants("L14")


def end(rolling: Rolling, numbers: set[int]) -> None:
    """SIGKILL to what runs of web@2 in these slots."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    for number, slot in agent.world.services["web"].slots.items():
        replica = slot.replica
        if slot.live and number in numbers and replica is not None and replica.process and replica.release == "web@2":
            agent.executor.runner.signal(replica.process, "SIGKILL")


@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("what", ["crash", "restart", "promote"])
def test_the_release_before_stands_by_for_the_way_back_and_for_nothing_else(what: str, slots: int) -> None:
    rolling = Rolling(**stands_by(Standby.WARM, replicas=slots), watch_s=300.0, warm_s=200.0)
    commands: dict[str, Callable[[], None]] = {
        "crash": lambda: end(rolling, {2}),
        "restart": lambda: rolling.ask(lambda releasing: releasing.controller.restart("web")),
        "promote": lambda: rolling.ask(lambda releasing: releasing.controller.promote("web")),
    }
    releases: list[str] = []
    rolling.at(45.0, commands[what])
    rolling.at(70.0, lambda: releases.append(active(rolling)[1]))
    played = rolling.play()
    assert releases == ["web@2"] and not rolling.instants("L10") and not played.failed


def test_the_release_before_takes_over_when_somebody_drains_the_only_one_of_the_new() -> None:
    rolling = Rolling(**stands_by(Standby.WARM), watch_s=300.0, warm_s=200.0)
    found: list[tuple[str, str]] = []
    rolling.at(45.0, lambda: rolling.ask(lambda releasing: releasing.controller.drain("web/2")))
    rolling.at(70.0, lambda: found.append(active(rolling)))
    played = rolling.play()
    assert found == [("web/1", "web@1")] and not played.failed and not rolling.instants("L10")


def test_a_release_that_cannot_read_the_data_never_takes_over_by_itself() -> None:
    rolling = Rolling(**stands_by(Standby.WARM), watch_s=300.0, warm_s=200.0, breaks_data=True)
    releases: list[str] = []

    def kill() -> None:
        rolling.ill = crashes
        end(rolling, {2})

    rolling.at(45.0, kill)
    for at in (46.0, 50.0, 60.0, 70.0):
        rolling.at(at, lambda: releases.extend(living(rolling)))
    rolling.play()
    assert "web@1" not in releases


def living(rolling: Rolling) -> list[str]:
    """The releases of those that serve."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    slots = agent.world.services["web"].slots.values()
    return [slot.replica.release for slot in slots if slot.serves and slot.replica is not None]
