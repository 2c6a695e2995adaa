"""What Perdure promises, as objects that watch a simulated world: one class for each promise of the design.

A checker is told what happens (`world.Watcher`) and says what is broken; it knows the truth about every process and
fault, which Perdure does not. Those about one moment are here, those about traffic in `checkers_traffic`.
"""

from perdure.control import status
from perdure.model.event import Event
from perdure.model.replica import SERVING, Slot, State
from perdure.recover import isolate
from perdure.sim import settled
from perdure.sim.checkers_traffic import BadReplicasAreSpared, RequestsSurvive
from perdure.sim.kernel import Runs
from perdure.sim.link import Observer
from perdure.sim.world import Watcher, World

REACTIONS = frozenset({"R01", "R11", "R13", "R14"})
"""Rules by which Perdure acts against a replica because it believes that it failed."""
PLANNED = frozenset({"P02", "P03", "P04", "P08"})
"""Rules by which a replica leaves because somebody wants it."""
GROUP_GONE_S = 1.5
ENDED_SEEN_S = 1.0
TURN_S = 0.01
"""A turn of the loop, with the time that recording takes."""


def all_checkers() -> list[Watcher]:
    """A fresh set of all of them, for one run."""
    return [
        OneProcessPerSlot(),
        CommandsSurvive(),
        NoFalseAlarm(),
        FloorHolds(),
        SharedFailureIsToldOnce(),
        Converges(),
        BadReplicasAreSpared(),
        RequestsSurvive(),
        UnknownIsNotHealthy(),
        GroupsEnd(),
    ]


class OneProcessPerSlot(Watcher):
    """Promise 2: never two live processes of one slot; children count."""

    def spawned(self, world: World, runs: Runs) -> None:
        """Look for another one."""
        for other in world.kernel.living():
            if other is not runs and other.slot == runs.slot:
                world.broken("OneProcessPerSlot", f"{runs.name} was started while {other.name} lives")


class CommandsSurvive(Watcher):
    """Promise 1: an acknowledged command survives SIGKILL of the daemon and a power cut, and is carried out."""

    def finished(self, world: World) -> None:
        """The last command of each kind decides, if it was acknowledged."""
        agent = world.daemon.agent
        if agent is None:
            return
        last = {(one.verb, one.target): one for one in world.commands}
        for command in last.values():
            name, _, number = command.target.partition("/")
            service = agent.world.services.get(name)
            at = command.acknowledged_at
            later = [
                one
                for one in world.commands
                if one.asked_at > command.asked_at and (one.verb == "apply" or one.target.partition("/")[0] == name)
            ]
            if at is None or service is None:
                continue
            desired = service.desired
            match command.verb:
                case "scale" if not any(one.verb in ("scale", "apply") for one in later):
                    if desired.replicas != command.argument:
                        self._lost(world, f"{name} was scaled to {command.argument}, {desired.replicas} are wanted")
                case "drain" if not any(one.verb in ("undrain", "scale", "apply") for one in later):
                    if int(number) not in desired.drained and int(number) in desired.slots:
                        self._lost(world, f"{command.target} was drained, and is not")
                case "undrain" if not any(one.verb == "drain" for one in later):
                    if int(number) in desired.drained:
                        self._lost(world, f"{command.target} was undrained, and is not")
                case "restart" | "restart slot":
                    for runs in world.kernel.living():
                        meant = runs.slot.service == name and (not number or runs.slot.number == int(number))
                        if meant and runs.started_at < command.asked_at:
                            self._lost(world, f"{command.target} was restarted, {runs.name} is older")

    def _lost(self, world: World, sentence: str) -> None:
        world.broken("CommandsSurvive", sentence)


class NoFalseAlarm(Watcher):
    """Promise 4 and the disturbances: nothing failed, so nobody is isolated, restarted, or moved."""

    def decided(self, world: World, event: Event) -> None:
        """Every act against a replica needs a fault, every planned one a command."""
        if event.rule in REACTIONS:
            slot = Slot.parse(event.subject)
            if world.blamed(slot.service, slot.number) is None and not self._unheard(world, event, slot):
                world.broken(
                    "NoFalseAlarm", f"{event.rule} {event.subject}: {event.sentence}; nothing is wrong with it"
                )
        elif event.rule in PLANNED:
            service = event.subject.partition("/")[0]
            if service not in world.asking:
                world.broken("NoFalseAlarm", f"{event.rule} {event.subject}: {event.sentence}; nobody asked for it")

    def _unheard(self, world: World, event: Event, slot: Slot) -> bool:
        """Whether it was asked in vain after its start over a path that was cut, and nobody else could tell."""
        agent = world.daemon.agent
        alone = agent is not None and not any(one.serves for _, one in agent.world.slots())
        return event.rule == "R13" and alone and world.kernel.network.cut(Observer.MONITOR, slot)


