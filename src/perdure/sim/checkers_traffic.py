"""What Perdure promises to clients, as objects that watch the requests of a simulated world; see `checkers`."""

from perdure.control import persist
from perdure.detect import probe
from perdure.model.event import Event
from perdure.model.replica import SERVING, State
from perdure.recover import isolate
from perdure.sim.kernel import Runs
from perdure.sim.life import Life
from perdure.sim.servers import Request
from perdure.sim.world import Watcher, World

CRASH_SPARED_S = 0.5
HANG_SPARED_S = 1.0 + probe.PAUSE_TOLERATED_S + 0.05
"""The next question comes within a second, the longest pause is forgiven, and somebody decides."""
ISOLATED_SPARED_S = 0.5
BY_HAND_CORRECTED_S = 0.5
"""Who opens a server behind Perdure's back opens it to whoever has its old port now; Perdure can only close it."""
HARMLESS = frozenset({"F1", "F3"})
"""Faults that must not cost a request while one healthy replica is there."""


class BadReplicasAreSpared(Watcher):
    """No new requests for a replica that crashed 0.5 s ago, hangs for some 3 s, or is isolated."""

    def __init__(self) -> None:
        self._ended: dict[int, Runs] = {}
        self._isolated: dict[str, tuple[float, Life | None]] = {}

    def spawned(self, world: World, runs: Runs) -> None:
        """After a power cut the counting of runs may begin anew."""
        self._isolated.pop(runs.name, None)

    def ended(self, world: World, runs: Runs) -> None:
        """Remember who used the port last."""
        self._ended[runs.port] = runs

    def decided(self, world: World, event: Event) -> None:
        """Follow who is isolated."""
        if event.rule == "R01":
            self._isolated[f"{event.subject}#{event.facts.get('run')}"] = world.now, world.daemon.life
        elif event.rule in ("R02", "P05"):
            self._isolated.pop(f"{event.subject}#{event.facts.get('run')}", None)

    def sent(self, world: World, request: Request, runs: Runs | None, port: int) -> None:
        """Judge the receiver of each request."""
        if runs is None:
            self._gone(world, port)
            return
        if runs.hangs_since_at is not None:
            self._hanging(world, runs, runs.hangs_since_at)
        if runs.name in self._isolated:
            self._is_isolated(world, runs, *self._isolated[runs.name])

    def _is_isolated(self, world: World, runs: Runs, at: float, life: Life | None) -> None:
        """What a daemon did not live to record, or could not, the next one does not know."""
        if life is not world.daemon.life:
            record = world.shelf.records.get(persist.slot_key(runs.slot))
            if record is None or record.value["replica"]["state"] != State.ISOLATED:
                del self._isolated[runs.name]
                return
        if world.now - max(at, world.steady_since_at()) > ISOLATED_SPARED_S:
            sentence = f"{runs.name} gets requests {world.now - at:.2f} s after its isolation"
            world.broken("BadReplicasAreSpared", sentence)

    def _gone(self, world: World, port: int) -> None:
        by_hand = world.now - world.by_hand_at <= BY_HAND_CORRECTED_S
        if port in world.kernel.strangers and world.now - world.steady_since_at() > 0.0 and not by_hand:
            world.broken("BadReplicasAreSpared", f"a stranger on port {port} gets a request")
        runs = self._ended.get(port)
        if runs is None or runs.ended_at is None:
            return
        since_s = world.now - max(runs.ended_at, world.steady_since_at())
        if since_s > CRASH_SPARED_S:
            world.broken("BadReplicasAreSpared", f"{runs.name} gets requests {since_s:.2f} s after its end")

    def _hanging(self, world: World, runs: Runs, since_at: float) -> None:
        since_s = world.now - max(since_at, world.steady_since_at(), world.blind_until_at)
        if since_s <= HANG_SPARED_S:
            return
        name = runs.slot.service
        living = [one for one in world.kernel.living() if one.slot.service == name]
        well = sum(1 for one in living if one.well)
        if well >= isolate.capacity_floor(len(living)):
            world.broken("BadReplicasAreSpared", f"{runs.name} gets requests {since_s:.2f} s after it began to hang")


class RequestsSurvive(Watcher):
    """Promise 7: a crash, a hang, a dead daemon, a failing store cost no request while one replica is well."""

    def __init__(self) -> None:
        self._unwell_at: dict[str, float] = {}
        self._drained: dict[str, tuple[int, ...]] = {}
        self._serving: set[str] = set()
        self._spent: set[str] = set()

    def decided(self, world: World, event: Event) -> None:
        """Bad requests of clients may use up the retries, and what is not tried again fails."""
        if event.rule == "P20":
            self._spent.add(event.subject)
        elif event.rule == "P21":
            self._spent.discard(event.subject)
        elif event.rule == "A05":
            self._spent.clear()

    def sampled(self, world: World) -> None:
        """Remember when a service last had no healthy replica."""
        self._look(world)

    def ended(self, world: World, runs: Runs) -> None:
        """The same at each death, when it matters."""
        self._look(world)

    def failed(self, world: World, request: Request) -> None:
        """A failed request needs an excuse."""
        excused = [harm for harm in world.harms if harm.kind not in HARMLESS and harm.touches(request.service, None)]
        excused += [harm for harm in world.harms if harm.kind == "F40"]
        excuse = bool(excused) or request.service in self._spent
        if not excuse and request.arrived_at > self._unwell_at.get(request.service, 0.0):
            waited_s = world.now - request.arrived_at
            world.broken("RequestsSurvive", f"a request of {request.service} failed after {waited_s:.2f} s")

    def _look(self, world: World) -> None:
        """Whom no daemon has let in yet is let in by none while none lives."""
        agent = world.daemon.agent
        if agent is not None:
            self._drained = {name: one.desired.drained for name, one in agent.world.services.items()}
            replicas = [slot.replica for _, slot in agent.world.slots() if slot.replica is not None]
            self._serving = {one.name for one in replicas if one.state in SERVING}
        well = {
            one.slot.service
            for one in world.kernel.living()
            if one.well
            and one.slot.number not in self._drained.get(one.slot.service, ())
            and (agent is not None or one.name in self._serving)
        }
        for name in world.clients.tallies:
            if name not in well:
                self._unwell_at[name] = world.now
