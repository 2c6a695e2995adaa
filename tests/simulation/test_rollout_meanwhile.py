"""What people and dependencies do while a release is let in, watched, or on its way back."""

from collections.abc import Callable
from typing import Any

from rolling import Rolling, turn_ill

from perdure.model import deploy
from perdure.model.release import Phase


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
