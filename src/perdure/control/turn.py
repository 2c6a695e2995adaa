"""One turn of the loop for one service: from how things stand to the decisions that are due. Pure.

`agent` calls it whenever something was observed, or an instant comes that it named; it calls the deciders in order of
urgency and keeps one change for each slot, since the next turn decides anew from what came of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.detect import sampled, scope
from perdure.model.check import CONFIRMING
from perdure.model.decision import Advance, Decision, Note
from perdure.model.owner import Term
from perdure.model.replica import Event, State
from perdure.model.standing import Desired, Standing
from perdure.model.verdict import MEASURED, Common, Sign
from perdure.prevent import notice, renew, replicate
from perdure.recover import isolate, restart, take_over

CLIENTS = MEASURED | {Sign.STALLED}
"""Signs that only a replica that gets requests can show."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the deciders of one service look at."""

    desired: Desired
    standings: Sequence[Standing]
    dependencies_ready: bool
    bucket: restart.Bucket
    shared_at: Mapping[Sign, float] = field(default_factory=dict)
    """When each sign was last shared, by the plan before."""
    told: Collection[str] = ()
    """The notes that were told and still hold: subject and key."""
    undecided: str = ""
    """What to tell when the replicas' data differ, and nobody knows who is right."""
    term: Term = field(default_factory=Term)
    """Who may be active, of an active-passive service."""
    conditions: notice.Conditions = field(default_factory=notice.Conditions)
    """What else somebody should know."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due, the restart bucket afterwards, and the next instant at which time alone changes the answer."""

    decisions: tuple[Decision, ...]
    bucket: restart.Bucket
    look_again_at: float
    shared_at: Mapping[Sign, float] = field(default_factory=dict)


def decide(facts: Facts, now: float) -> Plan:
    """The decisions that are due at `now`; deciding twice on the same facts gives the same plan."""
    desired, standings = facts.desired, facts.standings
    service = desired.service
    counted, on_trial = _arms(desired, standings)
    common = common_causes(counted, desired.serving)
    shared_now = shared_signs(counted, desired.serving, facts.shared_at) | _waiting_together(counted, common)
    heard = all(one.hears_s > 0.0 for one in standings)
    shared_at = scope.remembered(facts.shared_at, shared_now, service.asked, now, heard=heard)
    shared = frozenset(shared_at)
    told = frozenset(sign for sign in shared_at if f"{service.name} {isolate.shared_key(sign)}" in facts.told)
    of_release = _of_one_release(shared | {one.sign for one in common}, on_trial)
    in_common = isolate.Shared(shared, shared_now, told, common, of_release)
    duty = _duty(facts, now)
    isolations = isolate.decide(counted, desired.serving, in_common, _leaving(desired, counted, duty.stays))
    isolates = any(isinstance(one.change, Advance) and one.change.event is Event.CONVICTED for one in isolations)
    room = replicate.Room(facts.dependencies_ready, duty.runs, duty.leaving, duty.stays, replaces=not isolates)
    found = [
        *duty.decisions,
        *isolations,
        *isolate.on_trial(on_trial, shared),
        *isolate.undecided(service.name, facts.undecided),
        *isolate.unheard(service.name, standings, f"{service.name} {isolate.MONITOR_KEY}" in facts.told),
        *notice.decide(service.name, standings, facts.conditions),
        *restart.condemn(service, standings, shared, facts.bucket, now),
        *(renew.decide(desired, standings) if room.replaces else ()),
        *replicate.decide(desired, standings, room, now),
    ]
    decisions = _one_each(found)
    bucket = restart.spent(facts.bucket, len(standings), decisions, now)
    look_again_at = min(
        restart.look_again_at(service, standings, facts.bucket, now),
        replicate.next_step_at(desired, standings, room) if facts.dependencies_ready else float("inf"),
    )
    return Plan(tuple(decisions), bucket, look_again_at, shared_at)


def _arms(desired: Desired, standings: Sequence[Standing]) -> tuple[Sequence[Standing], Sequence[Standing]]:
    """The replicas of the release that counts, and those that another one runs beside it."""
    other = desired.other
    if other is None or desired.rollout is None or desired.rollout.in_place:
        return standings, ()
    beside = [one for one in standings if one.slot.number in other.slots]
    return [one for one in standings if one not in beside], beside


