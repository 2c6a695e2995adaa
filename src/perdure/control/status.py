"""What the API says about the present: pure views of the world, as JSON documents whose shape is stable.

`api` serves them, the CLI and the metrics read them. Unknown is shown as unknown (null), never as healthy.
"""

from collections.abc import Mapping
from typing import Any

from perdure.control import appraise, keepsakes, outlook, rollback_documents, rollout_documents
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import digest, probe, sampled, stall, suspect, traffic
from perdure.model.evidence import MEASURED, EvidenceClass
from perdure.model.replica import SERVING, State
from perdure.model.rollback import Outcome
from perdure.model.service import Standby
from perdure.prevent import ownership
from perdure.recover import restart, take_over

EMPTY = "an empty slot that stands by: its process is started when it becomes active"


def services(known: World, now: float, wall: float = 0.0) -> dict[str, Any]:
    """All services by name; `wall` is Unix time, for the ages of snapshots."""
    return {name: _service(service, now, wall) for name, service in sorted(known.services.items())}


def state_of(service: ServiceState, now: float) -> tuple[str, str]:
    """The state of a service in one word, and in a sentence.

    `stopped`, `down` (nobody serves), `starting`, `crash-looping`, `degraded` (fewer serve than wanted), `ok`.
    """
    wanted = [service.slots.get(number) for number in service.desired.numbers]
    serving = sum(1 for slot in wanted if slot is not None and _state(slot) in SERVING)
    held = next(iter(service.notes.values()), "")
    if service.desired.stopped:
        return "stopped", "is ended by command" if any(one and one.live for one in wanted) else "does not run"
    if service.desired.service.one_active:
        return _one_active(service, [one for one in wanted if one is not None], held, now)
    looping = [str(slot.slot) for slot in wanted if slot is not None and _crash_looping(slot, now)]
    if looping:
        return "crash-looping", f"{', '.join(looping)} keep ending; Perdure keeps trying, more and more slowly"
    if serving == service.desired.replicas:
        return ("degraded", held) if held else ("ok", f"{serving} of {serving} replicas serve")
    sentence = f"{serving} of {service.desired.replicas} replicas serve"
    if serving == 0:
        first_start = all(slot is None or (slot.ready_at is None and slot.history.restarts == 0) for slot in wanted)
        return ("starting", "its first replicas are starting") if first_start else ("down", "no replica serves")
    return "degraded", f"{sentence}; {held}" if held else sentence


def _one_active(service: ServiceState, slots: list[SlotState], held: str, now: float) -> tuple[str, str]:
    """The same for a service of which one replica is active."""
    active = next((slot for slot in slots if slot.serves), None)
    warm = service.desired.service.standby is Standby.WARM
    others = [slot for slot in slots if slot is not active]
    standing_by = sum(_state(slot) is State.PASSIVE if warm else not slot.live for slot in others)
    looping = [str(slot.slot) for slot in slots if _crash_looping(slot, now)]
    if active is None:
        if looping:
            return "crash-looping", f"{', '.join(looping)} keep ending; Perdure keeps trying, more and more slowly"
        fresh = all(slot.ready_at is None and slot.history.restarts == 0 for slot in slots)
        return ("starting", "its first replica is starting") if fresh else ("down", held or "no replica is active")
    sentence = f"{active.slot} is active, {standing_by} of {len(others)} stand by"
    if held or standing_by < len(others):
        return "degraded", f"{sentence}; {held}" if held else sentence
    return "ok", sentence


def pending(service: ServiceState) -> bool:
    """Whether a command is still being carried out for a service."""
    desired, command = service.desired, service.desired.handover
    if command is not None and not desired.stopped and command.number > service.term.handover:
        refused = f"{service.name} {take_over.REFUSED_KEY}" in service.notes
        if command.slot != service.term.owner and not refused:
            return True
    if desired.rollback is not None and desired.rollback.outcome is Outcome.OPEN and not desired.stopped:
        return True
    for number in desired.numbers if desired.stopped else desired.slots:
        slot = service.slots.get(number)
        replica = slot.replica if slot is not None else None
        if desired.stopped:
            if slot is not None and slot.live:
                return True
        elif _is_empty_by_right(service, slot):
            continue
        elif replica is None or desired.outdated(replica) or replica.state is State.DRAINING:
            return True
        elif number in desired.drained:
            if replica.state in SERVING:
                return True
        elif (
            replica.state is State.STARTING
            or replica.state is State.STOPPING
            or (replica.state is State.ISOLATED and slot is not None and slot.conviction is None)
        ):
            return True
    return any(slot.live for number, slot in service.slots.items() if not desired.wants(number))


