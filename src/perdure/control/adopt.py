"""Taking over what an earlier daemon left running: replicas and HAProxy, by pid and start time, without touching one.

`daemon` calls it once, before the loop runs. The store says what there was; the note that each replica's launcher
left on disk says what was started last, in case the daemon died between starting a process and recording it. Where
the two disagree, the launcher is right. Processes of slots that nobody wants any more are adopted too, and then ended
in order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from perdure.control import persist
from perdure.control.agent import Agent
from perdure.control.world import ServiceState, SlotState
from perdure.detect import suspect
from perdure.model import replica as states
from perdure.model.event import Severity
from perdure.model.evidence import Exited
from perdure.model.replica import LIVE, Event, Exit, Process, Replica, Slot, State
from perdure.model.service import Service
from perdure.model.standing import Desired
from perdure.ports.store import Record, Store


async def adopt(agent: Agent, store: Store, noted: Sequence[Slot]) -> int:
    """Fill the agent's world from the store and take over what lives; returns the revision that was read. `noted`: the
    slots in which something was launched, as far as the launchers noted that.
    """
    snapshot = await store.read("")
    for key, record in snapshot.records.items():
        if key.startswith(persist.SERVICES):
            desired = persist.read_desired(record.value)
            agent.world.services[desired.service.name] = ServiceState(desired, suspect.policy(desired.service))
    adopted = _slots(agent, snapshot.records)
    _strays(agent, noted)
    if persist.BALANCER in snapshot.records:
        await _balancer(agent, snapshot.records[persist.BALANCER])
    if adopted:
        agent.tell("A05", "daemon", f"took over {adopted} replicas without restarting one", facts={"replicas": adopted})
    agent.watch_adopted()
    return snapshot.revision


def _slots(agent: Agent, records: Mapping[str, Record]) -> int:
    adopted = 0
    for key, record in records.items():
        if not key.startswith(persist.SLOTS):
            continue
        slot = Slot.parse(key.removeprefix(persist.SLOTS))
        service = agent.world.services.get(slot.service)
        if service is None:
            service = _orphaned(slot.service)
            agent.world.services[slot.service] = service
        state = persist.read_slot(record.value, slot, service.desired.service.restart, agent.clock.now())
        service.slots[slot.number] = state
        if _take_over(agent, state):
            adopted += 1
            _tell_again(agent, service, state)
    return adopted


def _tell_again(agent: Agent, service: ServiceState, slot: SlotState) -> None:
    """That a replica is to end was recorded before it was told, and then the daemon may have died."""
    replica = slot.replica
    if replica is not None and replica.process is not None and replica.state is State.STOPPING:
        agent.runner.signal(replica.process, service.desired.service.restart.stop_signal)


def _take_over(agent: Agent, slot: SlotState) -> bool:
    """Adopt the slot's process, or enter that it ended while nobody looked; what nobody can vouch for is ended."""
    replica = slot.replica
    if replica is None:
        return False
    for process in dict.fromkeys([agent.runner.recorded(slot.slot), replica.process]):
        if process is None:
            continue
        if _known(agent, replica, process) and agent.runner.adopt(process, _exit_of(agent, replica.name)):
            # Nobody asked it while the daemon was away, so its time to start begins anew.
            since_at = agent.clock.now() if replica.state is State.STARTING else replica.since_at
            slot.replica = replace(replica, process=process, since_at=since_at)
            return True
        if agent.runner.group_alive(process):
            _end_leftover(agent, slot, replica, process)
            return False
    if replica.state in LIVE:
        slot.exited = True
        state = states.advance(replica.state, Event.EXITED).to
        slot.replica = replace(replica, state=state, since_at=agent.clock.now(), process=None)
        _tell_ended(agent, slot)
    return False


def _known(agent: Agent, replica: Replica, process: Process) -> bool:
    """Whether a process is the recorded run of its slot: a later run that nobody recorded may listen elsewhere."""
    if replica.state not in LIVE:
        return False
    return replica.process in (None, process) or agent.runner.owns_port(process, replica.port)


def _end_leftover(agent: Agent, slot: SlotState, replica: Replica, process: Process) -> None:
    """End a run that was not recorded, or the children of one that ended; the slot waits until all are gone."""
    now = agent.clock.now()
    ending = replace(
        replica, run=replica.run + 1, state=State.STOPPING, since_at=now, process=process, stop_deadline_at=now
    )
    slot.replica = ending
    slot.exited = not agent.runner.adopt(process, _exit_of(agent, ending.name))
    agent.runner.signal(process, "SIGKILL")
    if slot.exited:
        _tell_ended(agent, slot)
    else:
        agent.tell("A06", str(slot.slot), "a process that nobody recorded is ended", Severity.WARNING)


def _tell_ended(agent: Agent, slot: SlotState) -> None:
    assert slot.replica is not None
    sentence = "ended while the daemon was away"
    slot.capsule = None if slot.end_wanted else agent.executor.capsule(slot, sentence, None)
    agent.tell("R15", str(slot.slot), sentence, Severity.WARNING, {"run": slot.replica.run})


def _strays(agent: Agent, noted: Sequence[Slot]) -> None:
    """End what was started in a slot of which the store knows nothing, be it that the store was lost."""
    for one in noted:
        service, process = agent.world.services.get(one.service), agent.runner.recorded(one)
        known = service is not None and one.number in service.slots
        if known or process is None or not agent.runner.group_alive(process):
            continue
        if service is None:
            service = agent.world.services[one.service] = _orphaned(one.service)
        slot = service.slots[one.number] = SlotState(one, end_wanted=True)
        nobody = Replica(one, 0, service.desired.release_of(one.number), 0, 0, State.STOPPED, 0.0)
        _end_leftover(agent, slot, nobody, process)


async def _balancer(agent: Agent, record: Record) -> None:
    process, servers = persist.read_balancer(record.value)
    # Before HAProxy is read for the first time: what is in no service's cargo is taken out, and its requests are cut.
    agent.load()
    if process is not None and await agent.carrier.adopt(process, servers):
        agent.tell("A07", "balancer", "took over HAProxy without restarting it", facts={"pid": process.pid})


def _orphaned(name: str) -> ServiceState:
    """A service that is no longer declared, but of which slots are left: they are ended."""
    desired = Desired(Service(name, ("true",)), f"{name}@0", 0, stopped=True)
    return ServiceState(desired, suspect.policy(desired.service), removed=True)


def _exit_of(agent: Agent, replica: str) -> Callable[[Process, Exit], None]:
    def ended(process: Process, exit_: Exit) -> None:
        agent.on_exit(Exited(replica, agent.clock.now(), exit_))

    return ended
