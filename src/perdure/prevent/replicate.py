"""Which slots should have a replica, and how a slot gets from what it has to what it should have.

Intuition: compare desired with actual, slot by slot, and take the one step that is due; the next step is decided from
what came of it. Serving replicas leave in three steps (drain, end, begin anew), all others in two. Of the serving ones
only one is replaced at a time, and only while every other slot serves, so a rolling restart never costs more than one
replica of capacity. A replica that does not serve anyway is replaced at once. Which release belongs into which slot is
what a rollout says (`recover.roll_out`); here a slot only gets what it should have.

Hard cases: the only replica of a service (its requests wait in the balancer), an interrupted rolling restart (the
generation is stored, so it goes on), a slot that was drained by a person (it stays out until undrained).
Rejected: starting the new replica before the old one has ended; two processes of one slot would share its files.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from perdure.model.decision import Advance, Begin, Change, Decision, End
from perdure.model.replica import Event, State
from perdure.model.service import Standby
from perdure.model.standing import Desired, Standing


@dataclass(frozen=True, slots=True)
class Room:
    """What may run besides what is wanted."""

    dependencies_ready: bool
    runs: Collection[int]
    """Slots that may have a process; of a cold active-passive service one alone does."""
    leaving: Collection[int] = ()
    """Slots whose replica is being handed over: it stays out of traffic."""
    stays: Collection[int] = ()
    """Slots that are not wanted, but whose replica nobody can replace."""
    replaces: bool = True
    """Whether one that serves may be replaced; not in a turn that isolates another one."""


def decide(desired: Desired, standings: Sequence[Standing], room: Room, now: float) -> list[Decision]:
    """The steps that are due now, at most one for each slot."""
    decisions = [_slot(desired, standing, room, now) for standing in standings]
    decisions.append(_roll(desired, standings) if room.replaces else None)
    return [decision for decision in decisions if decision is not None]


def next_step_at(desired: Desired, standings: Sequence[Standing], room: Room) -> float:
    """The earliest instant at which time alone makes a step due."""
    instants = [float("inf")]
    for standing in standings:
        if standing.live and standing.state_is(State.DRAINING) and standing.replica is not None:
            instants.append(standing.replica.since_at + desired.service.restart.drain_timeout_s)
        elif not standing.live:
            number = standing.slot.number
            if not (desired.wants(number) or number in room.stays) or number not in room.runs:
                continue
            instants.append(_start_at(desired, standing))
    return min(instants)


def _slot(desired: Desired, standing: Standing, room: Room, now: float) -> Decision | None:
    number, replica = standing.slot.number, standing.replica
    if replica is None or not standing.live:
        wanted = desired.wants(number) or number in room.stays
        may = wanted and number in room.runs and room.dependencies_ready
        due = may and now >= _start_at(desired, standing)
        return _decision("P01", standing, "starts a replica", Begin(standing.slot)) if due else None
    if not desired.wants(number) and number not in room.stays:
        return _leave(desired, standing, now, "P02", "is no longer wanted")
    leaves = standing.state_is(State.DRAINING) and standing.fills_soon
    if (desired.outdated(replica) or leaves) and not standing.serving:
        return _leave(desired, standing, now, "P03", "is replaced")
    if standing.state_is(State.STARTING) and not standing.awaits:
        stands_by = desired.service.one_active and not replica.epoch
        event = Event.STOOD_BY if stands_by else Event.ANSWERED
        return _decision("P06", standing, "answered its checks on its own port", Advance(standing.slot, event))
    if number in room.leaving:
        return None
    if number in desired.drained:
        return _drain(desired, standing, now)
    if standing.state_is(State.DRAINING) or (standing.state_is(State.ISOLATED) and standing.conviction is None):
        return _decision("P05", standing, "is no longer drained", Advance(standing.slot, Event.READMITTED))
    return None


def _start_at(desired: Desired, standing: Standing) -> float:
    """When an empty slot may get its next replica: the back-off is that of what failed, and a new release has not
    failed yet.
    """
    renewed = standing.replica is not None and desired.outdated(standing.replica)
    return 0.0 if renewed else standing.history.next_start_at


def _leave(desired: Desired, standing: Standing, now: float, rule: str, why: str) -> Decision | None:
    """One step towards the end of a replica: drain when it serves, end when nothing is in flight or the time is up."""
    if standing.serving:
        return _decision(rule, standing, f"{why}: it is drained", Advance(standing.slot, Event.DRAIN_WANTED))
    if standing.state_is(State.STOPPING):
        return None
    if standing.state_is(State.DRAINING) and not _drained(desired, standing, now):
        return None
    end = End(standing.slot, desired.service.restart.stop_timeout_s, failed=False)
    return _decision(rule, standing, f"{why}: it is ended", end)


def _drain(desired: Desired, standing: Standing, now: float) -> Decision | None:
    """What a person's drain command asks of a slot that is wanted and up to date."""
    if standing.serving:
        return _decision("P04", standing, "is drained by command", Advance(standing.slot, Event.DRAIN_WANTED))
    if standing.state_is(State.DRAINING) and _drained(desired, standing, now):
        return _decision(
            "P07", standing, "has no request in flight any more", Advance(standing.slot, Event.DRAIN_ENDED)
        )
    return None


def _roll(desired: Desired, standings: Sequence[Standing]) -> Decision | None:
    """Start replacing one outdated serving replica, if every other wanted slot serves (or is drained by command)."""
    wanted = [standing for standing in standings if desired.wants(standing.slot.number)]
    outdated = [one for one in wanted if one.serving and one.replica is not None and desired.outdated(one.replica)]
    if not outdated:
        return None
    present = [one for one in wanted if one.slot.number not in desired.drained]
    if not all(one.serving or _stands_by(desired, one) for one in present):
        return None
    first = outdated[0]
    return _decision("P08", first, "is replaced: it is drained", Advance(first.slot, Event.DRAIN_WANTED))


def _stands_by(desired: Desired, standing: Standing) -> bool:
    """Whether it does what a slot of an active-passive service does that is not the owner's."""
    if not desired.service.one_active:
        return False
    if desired.service.standby is Standby.COLD:
        return not standing.live
    return standing.state_is(State.PASSIVE) and standing.replica is not None and not desired.outdated(standing.replica)


def _drained(desired: Desired, standing: Standing, now: float) -> bool:
    assert standing.replica is not None
    if desired.service.listen is None or standing.in_flight == 0:
        return True
    return now >= standing.replica.since_at + desired.service.restart.drain_timeout_s


def _decision(rule: str, standing: Standing, sentence: str, change: Change) -> Decision:
    return Decision(rule, str(standing.slot), sentence, change)
