"""Rollouts in the simulated world: a good release gets everything, a bad one nothing, whoever dies in whatever step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playing import WEB
from rolling import QUICK, Rolling, crashes, errs, never_ready, turn_ill

from perdure.control import persist
from perdure.control.releasing import Wishes
from perdure.model import deploy
from perdure.model.release import Phase
from perdure.model.service import Address, Deployment
from perdure.model.standing import Desired
from perdure.sim.world import PORTS


@pytest.mark.parametrize("strategy", list(deploy.Strategy))
def test_a_good_release_gets_everything_and_no_request_fails(strategy: deploy.Strategy) -> None:
    rolling = Rolling(strategy)
    played = rolling.play()
    assert not played.broken and not rolling.problems and not played.failed
    assert (rolling.rollout.phase, rolling.desired.release) == (Phase.DONE, "web@2")
    assert rolling.releases == ["web@2"] * 3
    assert not played.instants(r" R01 | R11 ")


@pytest.mark.parametrize("strategy", list(deploy.Strategy))
@pytest.mark.parametrize("ill", [errs(1.0), errs(0.3), crashes, never_ready])
def test_a_bad_release_is_thrown_out_and_the_one_before_serves(
    strategy: deploy.Strategy, ill: Callable[[Any], None]
) -> None:
    if strategy is deploy.Strategy.BLUE_GREEN and ill not in (crashes, never_ready):
        pytest.skip("it is compared only after it has everything: see the next test")
    rolling = Rolling(strategy, ill)
    played = rolling.play()
    assert not played.broken and not rolling.problems
    assert (rolling.rollout.phase, rolling.desired.release) == (Phase.ROLLED_BACK, "web@1")
    assert rolling.rollout.ended_for and rolling.releases == ["web@1"] * 3


@pytest.mark.parametrize("fuse", range(0, 120, 9))
@pytest.mark.parametrize("ill", [None, errs(1.0)])
def test_a_daemon_that_dies_at_any_step_leaves_one_release_on_all_replicas(
    fuse: int, ill: Callable[[Any], None] | None
) -> None:
    rolling = Rolling(fuse=fuse, ill=ill)
    played = rolling.play(130.0)
    assert not played.broken, played.lines
    assert len(set(rolling.releases)) == 1 and len(rolling.releases) == 3
    if rolling.desired.rollout is None:
        assert rolling.releases[0] == "web@1"
    else:
        assert rolling.rollout.phase in (Phase.DONE, Phase.ROLLED_BACK)
        assert rolling.releases[0] == ("web@2" if rolling.rollout.phase is Phase.DONE else "web@1")
    if ill is None:
        assert not played.failed and rolling.releases[0] in ("web@1", "web@2")
    else:
        assert rolling.releases[0] == "web@1"


@pytest.mark.parametrize("warm_s", [40.0, 0.0])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_release_that_turns_bad_after_its_end_is_taken_back(warm_s: float, share: float) -> None:
    rolling = Rolling(warm_s=warm_s, watch_s=60.0)
    rolling.at(45.0, lambda: turn_ill(rolling, "web@2", share))
    played = rolling.play()
    assert (rolling.rollout.phase, rolling.releases) == (Phase.ROLLED_BACK, ["web@1"] * 3), played.lines[-40:]
    assert rolling.instants("L08") and rolling.instants("L12") and rolling.instants("L17")


def test_a_release_that_turns_bad_in_the_bake_is_compared_half_and_half_and_taken_back() -> None:
    rolling = Rolling(bake_s=40.0, watch_s=60.0)
    rolling.at(45.0, lambda: turn_ill(rolling, "web@2", 0.5))
    rolling.play()
    assert (rolling.rollout.phase, rolling.releases) == (Phase.ROLLED_BACK, ["web@1"] * 3)


def test_what_both_releases_show_rolls_nothing_back() -> None:
    rolling = Rolling()
    for at, share in ((20.0, 0.6), (28.0, 0.0)):
        rolling.at(at, lambda share=share: turn_ill(rolling, "", share))  # type: ignore[misc]
    rolling.play()
    assert (rolling.rollout.phase, rolling.releases) == (Phase.DONE, ["web@2"] * 3)


def test_what_breaks_after_the_end_without_the_release_is_not_its_fault() -> None:
    rolling = Rolling(warm_s=40.0, watch_s=60.0)

    def dependency(share: float) -> None:
        rolling.ill = errs(share)
        turn_ill(rolling, "", share)

    rolling.at(45.0, lambda: dependency(0.6))
    rolling.at(60.0, lambda: dependency(0.0))
    rolling.play()
    assert rolling.rollout.phase is not Phase.ROLLED_BACK and set(rolling.releases) == {"web@2"} | set(rolling.releases)
    assert rolling.desired.release == "web@2"


def test_a_rollout_that_is_aborted_leaves_the_release_before() -> None:
    rolling = Rolling()
    rolling.at(19.0, lambda: rolling.ask(lambda releasing: releasing.abort("web")))
    played = rolling.play()
    assert not played.broken and not played.failed and not rolling.problems
    assert (rolling.rollout.phase, rolling.releases) == (Phase.ABORTED, ["web@1"] * 3)


def test_a_rollback_by_command_is_at_once_while_the_old_replicas_stand_by() -> None:
    rolling = Rolling(warm_s=40.0, watch_s=60.0)
    rolling.at(45.0, lambda: rolling.ask(lambda releasing: releasing.roll_back("web")))
    played = rolling.play()
    assert not played.broken and not played.failed and not rolling.problems
    assert (rolling.rollout.phase, rolling.releases) == (Phase.ROLLED_BACK, ["web@1"] * 3)
    assert not rolling.rollout.failed, "who commanded it has seen it"
    (begun,), (over,) = rolling.instants("C12"), rolling.instants("L18")
    assert over - begun < 1.0


def test_a_rollback_to_what_does_not_run_any_more_starts_it_first() -> None:
    rolling = Rolling()
    rolling.at(60.0, lambda: rolling.ask(lambda releasing: releasing.roll_back("web")))
    played = rolling.play()
    assert not played.broken and not played.failed and not rolling.problems
    assert (rolling.rollout.phase, rolling.rollout.back) == (Phase.DONE, True)
    assert len(rolling.instants("C11")) == 1
    assert rolling.releases == ["web@1"] * 3


def test_somebody_who_wants_no_more_waiting_gets_the_release_sooner() -> None:
    waits, hurries = Rolling(), Rolling()
    hurries.at(14.0, lambda: hurries.ask(lambda releasing: releasing.promote("web")))
    for rolling in (waits, hurries):
        assert not rolling.play().failed
    assert hurries.instants("C13") and hurries.instants("L07")[0] < waits.instants("L07")[0] - 8.0


def test_what_was_rolled_back_is_refused_until_it_changes() -> None:
    rolling = Rolling(ill=errs(1.0))
    rolling.at(40.0, lambda: rolling.ask(lambda releasing: releasing.deploy(rolling.world.services, ["web"], Wishes())))
    rolling.play()
    assert len(rolling.problems) == 1 and "the same was rolled back as web@2" in rolling.problems[0]


def test_going_back_to_what_was_thrown_out_takes_a_second_word() -> None:
    rolling = Rolling(ill=errs(1.0))
    rolling.at(40.0, lambda: rolling.ask(lambda releasing: releasing.roll_back("web", "web@2")))
    rolling.at(41.0, lambda: rolling.ask(lambda releasing: releasing.roll_back("web", "web@2", force=True)))
    rolling.play()
    assert len(rolling.problems) == 1 and "web@2 was rolled back itself: " in rolling.problems[0]
    assert len(rolling.instants("C11")) == 1 and rolling.rollout.new.release == "web@2"


def test_what_was_taken_back_by_command_may_come_again_and_that_is_said() -> None:
    rolling = Rolling()
    rolling.at(19.0, lambda: rolling.ask(lambda releasing: releasing.abort("web")))
    rolling.at(30.0, lambda: rolling.ask(lambda releasing: releasing.deploy(rolling.world.services, ["web"], Wishes())))
    rolling.play()
    told = [one.sentence for one in rolling.world.shelf.events if one.rule == "C10"]
    assert not rolling.problems
    assert told[1] == "web@3 is deployed (canary), after web@1; the same was taken back by command as web@2"


def test_a_rollback_is_red_until_somebody_acknowledges_it() -> None:
    rolling = Rolling(ill=errs(1.0))
    red: list[bool] = []
    rolling.at(40.0, lambda: red.append(rolling.rollout.failed))
    rolling.at(41.0, lambda: rolling.ask(lambda releasing: releasing.acknowledge("web")))
    rolling.play()
    assert not rolling.problems and red == [True] and not rolling.rollout.failed and rolling.instants("C14")


def test_a_second_deploy_is_refused_with_the_name_of_the_first() -> None:
    rolling = Rolling()
    rolling.at(16.0, lambda: rolling.ask(lambda releasing: releasing.deploy(rolling.world.services, ["web"], Wishes())))
    rolling.play()
    assert len(rolling.problems) == 1 and "the rollout of web@2 is under way" in rolling.problems[0]
    assert len(rolling.instants("C10")) == 1
    assert rolling.rollout.phase is Phase.DONE


def test_what_may_be_gone_back_to_is_kept_and_a_service_that_is_gone_leaves_no_release() -> None:
    rolling = Rolling(keep=1)
    held: list[list[str]] = []

    def releases() -> list[str]:
        return sorted(key for key in rolling.world.shelf.records if key.startswith(persist.RECORDS))

    rolling.at(30.0, lambda: held.append(releases()))
    rolling.at(70.0, lambda: held.append(releases()))
    rolling.at(71.0, lambda: rolling.ask(lambda releasing: releasing.controller.apply(Deployment((), PORTS))))
    rolling.play()
    assert held == [["releases/web/00000001", "releases/web/00000002"]] * 2
    assert releases() == []


API = replace(WEB, name="api", listen=Address("127.0.0.1", 8081), deploy=replace(QUICK, steps=QUICK.steps[:1]))


def of_api(rolling: Rolling) -> Desired:
    return persist.read_desired(rolling.world.shelf.records[persist.service_key("api")].value)


def test_services_that_are_deployed_together_wait_for_each_other() -> None:
    rolling = Rolling(others=[API])
    played = rolling.play()
    assert not played.broken and not played.failed and not rolling.problems
    assert rolling.releases == ["api@2"] * 3 + ["web@2"] * 3
    assert rolling.instants("L07")[0] >= rolling.instants("L05")[-1], "the quicker one waited in its last step"


def test_they_go_back_together_and_the_innocent_one_may_come_again() -> None:
    rolling = Rolling(ill=errs(1.0), others=[API])
    rolling.at(50.0, lambda: rolling.ask(lambda releasing: releasing.deploy(rolling.world.services, ["api"], Wishes())))
    rolling.play()
    assert not rolling.problems and len(rolling.instants("L13")) == 1
    assert rolling.releases == ["api@3"] * 3 + ["web@1"] * 3
    assert (rolling.rollout.phase, of_api(rolling).release) == (Phase.ROLLED_BACK, "api@3")


def test_after_a_start_of_the_machine_the_present_step_begins_anew_and_goes_on() -> None:
    rolling = Rolling()

    def of_another_boot(desired: Desired) -> Desired:
        assert desired.rollout is not None
        return replace(desired, rollout=replace(desired.rollout, phase_at=1e6, progress_at=1e6))

    rolling.at(
        16.0, lambda: rolling.ask(lambda desk: desk.controller.change("C13", "web", None, of_another_boot, "a reboot"))
    )
    assert not rolling.play().failed
    assert len(rolling.instants("L21")) == 1 and rolling.rollout.phase is Phase.DONE