def _leaving(desired: Desired, standings: Sequence[Standing], stays: Collection[int]) -> frozenset[int]:
    """The slots that are emptied by command, be it in this turn."""
    kept = {one.slot.number for one in standings if desired.wants(one.slot.number)}.union(stays)
    return frozenset({one.slot.number for one in standings} - kept.difference(desired.drained))


def _duty(facts: Facts, now: float) -> take_over.Plan:
    """Who is active; of an active-active service every replica may run."""
    desired = facts.desired
    if not desired.service.one_active:
        return take_over.Plan(runs=frozenset(one.slot.number for one in facts.standings))
    return take_over.decide(desired, facts.standings, facts.term, now)


def shared_signs(
    standings: Sequence[Standing], replicas: int, before: Collection[Sign] = frozenset()
) -> frozenset[Sign]:
    """What half of the replicas or more have in common: those included that are isolated or being ended for it, and
    those whose last answer looked the same though it is too little for a verdict on them. `before`: what was shared in
    the turn before.
    """
    shared = scope.shared_signs([_sign(standing) for standing in standings if standing.live], replicas)
    if _culprits(standings):
        return shared - {Sign.REQUESTS}
    shares = [standing.failing_share for standing in standings if standing.serving]
    if scope.failing_together(shares, replicas, already=Sign.REQUESTS in before):
        shared |= {Sign.REQUESTS}
    return shared


def common_causes(standings: Sequence[Standing], replicas: int) -> tuple[Common, ...]:
    """What half of the replicas or more show at one endpoint; not what the culprits alone fail."""
    found = scope.common([standing.failing for standing in standings if standing.serving], replicas)
    culprits = _culprits(standings)
    return tuple(one for one in found if one.sign is not Sign.REQUESTS or one.replicas > len(culprits))


def _of_one_release(signs: Collection[Sign], beside: Sequence[Standing]) -> frozenset[Sign]:
    """Those of the signs that the replicas of the other release could show, and do not."""
    found = set()
    for sign in signs:
        able = [one for one in beside if one.serving and (sign not in CLIENTS or one.failing_share is not None)]
        if able and not any(_shows(one, sign) for one in able):
            found.add(sign)
    return frozenset(found)


def _shows(standing: Standing, sign: Sign) -> bool:
    fails = sign is Sign.REQUESTS and (standing.failing_share or 0.0) >= scope.STILL_SHARED_SHARE
    return fails or _sign(standing) is sign or any(one.sign is sign for one in standing.failing)


def _waiting_together(standings: Sequence[Standing], common: Sequence[Common]) -> frozenset[Sign]:
    """Who does not answer what half of the replicas are slow at is not stuck: all wait for the same."""
    slow = {one.endpoint for one in common if one.sign is Sign.SLOW}
    verdicts = [one.verdict for one in standings if one.verdict is not None and one.verdict.sign is Sign.STALLED]
    together = any(sampled.ALL in slow or one.endpoint.removeprefix(CONFIRMING) in slow for one in verdicts)
    return frozenset({Sign.STALLED}) if together else frozenset()


def _culprits(standings: Sequence[Standing]) -> frozenset[int]:
    """The serving replicas that fail while others are well; those that had too few requests are neither."""
    asked = [
        scope.Asked(standing.failing_share, standing.failed, standing.asked)
        for standing in standings
        if standing.serving and standing.failing_share is not None
    ]
    return scope.culprits(asked)


def _sign(standing: Standing) -> Sign | None:
    if standing.verdict is not None and (standing.serving or standing.state_is(State.ISOLATED)):
        return standing.verdict.sign
    if standing.state_is(State.ISOLATED, State.STOPPING) and standing.conviction is not None:
        return standing.conviction.sign
    return standing.hint if standing.serving else None


def _one_each(found: Sequence[Decision]) -> list[Decision]:
    """The first change for each slot, and every note."""
    taken: set[str] = set()
    kept: list[Decision] = []
    for decision in found:
        if not isinstance(decision.change, Note):
            if decision.subject in taken:
                continue
            taken.add(decision.subject)
        kept.append(decision)
    return kept
