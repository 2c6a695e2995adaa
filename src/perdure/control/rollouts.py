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

from perdure.control import arms, contest, persist, release_records
from perdure.control.applying import MOVING
from perdure.control.controller import Controller
from perdure.control.release_records import Records
from perdure.control.tell import Tell
from perdure.control.trials import Trials
from perdure.control.world import ServiceState, World
from perdure.model.errors import ConfigError, ConflictError, PerdureError, UnavailableError
from perdure.model.event import Event, Severity
from perdure.model.owner import Handover
from perdure.model.release import ENDED, UNDER_WAY, Phase, Rollout
from perdure.model.replica import Slot
from perdure.ports.clock import Clock
from perdure.ports.store import Document
from perdure.recover import roll_out
from perdure.recover.rollout_facts import Evidence, Facts, Group, Move, Side

LOOK_S = 0.1
REST_S = 1.0
GAP_S = 3.0
"""Two looks that are further apart are not two of one run."""
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
    accused_at: float | None = None
    """Since when something speaks against the new release that a common cause would show as well."""
    old_troubled_at: float = -math.inf
    """When a replica of the old release was ill or dead last."""
    excused: int = 0
    """Ends of replicas of the new release that those of the old one shared."""
    looked_at: float = math.inf
    """When it was looked at last."""

    def wake(self, rollout: Rollout, now: float) -> None:
        """What passed since the last look counts for nothing when that is long ago: the daemon did not run, or the
        store took no write.
        """
        gap_s, self.looked_at = now - self.looked_at, now
        if gap_s < GAP_S:
            return
        self.progress_at = min(now, max(self.progress_at, rollout.progress_at, rollout.phase_at) + gap_s)
        self.ill_together_at = min(now, self.ill_together_at + gap_s)
        self.accused_at = min(now, self.accused_at + gap_s) if self.accused_at is not None else None
        self.alone_since_at = min(now, self.alone_since_at + gap_s) if self.alone_since_at is not None else None


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
        memory.wake(rollout, now)
        new = arms.side(service, rollout.new, now)
        if service.desired.service.one_active and rollout.phase not in (Phase.STARTING, Phase.TESTING):
            new = arms.active(new, service, rollout.new)
        at_ease = new.serving > 0 or arms.rests(service, rollout.new)
        memory.alone_since_at = None if at_ease else memory.alone_since_at or now
        if rollout.phase not in UNDER_WAY and memory.alone_since_at is not None:
            new = replace(new, ill_s=now - memory.alone_since_at)
        before = arms.before(rollout)
        if any(arms.troubled(service, number, before) for number in before.slots):
            memory.old_troubled_at = now
        deaths = arms.deaths(service, rollout.new, memory.restarts)
        if now - memory.old_troubled_at < roll_out.STANDS_S:
            memory.excused = deaths
        new = replace(new, deaths=deaths - min(deaths, memory.excused))
        old = replace(arms.side(service, before, now), deaths=arms.deaths(service, rollout.old, memory.restarts))
        if service.desired.service.one_active:
            old = arms.active(old, service, rollout.old)
        evidence = service.contest.evidence(rollout) if service.contest is not None else Evidence()
        untested = rollout.under_way or not rollout.tested
        tests = self.trials.of(service, rollout) if untested and _testable(rollout, new) else roll_out.UNTESTED
        if tests.failed and now - memory.old_troubled_at < roll_out.STANDS_S:
            self.trials.forget(service.name)  # what both need was away: they are tried again
            tests = roll_out.UNTESTED
        known = Facts(
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
        began_at = now if memory.accused_at is None else memory.accused_at
        memory.accused_at = began_at if roll_out.accused(known) else None
        stands = now - began_at >= roll_out.STANDS_S and began_at - memory.old_troubled_at > roll_out.STANDS_S
        return replace(known, stands=stands)

    def _remembered(self, service: ServiceState, rollout: Rollout, now: float) -> Memory:
        memory = self._memories.get(service.name)
        if memory is None or (memory.number, memory.attempt) != (rollout.number, rollout.attempt):
            memory = Memory(rollout.number, rollout.attempt, progress_at=now)
            self._memories[service.name] = memory
        for arm in (rollout.old, rollout.new):
            for number in arm.slots:
                slot = service.slots.get(number)
                if slot is not None and (arm.release, number) not in memory.restarts and arms.is_of(slot, arm):
                    memory.restarts[arm.release, number] = slot.history.restarts
        return memory

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
        elif rollout.phase is Phase.SHARING and service.contest is not None:
            known = service.contest.comparison is not None or rollout.usual is None
            usual = service.contest.usual() if known else rollout.usual
            rollout = replace(rollout, usual=usual)  # for a daemon that does not know what came before
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
        one = next((slot for slot in slots if arms.is_of(slot, rollout.new)), None)
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


def _moves(service: ServiceState) -> bool:
    rollout = service.desired.rollout
    return rollout is not None and (rollout.phase in MOVING or rollout.phase is Phase.WATCHING)


def _testable(rollout: Rollout, new: Side) -> bool:
    return rollout.phase in (Phase.TESTING, Phase.SHARING, Phase.WATCHING) and new.serving > 0


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
