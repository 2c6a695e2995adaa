"""How things stand with each slot, as facts for the deciders: gathered from what the agent knows (`world`).

Of each replica the verdict, what HAProxy sees of it, what it has in flight, and what is awaited of it. Nothing is
decided here; but since when there has been a verdict is remembered, and when the monitor heard nobody.
"""

import math

from perdure.control.world import ServiceState, SlotState
from perdure.detect import probe, process, readmit, sampled, stall, suspect, traffic, vantage
from perdure.model.check import CONFIRMING
from perdure.model.replica import Replica, Slot, State
from perdure.model.standing import Standing
from perdure.model.traffic import Admin
from perdure.model.verdict import Verdict

TOLD_MAX = 3
"""A warm replica that did not take it so often is ended."""
UNASKED_READY_S = 1.0
"""A replica that nobody can ask counts as ready when it has run this long."""


def standings(service: ServiceState, now: float) -> tuple[Standing, ...]:
    """How things stand with each slot of a service, as facts for the deciders; verdicts are brought up to date."""
    for number in service.desired.slots:
        if number not in service.slots:
            service.slots[number] = SlotState(Slot(service.name, number))
    serving = [slot for slot in service.slots.values() if slot.serves]
    if serving and all(suspect.silent(slot.belief, service.rules_of(slot)) for slot in serving):
        service.deaf_at = now
    service.heard_at = service.hearing.at if any(service.rules_of(slot).service.asked for slot in serving) else math.inf
    silences, in_flight = _silences(service, now), _in_flight(service, now)
    found = []
    for number in sorted(service.slots):
        slot, silence = service.slots[number], silences.get(number)
        alone = not any(one is not slot for one in serving[:2])
        peered = suspect.Peered(alone, in_flight.get(number, stall.Others()), silence is None or silence.counts)
        found.append(_standing(service, slot, peered, silence, now))
    return tuple(found)


def _judged(service: ServiceState, slot: SlotState, peered: suspect.Peered, now: float) -> Verdict | None:
    """The verdict on a slot's replica now; remembers since when there has been one. Who is isolated has a verdict only
    now and then if a check fails every other time, and not always of one sign: that begins nothing anew.
    """
    replica = slot.replica
    convictable = replica is not None and replica.state not in (State.STOPPING, State.STOPPED)
    rules, convicted = service.rules_of(slot), slot.conviction is not None
    verdict = suspect.judge(slot.belief, now, rules, peered, convicted=convicted) if convictable else None
    if slot.conviction is not None:
        slot.verdict_since_at = slot.conviction.at if slot.verdict_since_at is None else slot.verdict_since_at
    elif verdict is None:
        slot.verdict_since_at = None
    elif slot.verdict_since_at is None or slot.verdict is None or slot.verdict.sign is not verdict.sign:
        slot.verdict_since_at = now
    slot.verdict = verdict
    return verdict


def _in_flight(service: ServiceState, now: float) -> dict[int, stall.Others]:
    """Slots with requests that are overdue -> what the other replicas that serve show."""
    late = [number for number, slot in service.slots.items() if stall.overdue(slot.belief.stalled)]
    if not late:
        return {}
    serving = [slot for slot in service.slots.values() if slot.serves]
    known = sampled.pooled([slot.belief.endpoints for slot in service.slots.values() if slot.live])
    *each, all_of_them = stall.leave_one_out([*(slot.belief.stalled for slot in serving), stall.Stall()], known, now)
    others = {slot.slot.number: one for slot, one in zip(serving, each, strict=True)}
    return {number: others.get(number, all_of_them) for number in late}


def _silences(service: ServiceState, now: float) -> dict[int, vantage.Silence]:
    """Slots whose replicas have not answered the monitor for too long -> what HAProxy sees of them."""
    found = {}
    backend = service.backend
    asked_ports = {one.port for one in backend.servers if one.admin is not Admin.MAINT} if backend is not None else ()
    for number, slot in service.slots.items():
        rules = service.rules_of(slot)
        own = rules.service.asked_by_balancer
        overdue = stall.overdue(slot.belief.stalled)
        each = (one for label, one in slot.belief.asked.items() if overdue or not label.startswith(CONFIRMING))
        begun = slot.replica is not None and slot.live and slot.replica.state is not State.STARTING
        asked = vantage.silent(each, now, own.label) if begun else None
        if asked is None or slot.replica is None:
            continue
        asks = backend is None or slot.replica.port in asked_ports
        read_at = service.backend_at if backend is not None and asks else -math.inf
        same, too = asked.check == own.label, own.label in rules.probe_limits
        up, notices_s = slot.down_seen_at is None, vantage.notices_s(own)
        seen = vantage.Seen(up, slot.check_fails, read_at, notices_s, same, asks, too)
        heard = vantage.Heard(service.hearing, now, service.asked_every_s)
        found[number] = vantage.silence(asked, slot.belief.answers, slot.belief.stalled, seen, heard)
    return found


