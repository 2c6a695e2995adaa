"""From what the file declares to what is wanted: what applies at once, and what would be another release. Pure.

`controller` writes what this makes. Replicas, checks, limits, retries and the like apply to what runs; another command,
environment or set of files is another release, and only `perdure deploy` lets it in.
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from perdure.control import persist, release_records
from perdure.model.errors import ConflictError, RefusedError
from perdure.model.release import UNDER_WAY, Phase, Rollout, number_of
from perdure.model.rollback import Outcome
from perdure.model.service import Deployment, Service
from perdure.model.standing import Desired
from perdure.ports.store import Record

ANOTHER_MODE = "take it out of the file and run `perdure reload`, then put it back and run `perdure reload`"
MOVING = frozenset({*UNDER_WAY, Phase.RECALLED, Phase.GOING_BACK})


def refuse(known: Mapping[str, Record], deployment: Deployment) -> None:
    """Raise what stands against applying the file: RefusedError for another release of what runs, ConflictError for a
    change in the middle of a rollout or while data go back.
    """
    wanted: dict[str, str] = {}
    for service in deployment.services:
        record = known.get(persist.service_key(service.name))
        if record is None:
            continue
        before = persist.read_desired(record.value)
        same_mode(before, service)
        differ = release_records.differences(before.service, service)
        if differ and not before.stopped:
            wanted[service.name] = ", ".join(differ)
        elif applied(service, record, 0)[1]:
            settled(before, service.name)
            _not_going_back(before, service)
    if wanted:
        told = "; ".join(f"{name} ({what})" for name, what in wanted.items())
        raise RefusedError(f"this would be another release of {told}", f"perdure deploy {' '.join(wanted)}")


def same_mode(before: Desired, service: Service) -> None:
    """Raise ConflictError when what runs would become active-passive, or active-active: replicas of the two never run
    side by side.
    """
    if before.service.mode is not service.mode and not before.stopped:
        raise ConflictError(
            f"{service.name} runs as {before.service.mode}, and cannot become {service.mode}", ANOTHER_MODE
        )


def applied(service: Service, record: Record | None, last_release: int) -> tuple[Desired, str]:
    """What is wanted after applying a declared service, and a sentence if that is a change.

    `last_release` is the highest number that one of its releases had, or 0, also when it was declared before: replicas
    may still be finishing, and a name must not mean two things.
    """
    if record is None:
        release = f"{service.name}@{last_release + 1}"
        return Desired(service, release, service.replicas), f"{service.name} is new: it is started"
    before = persist.read_desired(record.value)
    if before.stopped and not release_records.same(before.service, service):
        release = f"{service.name}@{next_release(before, last_release)}"
        after = replace(before, service=service, release=release, stopped=False, rollout=None)
        return scaled(after, service.replicas), f"{service.name} is started as {release}"
    may = before.stopped or before.service.mode is service.mode
    carried = release_records.kept(before.service, service) if may else before.service
    rollout = before.rollout and _followed(before.rollout, before.service, carried)
    after = scaled(replace(before, service=carried, stopped=False, rollout=rollout), service.replicas)
    if after == before:
        return before, ""
    sentence = f"{service.name} is changed without touching its replicas"
    if before.stopped:
        sentence = f"{service.name} is started"
    elif before.replicas != service.replicas:
        sentence = f"{service.name} is scaled from {before.replicas} to {service.replicas}"
    return after, sentence


def _followed(rollout: Rollout, before: Service, after: Service) -> Rollout:
    """The same rollout with what was changed since in both its releases: going back must not undo it. What is asked of
    the one that runs is not asked of the other one.
    """
    changed = {one.name: getattr(after, one.name) for one in fields(Service)}
    changed = {name: value for name, value in changed.items() if getattr(before, name) != value}
    both = {name: value for name, value in changed.items() if name not in release_records.TOLD_BY}
    old, new = (
        replace(arm, service=replace(arm.service, **(changed if arm.service == before else both)))
        for arm in (rollout.old, rollout.new)
    )
    return replace(rollout, old=old, new=new)


def resumed(after: Desired, before: Desired, service: Service, sentence: str) -> tuple[Desired, str]:
    """The same for a daemon that has just started."""
    moving = before.rollout is not None and before.rollout.phase in MOVING
    if moving and not before.stopped:
        return before, ""
    if before.service == after.service and not before.stopped:
        after, sentence = before, ""
    return after, sentence


def declares_more(desired: Desired, service: Service) -> tuple[str, str]:
    """What the file says of a service that runs and is not done: its name, and a sentence; empty: nothing."""
    if desired.service.mode is not service.mode and not desired.stopped:
        what = f"the file declares it as {service.mode}: {ANOTHER_MODE}"
        return service.name, f"{service.name} goes on as {desired.service.mode}; {what}"
    differ = release_records.differences(desired.service, service)
    if not differ or (desired.rollout is not None and desired.rollout.phase in MOVING):
        return service.name, ""
    what = f"the file declares another release ({', '.join(differ)}): perdure deploy {service.name}"
    return service.name, f"{service.name} goes on with {desired.release}; {what}"


def scaled(desired: Desired, count: int) -> Desired:
    """The same with another number of replicas; slots that stay keep their numbers."""
    if count == desired.replicas:
        return desired
    slots = desired.numbers[:count]
    other = desired.other
    taken = {*slots, *(other.slots if other is not None else ())}
    free = (number for number in range(1, count + len(taken) + 1) if number not in taken)
    while len(slots) < count:
        slots = (*slots, next(free))
    placed = () if slots == tuple(range(1, count + 1)) else slots
    drained = tuple(number for number in desired.drained if number in slots)
    rollout = desired.rollout and _scaled_with(desired.rollout, slots)
    return replace(desired, replicas=count, placed=placed, drained=drained, rollout=rollout)


def _scaled_with(rollout: Rollout, slots: tuple[int, ...]) -> Rollout:
    """What a service is scaled to while a release is watched is what the release before comes back with."""
    old, new, count = rollout.old, rollout.new, len(slots)
    if new.service.one_active:
        return rollout
    if rollout.phase is Phase.WATCHING:
        return replace(
            rollout, replicas=count, new=replace(new, slots=slots), old=replace(old, slots=old.slots[:count])
        )
    if rollout.phase is Phase.GOING_BACK and (rollout.in_place or not new.slots):
        return replace(rollout, replicas=count, old=replace(old, slots=slots))
    return rollout


def settled(desired: Desired, name: str) -> None:
    """Raise ConflictError while two releases of a service are moving."""
    rollout = desired.rollout
    if rollout is not None and rollout.moving:
        sentence = f"the rollout of {rollout.new.release} ({rollout.phase.value}) is not over"
        hint = (
            f"wait for it, or end it: perdure abort {name}" if rollout.undecided else f"perdure deploy --status {name}"
        )
        raise ConflictError(sentence, hint)


def next_release(desired: Desired, last: int = 0) -> int:
    """The number of the next release; `last` is the highest that is known from elsewhere. A name never means two."""
    rollout = desired.rollout
    arms = [rollout.old.release, rollout.new.release] if rollout is not None else []
    return max([last, *(number_of(one) for one in (desired.release, *arms))]) + 1


def _not_going_back(before: Desired, service: Service) -> None:
    last = before.rollback
    if last is not None and last.outcome is Outcome.OPEN and before.service.state != service.state:
        sentence = f"{last.name} of {service.name} is being carried out, so its [state] cannot be changed now"
        raise ConflictError(sentence, f"wait for it: perdure status {service.name}; then: perdure reload")
