"""Rollouts in the simulated world: a good release gets everything, a bad one nothing, whoever dies in whatever step."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from playing import WEB, Played

from perdure.control import persist
from perdure.control.assemble import Desk
from perdure.control.releasing import Releasing, Wishes
from perdure.model import deploy
from perdure.model.errors import UnavailableError
from perdure.model.release import Phase, Rollout
from perdure.model.replica import Slot
from perdure.model.service import Address, Deployment, Mode, Role, Service, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.model.standing import Desired
from perdure.sim import plan, run
from perdure.sim.checkers import Converges, OneProcessPerSlot
from perdure.sim.checkers_traffic import RequestsSurvive
from perdure.sim.world import PORTS

ASKED_AT, UNTIL_AT = 12.0, 90.0
QUICK = deploy.Deploy(
    steps=(deploy.Step(0.1, 4.0), deploy.Step(0.5, 4.0)),
    bake_s=4.0,
    stable_s=1.0,
    exposure=20,
    watch_s=15.0,
    warm_s=10.0,
    deadline_s=20.0,
)


class Rolling:
    """A world in which a new release is deployed; `ill`: how it behaves, `fuse`: after so many acts the daemon dies."""

    def __init__(
        self,
        strategy: deploy.Strategy = deploy.Strategy.CANARY,
        ill: Callable[[Any], None] | None = None,
        fuse: int | None = None,
        others: Sequence[Service] = (),
        **changed: Any,
    ) -> None:
        self.problems: list[str] = []
        self.releases: Sequence[str] = ()
        """Of the replicas that live in the end."""
        self.fuse, self.ill = fuse, ill
        of = {name: changed.pop(name) for name in list(changed) if name in Service.__dataclass_fields__}
        self.service = replace(WEB, deploy=replace(QUICK, strategy=strategy, **changed), **of)
        services = (self.service, *others)
        boot_s = {one.name: 0.3 for one in services}
        traffic = {one.name: plan.Traffic(40.0, 0.0, 0.0) for one in services}
        drawn = plan.Plan(services, boot_s, traffic, (), 70.0)
        self.world = run.prepared(1, drawn, [OneProcessPerSlot(), Converges(), RequestsSurvive()])
        self._behaviour = self.world.daemon.machine.behaviour_of
        object.__setattr__(self.world.daemon.machine, "behaviour_of", self._behaves)
        self.at(ASKED_AT, self.deploy)

    def at(self, instant: float, do: Callable[[], None]) -> None:
        self.world.loop.call_at(instant, do)

    def deploy(self) -> None:
        life = self.world.daemon.life
        assert life is not None
        life.fuse = self.fuse
        for name, service in self.world.services.items():
            self.world.services[name] = replace(service, environment=(("EDITED", "1"),))
        self.ask(lambda releasing: releasing.deploy(self.world.services, list(self.world.services), Wishes()))
        self.at(self.world.now + 45.0, lambda: setattr(life, "fuse", None))
        for later_s in range(2, 60, 2):
            self.at(self.world.now + later_s, lambda: self.world.loop.outside(self.world.daemon.start))

    def ask(self, what: Callable[[Releasing], Awaitable[object]]) -> None:
        async def asked(desk: Desk) -> object:
            return await what(desk.releasing)

        self.world.daemon.ask(asked, lambda problem: self.problems.append(problem) if problem else None)

    def play(self, until_at: float = UNTIL_AT) -> Played:
        run.let_pass(self.world, until_at)
        self.releases = self._living()
        run.finish(self.world)
        return Played(self.world)

    @property
    def desired(self) -> Desired:
        return persist.read_desired(self.world.shelf.records[persist.service_key("web")].value)

    @property
    def rollout(self) -> Rollout:
        assert self.desired.rollout is not None
        return self.desired.rollout

    def instants(self, rule: str) -> list[float]:
        """When decisions of this rule were written, in virtual seconds."""
        return [one.wall_at - self.world.shelf.events[0].wall_at for one in self.world.shelf.events if one.rule == rule]

    def _living(self) -> Sequence[str]:
        agent = self.world.daemon.agent
        assert agent is not None
        slots = [slot for _, slot in agent.world.slots()]
        return sorted(slot.replica.release for slot in slots if slot.live and slot.replica is not None)

    def _behaves(self, slot: Slot, port: int) -> Any:
        made = self._behaviour(slot, port)
        desired = self.desired
        if self.ill is not None and slot.service == "web" and desired.release_of(slot.number) != "web@1":
            self.ill(made)
        return made


@pytest.mark.parametrize("strategy", list(deploy.Strategy))
def test_a_good_release_gets_everything_and_no_request_fails(strategy: deploy.Strategy) -> None:
    rolling = Rolling(strategy)
    played = rolling.play()
    assert not played.broken and not rolling.problems and not played.failed
    assert (rolling.rollout.phase, rolling.desired.release) == (Phase.DONE, "web@2")
    assert rolling.releases == ["web@2"] * 3
    assert not played.instants(r" R01 | R11 ")


def errs(share: float) -> Callable[[Any], None]:
    return lambda behaviour: setattr(behaviour, "error_share", share)


def crashes(behaviour: Any) -> None:
    behaviour.crash_after_s = 0.1


def never_ready(behaviour: Any) -> None:
    behaviour.boot_s = 1000.0


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


def turn_ill(rolling: Rolling, release: str, share: float) -> None:
    """From now on the replicas of a release (or of all) fail this share of their requests."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    for slot in agent.world.services["web"].slots.values():
        runs = rolling.world.kernel.of(slot.replica.process) if slot.replica and slot.replica.process else None
        if runs is not None and slot.replica is not None and release in ("", slot.replica.release):
            runs.behaviour.error_share = share


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


