"""What Perdure promises of active-passive services: never two active at once, and epochs only grow.

Who is active is the truth of the machine: a living process whose slot's role file says so, and what HAProxy sends
requests to. Neighbours: `checkers` watches the other promises, `takeover` plays several hosts.
"""

from perdure.model.event import Event
from perdure.sim.kernel import Runs
from perdure.sim.servers import Request
from perdure.sim.world import Watcher, World


class RightLasts(Watcher):
    """On one machine nobody else can take a right, so nobody is ended for having lost it."""

    def decided(self, world: World, event: Event) -> None:
        """Rule T07 says that a right has run out."""
        if event.rule == "T07":
            world.broken("RightLasts", f"{event.subject} {event.sentence}")


class OneActive(Watcher):
    """Promise 3: at most one active replica, and it holds the newest epoch; requests go to nobody else."""

    def __init__(self) -> None:
        self._epochs: dict[str, tuple[int, str]] = {}

    def spawned(self, world: World, runs: Runs) -> None:
        """A process may have been started as active."""
        self._look(world)

    def sampled(self, world: World) -> None:
        """A process may have been told that it is active."""
        self._look(world)

    def sent(self, world: World, request: Request, runs: Runs | None, port: int) -> None:
        """A request goes to the active replica, or to one that is gone by now."""
        if runs is None or not runs.alive or not world.services[runs.slot.service].one_active:
            return
        duty = world.daemon.machine.roles.get(str(runs.slot))
        if duty is None or duty.role != "active":
            world.broken("OneActive", f"a request was sent to {runs.name}, which is passive")

    def _look(self, world: World) -> None:
        roles = world.daemon.machine.roles
        active: dict[str, list[str]] = {}
        for runs in world.kernel.living():
            slot = str(runs.slot)
            duty = roles.get(slot)
            if duty is None or duty.role != "active":
                continue
            name = runs.slot.service
            active.setdefault(name, []).append(slot)
            epoch, owner = self._epochs.get(name, (0, slot))
            if duty.epoch < epoch or (duty.epoch == epoch and slot != owner):
                world.broken("OneActive", f"{slot} is active in epoch {duty.epoch}, after {owner} was in {epoch}")
            self._epochs[name] = (duty.epoch, slot)
        for name, slots in active.items():
            if len(slots) > 1:
                world.broken("OneActive", f"{' and '.join(slots)} of {name} are active at once")