class FloorHolds(Watcher):
    """Promise 5: whatever the evidence says, isolation leaves half of the replicas, rounded down, and at least one.

    One that is ended in the same turn, since it hangs and the floor keeps it, was left by the isolation.
    """

    def decided(self, world: World, event: Event) -> None:
        """Count who serves after each isolation."""
        agent = world.daemon.agent
        if event.rule != "R01" or agent is None:
            return
        slot = Slot.parse(event.subject)
        service = agent.world.services[slot.service]
        replicas = [one.replica for one in service.slots.values() if one.replica]
        serving = sum(
            one.state in SERVING or (one.state is State.STOPPING and world.now - one.since_at < TURN_S)
            for one in replicas
        )
        floor = isolate.capacity_floor(service.desired.replicas)
        if serving < floor:
            world.broken("FloorHolds", f"{event.subject} was isolated: {serving} serve, the floor is {floor}")


class SharedFailureIsToldOnce(Watcher):
    """Promise 5: what all replicas share is told by one alarm, for each sign and as long as it lasts."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, float], int] = {}

    def decided(self, world: World, event: Event) -> None:
        """Count the alarms of each episode."""
        if event.rule != "R05":
            return
        harm = next(
            (one for one in reversed(world.harms) if one.kind == "F28" and one.touches(event.subject, None)), None
        )
        if harm is None or world.steady_since_at() > harm.from_at:
            return
        key = (event.subject, str(event.facts.get("sign")), harm.from_at)
        self._told[key] = self._told.get(key, 0) + 1
        if self._told[key] > 1:
            world.broken("SharedFailureIsToldOnce", f"{event.subject}: {event.sentence}, {self._told[key]} times")


class Converges(Watcher):
    """Promise 6: within a bound after the last fault everything wanted is ready, and nothing is left over."""

    def __init__(self) -> None:
        self._unsettled_at = 0.0
        self._why: list[str] = []

    def sampled(self, world: World) -> None:
        """Remember when something was last out of place."""
        if world.now < world.quiet_at:
            return
        why = settled.complaints(world)
        if why:
            self._unsettled_at, self._why = world.now, why

    def finished(self, world: World) -> None:
        """Compare with the bound."""
        took_s = self._unsettled_at - world.quiet_at
        world.converged_s = took_s
        if took_s > world.settle_s:
            world.broken("Converges", f"{took_s:.2f} s after the last fault: {'; '.join(self._why)}")


class UnknownIsNotHealthy(Watcher):
    """Promise 8: what never answered is not shown as ready, and what is gone is not shown for long."""

    def sampled(self, world: World) -> None:
        """Compare what status shows with the truth."""
        agent = world.daemon.agent
        if agent is None or world.now - world.steady_since_at() < ENDED_SEEN_S:
            return
        for _, slot in agent.world.slots():
            replica = slot.replica
            if replica is None or replica.state not in SERVING or replica.process is None:
                continue
            runs = world.kernel.of(replica.process)
            if runs is None or not (runs.listening or runs.ended_at is not None):
                if agent.world.services[slot.slot.service].rules.service.asked:
                    world.broken("UnknownIsNotHealthy", f"{slot.slot} is shown as {replica.state}, and never answered")
            elif runs.ended_at is not None and world.now - runs.ended_at > ENDED_SEEN_S:
                world.broken("UnknownIsNotHealthy", f"{slot.slot} is shown as {replica.state}, and is gone")

    def finished(self, world: World) -> None:
        """The view that people see can be made, and says nothing of what is not there."""
        agent = world.daemon.agent
        shown = status.services(agent.world, world.now) if agent is not None else {}
        for service in shown.values():
            for replica in service["replicas"]:
                if replica["state"] == State.STOPPED and (replica["suspicion"] is not None or replica["pid"]):
                    world.broken("UnknownIsNotHealthy", f"{replica['slot']} has ended, and is shown with a pid")


class GroupsEnd(Watcher):
    """When a replica has ended, soon its whole process group is gone."""

    def sampled(self, world: World) -> None:
        """Look for groups whose first process ended a while ago."""
        if world.now - world.steady_since_at() < GROUP_GONE_S:
            return
        for runs in world.kernel.living():
            if runs.ended_at is not None and world.now - runs.ended_at > GROUP_GONE_S:
                world.broken("GroupsEnd", f"{runs.children} children of {runs.name} outlived it")
                runs.children = 0
