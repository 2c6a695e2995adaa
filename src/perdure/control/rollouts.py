"""Carrying out rollouts: gather what is known of each, decide the next move, and write it before anything is done.

Each move is one compare-and-swap on what is wanted of the service, so a daemon that dies in any of them leaves the
state before or after; the next one goes on from there. The agent learns of the move as of any command, and brings it
about. Neighbours: `releasing` begins rollouts, `recover.roll_out` decides, `contest` has the evidence, `trials` tests.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from perdure.control import contest, persist, release_records
from perdure.control.applying import MOVING
from perdure.control.controller import Controller
from perdure.control.release_records import Records
from perdure.control.tell import Tell
from perdure.control.trials import Trials
from perdure.control.world import ServiceState, SlotState, World
from perdure.model.errors import ConfigError, ConflictError, PerdureError, UnavailableError
from perdure.model.event import Event, Severity
from perdure.model.owner import Handover
from perdure.model.release import ENDED, UNDER_WAY, Arm, Phase, Rollout
from perdure.model.replica import Slot, State
from perdure.ports.clock import Clock
from perdure.ports.store import Document
from perdure.recover import roll_out
from perdure.recover.rollout_facts import Evidence, Facts, Group, Move, Side

LOOK_S = 0.1
REST_S = 1.0
"""While nothing is on trial or on its way back."""
LINES = 20
TOGETHER = "L13"
"""A release that goes back with another service's: nothing is known against it, and it may come again."""

log = structlog.get_logger()


@dataclass(slots=True)
class Memory:
    """What is remembered of a rollout between two looks; not kept beyond the daemon."""

    number: int = 0
    attempt: int = 0
    restarts: dict[tuple[str, int], int] = field(default_factory=dict)
    """Release and slot -> its restarts when this attempt was first seen."""
    alone_since_at: float | None = None
    """Since when no replica of the new release serves, though nobody wanted that."""
    progress_at: float = -math.inf
    """When progress was seen last that is not written down; at first when this attempt was first seen."""
    ill_together_at: float = -math.inf
    """When both releases were ill last."""


