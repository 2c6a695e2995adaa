"""Whether a simulated world has converged: what is wanted, what runs, and what HAProxy does agree.

A pure comparison, used by the checkers and by scenarios that wait for full strength.
"""

from collections.abc import Iterator

from perdure.control import persist
from perdure.model.release import ENDED
from perdure.model.replica import SERVING, State
from perdure.model.service import Standby
from perdure.model.standing import Desired
from perdure.sim.world import World


def complaints(world: World) -> list[str]:
    """What has not converged now, one sentence each."""
    agent = world.daemon.agent
    if agent is None or world.daemon.frozen:
        return ["no daemon works"]
    found: list[str] = []
    wanted = 0
    records = world.shelf.snapshot(persist.SERVICES).records
    for record in records.values():
        desired = persist.read_desired(record.value)
        wanted += 1 if _cold(desired) else len(desired.slots)
        for number in desired.slots:
            found += _slot(world, desired, number)
        if desired.rollout is not None and desired.rollout.phase not in ENDED:
            found.append(f"the rollout of {desired.rollout.new.release} is {desired.rollout.phase.value}")
        found += _servers(world, desired)
    living = world.kernel.living()
    if len(living) != wanted:
        found.append(f"{len(living)} process groups live, {wanted} are wanted")
    if agent.recorder.documents or agent.recorder.events:
        found.append("something is not written to the store yet")
    return found


def _cold(desired: Desired) -> bool:
    """Whether those that stand by have no process."""
    return desired.service.one_active and desired.service.standby is Standby.COLD


def _slot(world: World, desired: Desired, number: int) -> Iterator[str]:
    agent = world.daemon.agent
    service = agent.world.services.get(desired.service.name) if agent is not None else None
    slot = service.slots.get(number) if service is not None else None
    name = f"{desired.service.name}/{number}"
    stands_by = desired.service.one_active and service is not None and service.term.owner != number
    if stands_by and _cold(desired):
        if slot is not None and slot.live:
            yield f"{name} has a process, and is not the owner"
        return
    if slot is None or slot.replica is None:
        yield f"{name} has no replica"
        return
    drained = number in desired.drained
    expected = {State.PASSIVE} if stands_by else {State.ISOLATED} if drained else SERVING
    if slot.replica.state not in expected:
        yield f"{name} is {slot.replica.state.value}" + (", although it is drained" if drained else "")
    if desired.outdated(slot.replica):
        yield f"{name} is outdated"
    runs = world.kernel.of(slot.replica.process) if slot.replica.process is not None else None
    if runs is None or not runs.well:
        yield f"{name} does not answer"
    record = world.shelf.records.get(persist.slot_key(slot.slot))
    if world.shelf.writing:
        return  # it is on its way
    if record is None or record.value["replica"]["state"] != slot.replica.state.value:
        yield f"what is stored of {name} is old"


def _servers(world: World, desired: Desired) -> Iterator[str]:
    """HAProxy's open servers are exactly the ready replicas."""
    name = desired.service.name
    if desired.service.listen is None:
        return
    current, agent = world.front.current, world.daemon.agent
    backend = current.backends.get(name) if current is not None and current.working else None
    if backend is None or agent is None:
        yield f"HAProxy does not carry {name}"
        return
    slots = agent.world.services[name].slots.values() if name in agent.world.services else ()
    ready = sorted(one.replica.port for one in slots if one.replica is not None and one.replica.state in SERVING)
    serving = sorted(server.port for server in backend.servers if server.open)
    if ready != serving:
        yield f"HAProxy sends {name} to the ports {serving}, ready are {ready}"
    if not backend.retry_allowed:
        yield f"retries of {name} are switched off"