def awaits(service: ServiceState, slot: SlotState, now: float) -> str:
    """What a starting replica has not shown yet, in words: a good answer to all that it is asked, a heartbeat, and that
    it listens on its port itself, where clients reach it; one that stands by may do so when it is promoted.
    """
    rules, replica, belief = service.rules_of(slot), slot.replica, slot.belief
    if replica is None or slot.exited:
        return "it has ended"
    for check in rules.service.asked:
        asked = belief.asked.get(check.label)
        if asked is None or asked.goods == 0:
            shown = f" (the last one was: {asked.last_answer[: probe.SHOWN]})" if asked and asked.last_answer else ""
            return f"{check.label} has had no good answer{shown}"
    if rules.service.heartbeat is not None and belief.told.count == 0:
        return "it has sent no heartbeat"
    if not rules.service.asked:
        return "" if now - replica.since_at >= UNASKED_READY_S else f"it has run for less than {UNASKED_READY_S:g} s"
    stands_by = rules.service.one_active and slot.slot.number != service.term.owner
    listens = slot.port_checked or rules.service.listen is None or stands_by
    return "" if listens else f"it does not listen on its port, {replica.port}"


def in_flight(service: ServiceState, replica: Replica) -> int | None:
    """Requests that a replica still has, by a reading made since it left; None when that is unknown."""
    if service.backend is None or service.backend_at <= replica.since_at or replica.port in service.lingering:
        return None
    server = next((one for one in service.backend.servers if one.port == replica.port), None)
    if server is None:
        return 0
    return None if server.admin is Admin.READY else server.sessions


def _standing(
    service: ServiceState, slot: SlotState, peered: suspect.Peered, silence: vantage.Silence | None, now: float
) -> Standing:
    replica, rules = slot.replica, service.rules_of(slot)
    verdict = _judged(service, slot, peered, now)
    state = replica.state if replica is not None else None
    leaving = replica is not None and state in (State.DRAINING, State.ISOLATED)
    return Standing(
        slot.slot,
        replica,
        slot.history,
        verdict,
        slot.verdict_since_at,
        hint=suspect.hint(slot.belief, now, rules) if slot.serves else None,
        hears_s=now - service.deaf_at,
        heard_at=service.heard_at,
        suspected=state in (State.READY, State.SUSPECT) and suspect.suspected(slot.belief, now, rules),
        conviction=slot.conviction,
        acquitted=state is State.ISOLATED
        and slot.conviction is not None
        and readmit.acquits(slot.belief, slot.conviction, slot.history.relapses, now, rules),
        view=silence.view if silence is not None else None,
        blind=silence is not None and silence.together and not silence.counts,
        failing_share=traffic.failing_share(slot.belief.seen, now) if slot.live else None,
        failed=slot.belief.seen.tallies[1].failures,
        asked=slot.belief.seen.tallies[0].requests,
        asked_lately=slot.belief.seen.tallies[1].requests,
        idle_s=_idle_s(service, slot, now),
        failing=sampled.failing(slot.belief.endpoints, now) if slot.serves else (),
        filling=suspect.filling(slot.belief, rules) if slot.serves or state is State.DRAINING else None,
        clock_ahead_s=suspect.clock_ahead_s(slot.belief, rules) if slot.live else None,
        stopped_s=slot.belief.kernel.forgiven_s + process.stopped_s(slot.belief.kernel),
        awaits=awaits(service, slot, now) if state is State.STARTING else "",
        told=slot.told,
        deaf=slot.refusals >= TOLD_MAX,
        unsaved=slot.unsaved,
        empty_s=now - replica.since_at if replica is not None and not slot.live else math.inf,
        unsettled=_unsettled(service, slot),
        data_epoch=_data_epoch(service, slot),
        behind_s=_behind_s(service, slot, now),
        in_flight=in_flight(service, replica) if leaving and replica is not None else None,
    )


def _unsettled(service: ServiceState, slot: SlotState) -> bool:
    """Whether a slot's data may be between two states, as far as this daemon knows."""
    if service.desired.service.state is None:
        return False
    preserved, number = service.preserved, slot.slot.number
    return number not in preserved.settled or number in preserved.rewritten


def _data_epoch(service: ServiceState, slot: SlotState) -> int:
    """The history that a slot's state belongs to: the first, when nobody knows that it was brought to a later one."""
    applied = service.preserved.applied.get(slot.slot.number)
    if slot.slot.number == service.term.owner or service.desired.service.state is None:
        return service.term.data_epoch
    return applied.data_epoch if applied is not None else 0


def _behind_s(service: ServiceState, slot: SlotState, now: float) -> float:
    """What a slot would lose as the next owner's: nothing, as long as the last state can still be copied to it."""
    if not service.lossy or service.desired.service.state is None:
        return 0.0
    return now - service.preserved.current_at.get(slot.slot.number, -math.inf)


def _idle_s(service: ServiceState, slot: SlotState, now: float) -> float | None:
    """For how long a replica has served without a request, as far as HAProxy's counters tell."""
    replica = slot.replica
    if replica is None or not slot.serves or service.backend is None or slot.down_seen_at is not None:
        return None
    rollout = service.desired.rollout
    if rollout is not None and rollout.idles(replica.release):
        return None
    began = (slot.ready_at, slot.history.readmitted_at, slot.belief.seen.at, service.counted_since_at)
    return max(0.0, service.backend_at - max(at for at in began if at is not None))