@dataclass(slots=True)
class Rollouts:
    """Looks after the rollouts of all services of a world."""

    clock: Clock
    world: World
    controller: Controller
    records: Records
    trials: Trials
    learned: Callable[[int], Awaitable[None]]
    mark: Callable[[str, str], Awaitable[object]]
    """Gives the present data of a service a name."""
    tell: Tell
    last_lines: Callable[[Slot, int], Sequence[str]]
    """The last lines that a slot's replicas wrote."""
    _memories: dict[str, Memory] = field(default_factory=dict)
    _tidied: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _looks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Look after them, for ever; a look that takes long (it marks the data) holds up no other service."""
        try:
            while True:
                try:
                    await self._forget()
                except PerdureError as error:
                    log.warning("the releases of a service that is gone are kept", cause=error.sentence)
                self._look_after_all()
                moving = any(_moves(one) for one in self.world.services.values())
                await self.clock.sleep_until(self.clock.now() + (LOOK_S if moving else REST_S))
        finally:
            for look in self._looks.values():
                look.cancel()

    def _look_after_all(self) -> None:
        for name, look in list(self._looks.items()):
            if look.done():
                self._looks.pop(name).result()  # a bug ends the daemon, as it does elsewhere
        for service in self.world.services.values():
            if service.name not in self._looks and service.desired.rollout is not None:
                self._looks[service.name] = asyncio.create_task(self._looked(service))

    async def _looked(self, service: ServiceState) -> None:
        try:
            await self.look(service)
        except (ConflictError, ConfigError) as error:
            # Somebody else has changed the service, or taken it away: the next look sees it.
            log.info("a rollout was changed meanwhile", service=service.name, cause=error.sentence)
        except PerdureError as error:
            log.warning("a rollout waits", service=service.name, cause=error.sentence)

    async def look(self, service: ServiceState) -> None:
        """Take the move of one service that is due, if there is one."""
        rollout = service.desired.rollout
        if rollout is None or service.desired.stopped or service.removed:
            return
        if rollout.phase in ENDED:
            service.rollout_waits_for = ""
            await self._tidy(service)
            return
        now = self.clock.now()
        if rollout.phase_at > now:
            # Written, or it would begin anew with each look until the machine runs as long as it did before.
            anew = replace(rollout, phase_at=now, progress_at=now)
            await self._write(
                service, Move("L21", anew, "the machine was started: what the rollout waits for begins anew")
            )
            return
        facts = self.facts(service, rollout, now)
        memory = self._memories[service.name]
        memory.progress_at = roll_out.progressed(rollout, facts, now)
        memory.ill_together_at = roll_out.ill_together_at(facts, now)
        service.rollout_waits_for = roll_out.waits_for(rollout, facts, now)
        move = roll_out.decide(rollout, facts, now)
        if move is not None:
            await self._write(service, move)

    def facts(self, service: ServiceState, rollout: Rollout, now: float) -> Facts:
        """What is known of a rollout now."""
        memory = self._remembered(service, rollout, now)
        new = self._side(service, rollout.new, now)
        if service.desired.service.one_active and rollout.phase not in (Phase.STARTING, Phase.TESTING):
            new = _active(new, service, rollout.new)
        at_ease = new.serving > 0 or _rests(service, rollout.new)
        memory.alone_since_at = None if at_ease else memory.alone_since_at or now
        if rollout.phase not in UNDER_WAY and memory.alone_since_at is not None:
            new = replace(new, ill_s=now - memory.alone_since_at)
        new = replace(new, deaths=_deaths(service, rollout.new, memory))
        old = replace(self._side(service, rollout.old, now), deaths=_deaths(service, rollout.old, memory))
        if service.desired.service.one_active:
            old = _active(old, service, rollout.old)
        evidence = service.contest.evidence(rollout) if service.contest is not None else Evidence()
        untested = rollout.under_way or not rollout.tested
        tests = self.trials.of(service, rollout) if untested and _testable(rollout, new) else roll_out.UNTESTED
        return Facts(
            new,
            old,
            rollout.replicas,
            _free(service),
            tests,
            evidence,
            self._group(service, rollout),
            memory.progress_at,
            memory.ill_together_at,
        )

    def _remembered(self, service: ServiceState, rollout: Rollout, now: float) -> Memory:
        memory = self._memories.get(service.name)
        if memory is None or (memory.number, memory.attempt) != (rollout.number, rollout.attempt):
            memory = Memory(rollout.number, rollout.attempt, progress_at=now)
            self._memories[service.name] = memory
        for arm in (rollout.old, rollout.new):
            for number in arm.slots:
                slot = service.slots.get(number)
                if slot is not None and (arm.release, number) not in memory.restarts and _is_of(slot, arm):
                    memory.restarts[arm.release, number] = slot.history.restarts
        return memory

    def _side(self, service: ServiceState, arm: Arm, now: float) -> Side:
        slots = [service.slots[number] for number in arm.slots if number in service.slots]
        own = [slot for slot in slots if _is_of(slot, arm) and slot.live]
        serving = [slot for slot in own if slot.serves or _stands_by(service, slot)]
        since = [_since_at(slot) for slot in serving]
        wanted = sum(number not in service.desired.drained for number in arm.slots)
        whole = len(serving) >= wanted
        # Half of them must be ill: of many, one may be so by itself.
        ranked = sorted(((_ill_s(slot, now), slot) for slot in own), key=lambda pair: -pair[0])
        half = max(0, (wanted + 1) // 2 - 1)
        ill = ranked[half] if half < len(ranked) else None
        why = next((slot.capsule.sentence for slot in slots if _is_of(slot, arm) and slot.capsule is not None), "")
        if ill is not None and ill[0] > 0.0:
            shown = ill[1].conviction or ill[1].verdict
            why = shown.sentence if shown is not None else why
        return Side(
            wanted,
            len(serving),
            sum(slot.live and _is_of(slot, arm) for slot in service.slots.values()),
            max(since, default=0.0) if whole else math.inf,
            convicted=sum(slot.conviction is not None for slot in own),
            ill_s=ill[0] if ill is not None else 0.0,
            ill_for=why,
        )

    def _group(self, service: ServiceState, rollout: Rollout) -> Group:
        others = [self.world.services.get(name) for name in rollout.group if name != service.name]
        ready, failed = True, ""
        for one in others:
            other = one.desired.rollout if one is not None else None
            if one is None or other is None or other.group != rollout.group:
                continue  # it is no longer part of this deploy
            if other.phase in (Phase.GOING_BACK, Phase.ROLLED_BACK, Phase.ABORTED):
                failed = other.new.release
            last = other.phase is Phase.SHARING and other.step == len(other.steps) - 1
            ready = ready and (last or not other.undecided)
        return Group(ready, failed)

    async def _write(self, service: ServiceState, move: Move) -> None:
        record = await self.controller.record(service.name)
        desired = persist.read_desired(record.value)
        if desired != service.desired:
            return  # the loop does not know yet what is wanted now
        rollout = move.rollout
        more: dict[str, Document] = {}
        if (
            rollout.phase is Phase.GOING_BACK
            and desired.rollout is not None
            and desired.rollout.phase is not rollout.phase
        ):
            numbers = rollout.numbers or tuple(contest.figures(service.contest, rollout).items())
            words = _last_words(service, rollout) or self._said(service, rollout)
            rollout = replace(rollout, capsule=words, ended_wall=self.controller.wall(), numbers=numbers)
            more = await self._condemned(service.name, rollout) if move.rule != TOGETHER else {}
        if rollout.phase in (Phase.WATCHING, Phase.DONE) and rollout.ended_wall is None:
            usual = service.contest.usual() if service.contest is not None else None
            rollout = replace(rollout, ended_wall=self.controller.wall(), usual=usual)
        rollout = await self._marked(service, rollout)
        facts = {name: round(value, 4) for name, value in move.facts if isinstance(value, float | int)}
        event = Event(move.rule, service.name, move.sentence, facts, move.severity, self.controller.wall())
        after = roll_out.settled(desired, rollout)
        if move.handover is not None:
            last = desired.handover.number if desired.handover is not None else 0
            after = replace(after, handover=Handover(last + 1, move.handover))
        await self.controller.write(record, after, event, more)
        service.rollout_waits_for = ""
        await self.learned(self.controller.revision)

    def _said(self, service: ServiceState, rollout: Rollout) -> tuple[str, ...]:
        """What a replica of the new release that still runs wrote last."""
        slots = [service.slots[number] for number in rollout.new.slots if number in service.slots]
        one = next((slot for slot in slots if _is_of(slot, rollout.new)), None)
        return tuple(self.last_lines(one.slot, LINES)) if one is not None else ()

    async def _marked(self, service: ServiceState, rollout: Rollout) -> Rollout:
        """Mark the data before the release takes over, and when it has proven itself, so that a restore can name it."""
        begins = rollout.phase is Phase.SHARING and not rollout.markers
        ends = rollout.phase is Phase.WATCHING and len(rollout.markers) == 1
        if service.desired.service.state is None or rollout.back or not (begins or ends):
            return rollout
        word = f"{'before' if begins else 'after'}-{rollout.new.release.replace('@', '-')}"
        try:
            await self.mark(service.name, word)
        except UnavailableError as error:
            if rollout.new.service.deploy.breaks_data and begins:
                raise
            self.tell("L19", service.name, f"no marker {word} could be set: {error.sentence}", Severity.WARNING)
            return rollout
        return replace(rollout, markers=(*rollout.markers, word))

    async def _condemned(self, service: str, rollout: Rollout) -> dict[str, Document]:
        """The record of the release with why it was thrown out, so that the same is not let in again unawares."""
        known = await self.records.of(service)
        release = known.get(rollout.new.release)
        if release is None or rollout.back:
            return {}
        return dict([release_records.document(replace(release, verdict=rollout.ended_for))])

    async def _forget(self) -> None:
        """Drop the releases of services that are not declared any more, when nothing runs of them."""
        for name in [name for name in self._known if name not in self.world.services]:
            await self.records.forget(name)
            self._known.discard(name)
        self._known.update(self.world.services)

    async def _tidy(self, service: ServiceState) -> None:
        """Forget releases beyond those that are kept; what runs, or may be gone back to, stays."""
        live = {slot.replica.release for slot in service.slots.values() if slot.live and slot.replica is not None}
        state = (*await self.records.of(service.name), *sorted(live))
        if self._tidied.get(service.name) == state or self.records.turn.locked():
            return  # who makes a release now may want what would be dropped
        await self.records.tidy(service.name, live, service.desired.service.deploy.keep)
        self._tidied[service.name] = state


def _rests(service: ServiceState, arm: Arm) -> bool:
    """Whether all replicas of a release that do not serve do so because somebody wanted that: they are drained, or
    restarted.
    """
    slots = [service.slots[number] for number in arm.slots if number in service.slots]
    return all(slot.serves or _rests_by_command(service, slot) for slot in slots)


def _rests_by_command(service: ServiceState, slot: SlotState) -> bool:
    if slot.slot.number in service.desired.drained or slot.end_wanted:
        return True
    starts = slot.replica is not None and slot.replica.state is State.STARTING
    return starts and not slot.history.failures


def _moves(service: ServiceState) -> bool:
    rollout = service.desired.rollout
    return rollout is not None and (rollout.phase in MOVING or rollout.phase is Phase.WATCHING)


def _deaths(service: ServiceState, arm: Arm, memory: Memory) -> int:
    """How often replicas of a release ended by themselves, those without a successor included."""
    count = 0
    for (release, number), before in memory.restarts.items():
        slot = service.slots.get(number)
        if release != arm.release or slot is None or not _is_of(slot, arm):
            continue
        ended = slot.replica is not None and not slot.live and not slot.end_wanted
        count += slot.history.restarts - before + ended
    return count


def _active(side: Side, service: ServiceState, arm: Arm) -> Side:
    """Of an active-passive service one replica is enough: the active one."""
    active = [slot for slot in service.slots.values() if slot.serves and _is_of(slot, arm)]
    since_at = max((_since_at(slot) for slot in active), default=math.inf)
    return replace(side, wanted=1, serving=len(active), since_at=since_at)


def _testable(rollout: Rollout, new: Side) -> bool:
    return rollout.phase in (Phase.TESTING, Phase.SHARING, Phase.WATCHING) and new.serving > 0


def _is_of(slot: SlotState, arm: Arm) -> bool:
    return slot.replica is not None and slot.replica.release == arm.release


def _stands_by(service: ServiceState, slot: SlotState) -> bool:
    return service.desired.service.one_active and slot.replica is not None and slot.replica.state is State.PASSIVE


def _since_at(slot: SlotState) -> float:
    return max(at for at in (slot.ready_at, slot.history.readmitted_at, 0.0) if at is not None)


def _ill_s(slot: SlotState, now: float) -> float:
    """For how long a replica has been convicted, or there has been a verdict on it."""
    since = [slot.conviction.at] if slot.conviction is not None else []
    if slot.verdict is not None and slot.verdict_since_at is not None and slot.serves:
        since.append(slot.verdict_since_at)
    return max((now - at for at in since), default=0.0)


def _free(service: ServiceState) -> tuple[int, ...]:
    """Slots that nobody has, those first in which nothing runs any more."""
    taken = {*service.desired.numbers, *service.desired.slots}
    count = 2 * len(taken) + 2 * service.desired.replicas + 2
    free = [number for number in range(1, count) if number not in taken]
    empty = [number for number in free if number not in service.slots or not service.slots[number].live]
    return tuple(empty + [number for number in free if number not in empty])


def _last_words(service: ServiceState, rollout: Rollout) -> tuple[str, ...]:
    """The failure capsule: what the new release wrote last, of the replica that failed last."""
    capsules = [
        slot.capsule
        for slot in service.slots.values()
        if slot.capsule is not None and slot.replica is not None and slot.replica.release == rollout.new.release
    ]
    last = max(capsules, key=lambda one: one.wall_at, default=None)
    return last.lines if last is not None else ()