def _is_empty_by_right(service: ServiceState, slot: SlotState | None) -> bool:
    """Whether a slot has no process because it stands by cold."""
    declared = service.desired.service
    cold = declared.one_active and declared.standby is Standby.COLD
    return cold and (slot is None or not slot.live) and not (slot and service.term.owner == slot.slot.number)


def suspicion(service: ServiceState, slot: SlotState, now: float) -> float | None:
    """The strongest evidence against a replica as a share of its limit; 1 convicts. None when there is no replica."""
    if not slot.live:
        return None
    found = suspect.suspicions(slot.belief, now, service.rules_of(slot))
    return round(max((one.share for one in found), default=0.0), 3)


def explain(service: ServiceState, now: float, number: int | None) -> dict[str, Any]:
    """Why a service, or one of its slots, is in its state, and when Perdure looks again."""
    state, sentence = state_of(service, now)
    chosen = [slot for key, slot in sorted(service.slots.items()) if number is None or key == number]
    return {
        "service": service.name,
        "state": state,
        "sentence": sentence,
        "next_look_s": max(0.0, round(service.look_at - now, 3)),
        "slots": [_explained(service, slot, now) for slot in chosen],
        "notes": list(service.notes.values()) + _switches(service),
        "rollout": rollout_documents.told(service, now),
    }


def _service(service: ServiceState, now: float, wall: float) -> dict[str, Any]:
    declared = service.desired.service
    state, sentence = state_of(service, now)
    return {
        "mode": declared.mode.value,
        "protocol": declared.protocol.value,
        "listen": str(declared.listen) if declared.listen is not None else None,
        "state": state,
        "sentence": sentence,
        "desired": {
            "replicas": service.desired.replicas,
            "serving": service.desired.serving,
            "release": service.desired.release,
            "drained": list(service.desired.drained),
            "pending": pending(service),
        },
        **(_owned(service) if declared.one_active else {}),
        **(_kept(service, wall) if declared.state is not None else {}),
        "rollout": rollout_documents.told(service, now),
        "requests_per_s": _requests_per_s(service, now) if declared.listen is not None else None,
        "retries": "on" if service.retries_off_since_at is None else "off",
        "replicas": [
            {**_replica(service, slot, now), **keepsakes.of_slot(service, slot, wall)}
            for _, slot in sorted(service.slots.items())
            if _shown(service, slot)
        ],
    }


def _requests_per_s(service: ServiceState, now: float) -> float:
    """Tries of requests: in the last 10 s or, if that is more, in the last 10 min."""
    asked = [slot.belief.seen for slot in service.slots.values() if slot.live and slot.belief.seen.at is not None]
    lately, long = traffic.SPANS_S[1:]
    now_per_s = sum(one.tallies[1].requests for one in asked if one.at is not None and now - one.at < lately) / lately
    return round(max(now_per_s, sum(one.tallies[2].requests for one in asked) / long), 2)


def _kept(service: ServiceState, wall: float) -> dict[str, Any]:
    return {"data": keepsakes.told(service, wall), "rollback": rollback_documents.told(service, wall)}


def _owned(service: ServiceState) -> dict[str, Any]:
    """Who is the owner, in which epoch, and for how long nobody is active at most when the active one dies."""
    term = service.term
    serves_s = _serves_s(service)
    bound_s = ownership.takeover_bound_s(ownership.ALONE, take_over.LOOP_S, serves_s) if serves_s is not None else None
    return {
        "standby": service.desired.service.standby.value,
        "owner": f"{service.name}/{term.owner}" if term.owner is not None else None,
        "epoch": term.epoch,
        "takeover_bound_s": round(bound_s, 3) if bound_s is not None else None,
    }


def _serves_s(service: ServiceState) -> float | None:
    """How long whoever is next needs until it can serve, by what was seen last: the last state is copied to it, and a
    cold one starts. None: not seen yet.
    """
    declared = service.desired.service
    copied = keepsakes.copied_s(service)
    starts = [slot.start_s for slot in service.slots.values() if slot.start_s is not None]
    started = 0.0 if declared.standby is Standby.WARM else max(starts, default=None)
    return copied + started if copied is not None and started is not None else None


