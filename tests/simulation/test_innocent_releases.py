"""What makes both releases of a rollout ill, or stops whoever looks after it, throws no innocent release out."""

import pytest
from rolling import Rolling, turn_ill
from test_rollout_meanwhile import all_web

from perdure.model.check import Check, CheckKind
from perdure.model.deploy import DeployTest, Step, Strategy
from perdure.model.release import Phase
from perdure.sim.kernel import Runs

SLOW = (Step(0.1, 4.0), Step(0.5, 30.0))


def outage(rolling: Rolling, begins_at: float, ends_at: float) -> None:
    """Both releases answer their checks wrongly for a while, also those that start meanwhile."""
    made = rolling.world.daemon.machine.behaviour_of

    def behaves(slot: object, port: int) -> object:
        behaviour = made(slot, port)  # type: ignore[arg-type]
        behaviour.wrong_content = begins_at <= rolling.world.now < ends_at
        return behaviour

    object.__setattr__(rolling.world.daemon.machine, "behaviour_of", behaves)
    for at, whether in ((begins_at, True), (ends_at, False)):
        rolling.at(at, lambda whether=whether: all_web(rolling, lambda one: setattr(one, "wrong_content", whether)))  # type: ignore[misc]


def hang(rolling: Rolling, begins_at: float, length_s: float) -> None:
    """No replica answers for a while, nor does one that starts meanwhile."""

    def stuck() -> None:
        for runs in rolling.world.kernel.living():
            runs.deadlocked_at = rolling.world.now

    def goes_on() -> None:
        for runs in rolling.world.kernel.living():
            runs.deadlocked_at = None

    for turn in range(int(length_s / 0.5)):
        rolling.at(begins_at + turn * 0.5, stuck)
    rolling.at(begins_at + length_s, goes_on)


def kill(rolling: Rolling, release: str) -> None:
    living = list[Runs](rolling.world.kernel.living())
    for runs in living:
        if rolling.desired.release_of(runs.slot.number) == release:
            rolling.world.kernel.send(runs, "SIGKILL")


def done(rolling: Rolling) -> bool:
    return rolling.rollout.phase is Phase.DONE and set(rolling.releases) == {"web@2"}


@pytest.mark.parametrize(("first_at", "second_at"), [(22.0, 42.0), (22.4, 42.6), (22.7, 42.3)])
def test_a_dependency_that_hangs_twice_throws_nothing_out(first_at: float, second_at: float) -> None:
    """The new one is seen to hang a moment before the old one is."""
    rolling = Rolling(steps=(Step(0.1, 4.0), Step(0.5, 40.0)), bake_s=15.0, deadline_s=60.0, watch_s=20.0, warm_s=15.0)
    hang(rolling, first_at, 3.5)
    hang(rolling, second_at, 3.5)
    rolling.play(110.0)
    assert done(rolling) and not rolling.instants("L06")


@pytest.mark.parametrize("replicas", [1, 2])
def test_two_short_outages_throw_nothing_out_however_few_replicas_there_are(replicas: int) -> None:
    """The only replica of the old release cannot be isolated, which does not mean that it is well."""
    rolling = Rolling(replicas=replicas, steps=SLOW, deadline_s=60.0)
    outage(rolling, 22.0, 26.0)
    rolling.at(40.0, lambda: all_web(rolling, lambda one: setattr(one, "wrong_content", True)))
    rolling.at(44.0, lambda: all_web(rolling, lambda one: setattr(one, "wrong_content", False)))
    rolling.play(110.0)
    assert done(rolling) and not rolling.instants("L06")


def test_an_outage_while_the_last_old_replica_is_left_throws_no_rolling_release_out() -> None:
    rolling = Rolling(Strategy.ROLLING, replicas=4, deadline_s=40.0)
    outage(rolling, 27.0, 41.0)
    rolling.play(110.0)
    assert done(rolling)


@pytest.mark.parametrize("later_s", [0.0, 0.15, 1.0])
def test_what_ends_all_replicas_of_both_releases_throws_nothing_out(later_s: float) -> None:
    rolling = Rolling(bake_s=20.0)
    rolling.at(32.0, lambda: kill(rolling, "web@2"))
    rolling.at(32.0 + later_s, lambda: kill(rolling, "web@1"))
    rolling.play(110.0)
    assert done(rolling)


def test_a_test_that_fails_while_both_releases_are_ill_is_made_again() -> None:
    smoke = (DeployTest(check=Check(CheckKind.HTTP, "/smoke"), timeout_s=2.0, tries=3),)
    rolling = Rolling(tests=smoke, steps=(Step(0.1, 4.0), Step(0.5, 10.0)), deadline_s=60.0)
    outage(rolling, 13.0, 21.0)
    rolling.play(110.0)
    assert done(rolling)


@pytest.mark.parametrize("what", ["the store takes no write", "the daemon is stopped"])
def test_a_deadline_that_passes_while_nothing_could_be_done_is_none(what: str) -> None:
    rolling = Rolling(deadline_s=20.0)
    world = rolling.world
    if what == "the daemon is stopped":
        rolling.at(15.0, world.daemon.freeze)
        rolling.at(38.0, world.daemon.thaw)
    else:
        rolling.at(12.6, lambda: setattr(world.shelf, "failing_for_s", 0.01))
        rolling.at(36.0, lambda: setattr(world.shelf, "failing_for_s", None))
        rolling.at(36.0, world.shelf.wake)
    rolling.play(100.0)
    assert done(rolling)


def test_a_release_that_turns_bad_in_the_bake_is_found_after_a_restart_of_the_daemon() -> None:
    rolling = Rolling(bake_s=100.0, watch_s=60.0, steps=(Step(0.1, 4.0),))
    rolling.at(30.0, lambda: rolling.world.loop.outside(rolling.world.daemon.kill))
    rolling.at(31.0, lambda: rolling.world.loop.outside(rolling.world.daemon.start))
    rolling.at(50.0, lambda: turn_ill(rolling, "web@2", 0.15))
    rolling.play(110.0)
    assert len(rolling.instants("L08")) == len(rolling.instants("L12")) == 1


def test_who_goes_back_from_what_does_not_serve_gets_what_serves_at_once() -> None:
    """One of three replicas of the release before does not start."""
    rolling = Rolling(deadline_s=20.0, watch_s=5.0, warm_s=2.0)
    made = rolling.world.daemon.machine.behaviour_of

    def behaves(slot: object, port: int) -> object:
        behaviour = made(slot, port)  # type: ignore[arg-type]
        late, release = rolling.world.now > 55.0, rolling.desired.release_of(slot.number)  # type: ignore[attr-defined]
        if late and release == "web@2":
            behaviour.crash_after_s = 0.1
        if late and release == "web@1" and slot.number == 3:  # type: ignore[attr-defined]
            behaviour.boot_s = 1000.0
        return behaviour

    object.__setattr__(rolling.world.daemon.machine, "behaviour_of", behaves)
    rolling.at(58.0, lambda: kill(rolling, "web@2"))
    rolling.at(62.0, lambda: rolling.ask(lambda releasing: releasing.roll_back("web")))
    played = rolling.play(110.0)
    assert rolling.rollout.phase is Phase.DONE and rolling.releases == ["web@1"] * 3
    assert played.failed == 0