def stands_by(standby: Standby, **changed: Any) -> dict[str, Any]:
    """What makes the service an active-passive one with two slots."""
    role = Role(http="/role") if standby is Standby.WARM else None
    keeping = Keeping(StateKind.SQLITE, "notes.db", every_s=2.0)
    return {
        "strategy": deploy.Strategy.ROLLING,
        "mode": Mode.ACTIVE_PASSIVE,
        "standby": standby,
        "role": role,
        "state": keeping,
        "replicas": 2,
        **changed,
    }


def active(rolling: Rolling) -> tuple[str, str]:
    """The slot and the release of the active one."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    (slot,) = [one for one in agent.world.services["web"].slots.values() if one.serves]
    assert slot.replica is not None
    return str(slot.slot), slot.replica.release


def marks(rolling: Rolling) -> list[str]:
    kept = rolling.world.daemon.machine.states.kept["web"]
    return sorted(word for one in kept for word in one.marks if not word.startswith("healthy"))


@pytest.mark.parametrize("standby", list(Standby))
def test_a_release_of_an_active_passive_service_takes_over_by_a_handover(standby: Standby) -> None:
    rolling = Rolling(**stands_by(standby))
    seen: list[tuple[str, str]] = []
    rolling.at(11.0, lambda: seen.append(active(rolling)))
    rolling.at(40.0, lambda: seen.append(active(rolling)))
    played = rolling.play()
    assert not played.broken and not rolling.problems and not played.failed
    assert seen == [("web/1", "web@1"), ("web/2", "web@2")]
    assert rolling.rollout.phase is Phase.DONE and set(rolling.releases) == {"web@2"}
    assert marks(rolling) == ["after-web-2", "before-web-2"]


def test_a_marker_that_cannot_be_set_is_told_and_stops_nothing() -> None:
    rolling = Rolling(**stands_by(Standby.WARM))

    async def full(service: str, word: str) -> object:
        raise UnavailableError("no room is left")

    def spoil() -> None:
        assert rolling.world.daemon.desk is not None
        rolling.world.daemon.desk.rollouts.mark = full

    rolling.at(11.0, spoil)
    rolling.play()
    assert rolling.rollout.phase is Phase.DONE and rolling.instants("L05")
    told = [one.sentence for one in rolling.world.shelf.events if one.rule == "L19"]
    assert told[0] == "no marker before-web-2 could be set: no room is left"


@pytest.mark.parametrize("standby", list(Standby))
def test_a_bad_release_of_an_active_passive_service_hands_back(standby: Standby) -> None:
    rolling = Rolling(**stands_by(standby), watch_s=60.0, warm_s=60.0)
    rolling.at(40.0, lambda: turn_ill(rolling, "web@2", 0.6))
    seen: list[tuple[str, str]] = []
    rolling.at(70.0, lambda: seen.append(active(rolling)))
    played = rolling.play()
    assert [one[1] for one in seen] == ["web@1"]
    assert {one.checker for one in played.world.violations} <= {"RequestsSurvive"}  # it failed them, after all
    assert rolling.rollout.phase is Phase.ROLLED_BACK and set(rolling.releases) == {"web@1"}


@pytest.mark.parametrize("standby", list(Standby))
def test_a_release_that_does_not_start_leaves_the_active_one_or_comes_back_to_it(standby: Standby) -> None:
    rolling = Rolling(ill=crashes, **stands_by(standby))
    played = rolling.play()
    assert rolling.rollout.phase is Phase.ROLLED_BACK and set(rolling.releases) == {"web@1"}
    assert not played.failed, "requests wait"


def test_code_is_not_rolled_back_alone_when_the_release_before_cannot_read_its_data() -> None:
    rolling = Rolling(**stands_by(Standby.WARM), watch_s=60.0, warm_s=60.0, breaks_data=True)
    rolling.at(40.0, lambda: turn_ill(rolling, "web@2", 0.6))
    rolling.at(52.0, lambda: turn_ill(rolling, "web@2", 0.0))
    seen: list[tuple[str, str]] = []
    rolling.at(60.0, lambda: seen.append(active(rolling)))
    rolling.play()
    assert seen == [("web/2", "web@2")] and rolling.rollout.phase is not Phase.ROLLED_BACK
    told = [one.sentence for one in rolling.world.shelf.events if one.rule == "L15"]
    assert len(told) == 1 and "perdure restore web --to before-web-2" in told[0]


@pytest.mark.parametrize("fuse", range(0, 160, 20))
@pytest.mark.parametrize("standby", list(Standby))
def test_a_daemon_that_dies_at_any_step_of_a_handover_leaves_one_release(standby: Standby, fuse: int) -> None:
    rolling = Rolling(fuse=fuse, **stands_by(standby))
    played = rolling.play(130.0)
    assert not played.broken, played.lines
    assert len(set(rolling.releases)) == 1


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