def _duty(service: ServiceState, slot: SlotState) -> dict[str, Any]:
    """The role of a slot's replica, and whether it stands by."""
    stands_by = _state(slot) is State.PASSIVE or _is_empty_by_right(service, slot)
    return {"role": "active" if slot.serves else "passive", "standby": stands_by}


def _idle(service: ServiceState, slot: SlotState) -> dict[str, Any]:
    """Whether a replica stands by without traffic, for its release has none just now."""
    rollout, replica = service.desired.rollout, slot.replica
    idles = rollout is not None and replica is not None and slot.serves and rollout.idles(replica.release)
    return {"standby": True} if idles else {}


def _shown(service: ServiceState, slot: SlotState) -> bool:
    number = slot.slot.number
    return slot.live or service.desired.has(number) or service.desired.wants(number)


def _replica(service: ServiceState, slot: SlotState, now: float) -> dict[str, Any]:
    replica = slot.replica
    process = replica.process if replica is not None and slot.live else None
    return {
        "slot": str(slot.slot),
        "state": _state(slot).value,
        "pid": process.pid if process is not None else None,
        "port": replica.port if replica is not None else None,
        "release": replica.release if replica is not None else None,
        **(_duty(service, slot) if service.desired.service.one_active else _idle(service, slot)),
        "restarts": slot.history.restarts,
        "since_s": round(now - replica.since_at, 3) if replica is not None else None,
        "suspicion": suspicion(service, slot, now),
        "sentence": _sentence(slot),
    }


def _explained(service: ServiceState, slot: SlotState, now: float) -> dict[str, Any]:
    replica = slot.replica
    found = suspect.suspicions(slot.belief, now, service.rules_of(slot)) if slot.live else ()
    carried = service.desired.service.listen is not None
    waits_s = slot.history.next_start_at - now if not slot.live else service.look_at - now
    empty = service.desired.service.one_active and _is_empty_by_right(service, slot)
    sentence = "; ".join(filter(None, (_sentence(slot), EMPTY if empty else "")))
    return {
        "slot": str(slot.slot),
        "state": _state(slot).value,
        "since_s": round(now - replica.since_at, 3) if replica is not None else None,
        "rule": slot.last_rule,
        "sentence": sentence,
        "facts": _facts(slot),
        "next_look_s": max(0.0, round(waits_s, 3)),
        "evidence": [
            {
                "class": one.evidence.value,
                "endpoint": one.endpoint,
                "score": round(one.score, 2),
                "threshold": round(one.limit, 2),
                "q0": round(one.expected_share, 4) if one.expected_share is not None else None,
                "bad_to_convict": one.bad_to_convict,
                "changes_with": outlook.changes_with(service, slot, one, now),
                "sentence": _evidence(service, slot, one, now),
            }
            for one in found
            if carried or one.evidence not in MEASURED
        ],
        "awaits": appraise.awaits(service, slot, now) if _state(slot) is State.STARTING else "",
        "readmission": outlook.readmission(service, slot, now),
        "capsule": _capsule(slot),
    }


def _facts(slot: SlotState) -> Mapping[str, Any]:
    history = slot.history
    facts: dict[str, Any] = {"failures_in_a_row": history.failures, "relapses": history.relapses}
    if slot.conviction is not None:
        facts |= {"convicted_by": slot.conviction.evidence.value, "sign": slot.conviction.sign.value}
    if slot.verdict is not None:
        facts["verdict"] = slot.verdict.sentence
    return facts


def _evidence(service: ServiceState, slot: SlotState, one: suspect.Suspicion, now: float) -> str:
    """What the class knows now, in words."""
    match one.evidence:
        case EvidenceClass.PROBE:
            return _asked(slot.belief.asked.get(one.endpoint), now)
        case EvidenceClass.HEARTBEAT:
            told = slot.belief.told
            return f"last beat {now - told.last_at:.1f} s ago" if told.count else "no beat yet"
        case EvidenceClass.TRAFFIC if not one.endpoint:
            return _share(slot.belief.seen, "failed", now)
        case EvidenceClass.TRAFFIC | EvidenceClass.REFUSALS | EvidenceClass.TIMES:
            return _at_endpoint(slot.belief.endpoints, one, now)
        case EvidenceClass.LIMIT:
            return _held(slot, service)
        case EvidenceClass.DIGEST:
            return _compared(slot.belief.compared)
        case EvidenceClass.STALL:
            return f"{stall.overdue(slot.belief.stalled)} requests have had no answer for more than 2 s"
        case EvidenceClass.PROCESS:
            since_at, blocked_at = slot.belief.kernel.stopped_since_at, slot.belief.kernel.blocked_since_at
            if since_at is not None:
                return f"stopped for {now - since_at:.1f} s"
            return "runs" if blocked_at is None else f"waits inside the kernel for {now - blocked_at:.1f} s"
    return ""


