"""A simulated world in which a new release is deployed, and what may be wrong with it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from playing import WEB, Played

from perdure.control import persist
from perdure.control.assemble import Desk
from perdure.control.releasing import Releasing, Wishes
from perdure.model import deploy
from perdure.model.release import Rollout
from perdure.model.replica import Slot
from perdure.model.service import Service
from perdure.model.standing import Desired
from perdure.sim import plan, run
from perdure.sim.checkers import Converges, OneProcessPerSlot
from perdure.sim.checkers_traffic import RequestsSurvive

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


def errs(share: float) -> Callable[[Any], None]:
    return lambda behaviour: setattr(behaviour, "error_share", share)


def crashes(behaviour: Any) -> None:
    behaviour.crash_after_s = 0.1


def never_ready(behaviour: Any) -> None:
    behaviour.boot_s = 1000.0


def turn_ill(rolling: Rolling, release: str, share: float) -> None:
    """From now on the replicas of a release (or of all) fail this share of their requests."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    for slot in agent.world.services["web"].slots.values():
        runs = rolling.world.kernel.of(slot.replica.process) if slot.replica and slot.replica.process else None
        if runs is not None and slot.replica is not None and release in ("", slot.replica.release):
            runs.behaviour.error_share = share