def _held(slot: SlotState, service: ServiceState) -> str:
    """What the replica holds of what is limited, and when it will be full."""
    last, kernel = slot.belief.holdings.last, slot.belief.kernel
    rules = service.rules_of(slot)
    limit = rules.service.limits.memory_bytes
    held = []
    if limit is not None and kernel.memory_bytes is not None:
        held.append(f"{kernel.memory_bytes / 1e6:.0f} of {limit / 1e6:.0f} MB of memory")
    if last is not None and last.descriptors_max:
        held.append(f"{last.descriptors} of {last.descriptors_max} descriptors")
    if last is not None and last.backlog_max > 1:
        held.append(f"{last.backlog} of {last.backlog_max} connections in the backlog")
    filling = suspect.filling(slot.belief, rules)
    return ", ".join(held) + (f"; {filling.sentence}" if filling is not None else "")


def _compared(compared: digest.Compared) -> str:
    if not compared.voters:
        return "not compared yet"
    shown = f"says {compared.answer[: digest.SHOWN]}"
    if compared.answer == compared.majority:
        return f"{shown}, as do {compared.alike} of {compared.voters}"
    return f"{shown}; {compared.alike} of {compared.voters} say {compared.majority[: digest.SHOWN]}"


def _asked(asked: probe.Asked | None, now: float) -> str:
    if asked is None:
        return "not asked yet"
    if asked.last_good_at is not None and not asked.misses:
        return f"answered well {now - asked.last_good_at:.1f} s ago"
    return f"{asked.misses} misses in a row: {asked.last_answer[: probe.SHOWN]}"


def _at_endpoint(endpoints: sampled.Endpoints, one: suspect.Suspicion, now: float) -> str:
    for kind, name, seen in sampled.each(endpoints):
        if name == one.endpoint and kind.evidence is one.evidence:
            limit_ms = endpoints[name].limit_ms
            slowly = f"took more than {limit_ms:.0f} ms" if limit_ms is not None else "were too few to say what is slow"
            if name == sampled.ALL:
                slowly = "took long for their endpoint"
            what = {sampled.ERRORS: "failed", sampled.REFUSALS: "were answered with 4xx"}.get(kind, slowly)
            return _share(seen, what, now)
    return ""


def _share(seen: traffic.Seen, what: str, now: float) -> str:
    lately = seen.tallies[1]
    if seen.at is None or now - seen.at > traffic.SPANS_S[1] or lately.requests < 1.0:
        return "no requests lately"
    return f"{lately.failures / lately.requests:.1%} of some {lately.requests:.0f} requests {what} lately"


def _capsule(slot: SlotState) -> dict[str, Any] | None:
    capsule = slot.capsule
    if capsule is None:
        return None
    return {
        "replica": capsule.replica,
        "wall_at": capsule.wall_at,
        "sentence": capsule.sentence,
        "exit": capsule.exit,
        "lines": list(capsule.lines),
        "answer": capsule.answer,
    }


def _sentence(slot: SlotState) -> str:
    if slot.live and slot.verdict is not None:
        return slot.verdict.sentence
    return slot.last_sentence


def _crash_looping(slot: SlotState, now: float) -> bool:
    """Whether the slot's replicas keep failing, and the present one has not served long enough to end that."""
    healed = _state(slot) in SERVING and slot.ready_at is not None and now - slot.ready_at >= restart.HEALTHY_SPELL_S
    return restart.crash_looping(slot.history) and not healed


def _switches(service: ServiceState) -> list[str]:
    notes = []
    if service.retries_off_since_at is not None:
        notes.append("requests are not retried now")
    waiting = service.desired.service.depends_on
    if waiting and all(not slot.live for slot in service.slots.values()):
        notes.append(f"it starts when {', '.join(waiting)} serves")
    return notes


def _state(slot: SlotState) -> State:
    return slot.replica.state if slot.replica is not None else State.STOPPED
