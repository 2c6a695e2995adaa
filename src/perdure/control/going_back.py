"""Going back to older data: what it would cost is shown first, and what was live is kept, so that it can be undone.

A plan restores a snapshot aside, checks it, and compares it with what is live; nothing that serves is touched. Its
token names what would be lost, and must be given back for anything to happen. Then the present is copied (the safety
snapshot), the command is written down, and from there on the loop carries it out (`recover.take_over`, `own`), whoever
dies. Here is watched what comes of it: it is done when a replica serves with these data, and taken back when none can.
The rows that only the replaced state had are written to a file afterwards, for `rescue`.

Undoing is the same with what was kept: nothing has to be restored, and what was written since is shown before it is
lost. Hard cases: a replica that cannot run with the present data must not be needed for any of it; what is live may be
damaged, so that nothing can be said of the loss, and no safety snapshot can be taken: it is kept as it is.
Neighbours: `moments` finds the snapshot, `preserve` works with the keeper, `api_snapshots` serves it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from perdure.control import moments, rollback_commands
from perdure.control.controller import Controller
from perdure.control.preserve import Preserver
from perdure.control.rollback_documents import PLAN_LASTS_S, Plan, document
from perdure.control.world import ServiceState, SlotState
from perdure.model.errors import (
    ConfigError,
    ConflictError,
    CorruptionError,
    PerdureError,
    RefusedError,
    UnavailableError,
)
from perdure.model.event import Severity
from perdure.model.replica import SERVING, State
from perdure.model.rollback import Outcome, Rollback, undoable
from perdure.model.snapshot import Pin, StateKind
from perdure.ports.keeper import aside_of
from perdure.recover import take_over

LOOK_S = 0.2
UNDO_S = 7 * 86_400.0
CONFLICTS_TOLD = 20
TAKEN = SERVING | {State.DRAINING, State.ISOLATED}
"""A replica in one of these states has answered its checks with the data that it has."""
RESCUE_AGAIN_S, RESCUE_TRIES = 30.0, 5
TRIES = 2
"""So many replicas in a row must fail with the older data before they are taken back."""


@dataclass(slots=True)
class Rollbacks:
    """Plans, carries out and watches; a service has one plan at a time."""

    preserver: Preserver
    controller: Controller
    learned: Callable[[int], Awaitable[None]]
    """Returns when the loop knows what was wanted at a revision of the store."""
    _plans: dict[str, Plan] = field(default_factory=dict)
    _tidied: dict[str, frozenset[str]] = field(default_factory=dict)
    """Service -> what was left beside the slots when it was tidied last."""
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    """Service -> who works beside its slots: a plan, or what comes of the last one."""
    _failures: dict[str, int] = field(default_factory=dict)
    """Service -> failures of the owner's slot when its trial with older data began."""
    _rescues: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    """Service -> of which rollback the lost rows are being written down, how often that was tried, when next."""
    _told: dict[str, str] = field(default_factory=dict)
    """Service -> what does not work just now."""

    # What is asked

    async def plan(self, name: str, to: str) -> dict[str, Any]:
        """Restore the snapshot that `to` means (`moments`) aside, and say what going back to it would cost."""
        async with self._alone(name):
            service, slot = self._owner(name)
            chosen = moments.find(await self.preserver.keeper.kept(name), to, self.preserver.clock.wall(), name)
            source = self.preserver.source(service, slot)
            rollback = self._next(service, slot, base=chosen.manifest.id)
            self._plans.pop(name, None)
            self._tidied.pop(name, None)
            await self._tidy(service)
            del self._tidied[name]  # there will be more
            service.preserved.relied_on |= {chosen.manifest.id}
            manifest = await self.preserver.keeper.restore(source, chosen.manifest.id, rollback.incoming)
            return await self._planned(service, slot, rollback, manifest.taken_at)

    async def plan_undo(self, name: str) -> dict[str, Any]:
        """Say what undoing the last rollback would cost."""
        async with self._alone(name):
            return await self._plan_undo(name)

    async def _plan_undo(self, name: str) -> dict[str, Any]:
        service, slot = self._owner(name)
        last = next(iter(undoable(service.desired.rollbacks, self.preserver.clock.wall())), None)
        if last is None:
            was = service.desired.rollback
            hint = (
                f"perdure restore {name} --to {was.safety}" if was and was.safety else f"perdure snapshot list {name}"
            )
            raise RefusedError(f"there is nothing to undo for {name}: nothing that was replaced is kept", hint)
        undo = self._next(service, slot, base=last.safety)
        rollback = replace(undo, incoming=last.outgoing, undoes=last.number)
        return await self._planned(service, slot, rollback, last.at)

    async def carry_out(self, name: str, token: str, without_safety: bool = False) -> list[str]:
        """Do what was planned; `token` must be the plan's. Returns when it is written down. `without_safety`: also if
        what is live cannot be copied; it is kept as it is in any case."""
        async with self._alone(name):
            return await self._carry_out(name, token, without_safety)

    async def _carry_out(self, name: str, token: str, without_safety: bool) -> list[str]:
        service, slot = self._owner(name)
        plan = self._plans.get(name)
        again = f"perdure restore {name} --to ..., or: perdure undo {name}"
        if plan is None or self.preserver.clock.now() > plan.made_at + PLAN_LASTS_S:
            raise RefusedError(f"there is no plan for {name} to carry out, or it is too old", again)
        if token != plan.token:
            raise RefusedError(f"{token!r} is not the token of the plan for {name}", again)
        if (plan.rollback.slot, plan.rollback.number) != (slot.slot.number, self._next_number(service)):
            raise ConflictError(f"another slot of {name} is the owner now, or its data were exchanged", again)
        async with self.preserver.at_rest(service):
            safety = await self._saved(service, slot, plan.rollback, without_safety)
            rollback = replace(plan.rollback, safety=safety)
            sentences = await rollback_commands.ask(self.controller, name, rollback)
            await self.learned(self.controller.revision)  # from now on the command itself holds everything
        self._plans.pop(name, None)
        safety = f" (snapshot {rollback.safety})" if rollback.safety else ""
        return [*sentences, f"what is live now is kept for 7 days{safety}: perdure undo {name}"]

    async def rescue(self, name: str, tables: list[str]) -> list[str]:
        """Put the rows back that the last rollback lost; those of some tables, or all."""
        service, slot = self._owner(name)
        last = service.desired.rollback
        state = service.desired.service.state
        if (
            last is not None
            and last.outcome is Outcome.DONE
            and state is not None
            and state.kind is not StateKind.SQLITE
        ):
            sentence = f"the state of {name} has no rows: it is of the kind {state.kind.value}"
            raise RefusedError(sentence, f"what {last.name} replaced is kept in {last.outgoing}")
        if last is None or last.outcome is not Outcome.DONE or not last.rescue_file:
            hint = f"perdure restore {name} --to ..., or: perdure events {name}"
            raise RefusedError(f"there are no rows of {name} that could be rescued", hint)
        if last.rescued is None:
            sentence = f"the rows that {last.name} lost are still being written to a file"
            raise UnavailableError(sentence, f"try again when an event (D15) says so: perdure events {name}")
        source = self.preserver.source(service, slot)
        count, conflicts = await self.preserver.keeper.reinsert(source, last.rescue_file, tables)
        sentence = f"{count:,} of {last.rescued:,} rows are back in {name}"
        if not conflicts:
            return [sentence]
        more = [f"  and {len(conflicts) - CONFLICTS_TOLD:,} more"] if len(conflicts) > CONFLICTS_TOLD else []
        return [sentence, "what could not be put back:", *(f"  {one}" for one in conflicts[:CONFLICTS_TOLD]), *more]

    # What comes of it

    async def run(self) -> None:
        """Watch the rollbacks of all services, for ever."""
        clock = self.preserver.clock
        while True:
            for service in list(self.preserver.world.services.values()):
                if service.desired.service.state is not None and not service.removed:
                    await self.step(service)
            await clock.sleep_until(clock.now() + LOOK_S)

    async def step(self, service: ServiceState) -> None:
        """Look at one service: conclude what has come to its end, and remove what is not kept any longer."""
        lock = self._alone(service.name)
        if lock.locked():
            return
        plan = self._plans.get(service.name)
        if plan is not None and self.preserver.clock.now() > plan.made_at + PLAN_LASTS_S:
            del self._plans[service.name]
        try:
            async with lock:
                await self._watch(service)
                if not take_over.goes_back(service.desired, service.term):
                    await self._tidy(service)
        except PerdureError as error:
            if self._told.get(service.name) != error.sentence:
                self._told[service.name] = error.sentence
                self.preserver.tell("D16", service.name, error.sentence, Severity.WARNING, {"hint": error.hint})
        else:
            self._told.pop(service.name, None)

    async def _watch(self, service: ServiceState) -> None:
        """A replica has taken these data once it has answered its checks in this term; drained by command, it may get
        no requests."""
        rollback, owner = service.desired.rollback, service.slots.get(service.term.owner or 0)
        if rollback is None or owner is None or rollback.number != service.term.rollback:
            return
        if rollback.outcome is Outcome.DONE and rollback.rescue_file and rollback.rescued is None:
            await self._rescue(service, owner, rollback)
        if rollback.outcome is not Outcome.OPEN:
            self._failures.pop(service.name, None)
            return
        failures = owner.history.failures
        before = min(failures, self._failures.setdefault(service.name, failures))
        self._failures[service.name] = before
        replica = owner.replica
        settled = replica is not None and replica.epoch == service.term.epoch and replica.state in TAKEN
        if service.term.data_epoch < rollback.data_epoch:
            sentence = f"{rollback.name} has failed: nothing was exchanged"
            await self._conclude(service, replace(rollback, outcome=Outcome.FAILED), sentence)
        elif settled or not rollback.trial:
            done = replace(rollback, outcome=Outcome.DONE, rescue_file=self._rescue_file(service, owner, rollback))
            sentence = f"{rollback.name} is done: {owner.slot} has {rollback.target}"
            await self._conclude(service, done, sentence)
        elif failures >= before + TRIES:
            await self._taken_back(service, owner, rollback)

    async def _taken_back(self, service: ServiceState, owner: SlotState, rollback: Rollback) -> None:
        """Nobody can serve with these data: what was live before is live again."""
        sentence = f"cannot serve {rollback.target}: what was live before is put back"
        self.preserver.tell("D13", str(owner.slot), sentence, Severity.ALARM, {"rollback": rollback.name})
        next_one = self._next(service, owner, base="")
        back = replace(next_one, incoming=rollback.outgoing, undoes=rollback.number, trial=False)
        async with self.preserver.at_rest(service):
            await rollback_commands.ask(self.controller, service.name, back)
            await self.learned(self.controller.revision)

    async def _rescue(self, service: ServiceState, owner: SlotState, rollback: Rollback) -> None:
        """Write down the rows that only the replaced state had; what does not work is tried again some times."""
        number, tries, again_at = self._rescues.get(service.name, (rollback.number, 0, 0.0))
        tries = tries if number == rollback.number else 0
        if tries and self.preserver.clock.now() < again_at:
            return
        again_at = self.preserver.clock.now() + RESCUE_AGAIN_S
        self._rescues[service.name] = (rollback.number, tries + 1, again_at)
        try:
            await self._rescued(service, owner, rollback)
        except PerdureError as error:
            if tries + 1 < RESCUE_TRIES:
                raise
            sentence = f"the rows that {rollback.name} lost could not be written to a file: {error.sentence}"
            self.preserver.tell("D14", service.name, sentence, Severity.WARNING, {"hint": f"see {rollback.outgoing}"})
            await self._conclude(service, replace(rollback, rescue_file=""), f"{rollback.name}: no rows can be rescued")

    async def _rescued(self, service: ServiceState, owner: SlotState, rollback: Rollback) -> None:
        keeper, source = self.preserver.keeper, self.preserver.source(service, owner)
        then = f"{aside_of(source)}/{rollback.name}-then"
        kept = self._left(service)
        await keeper.tidy(source, sorted(kept))  # what was left of it before
        await keeper.restore(source, rollback.base, then)
        replaced = replace(source, directory=rollback.outgoing, pid=None)
        rows = await keeper.rescue(replaced, then, rollback.rescue_file)
        sentence = f"the {rows:,} rows that {rollback.name} lost can be put back: perdure rescue {service.name}"
        self.preserver.tell("D15", service.name, sentence, facts={"rows": rows})
        await self._conclude(service, replace(rollback, rescued=rows), f"{rollback.name}: {rows:,} rows can be rescued")
        await keeper.tidy(source, sorted(kept))

    # How it is done

    async def _planned(
        self, service: ServiceState, slot: SlotState, rollback: Rollback, taken_at: float
    ) -> dict[str, Any]:
        source = self.preserver.source(service, slot)
        await self.preserver.keeper.switchable(source, rollback.incoming, rollback.outgoing)
        loss = await self.preserver.keeper.compare(source, rollback.incoming, taken_at)
        names = f"{service.name} {rollback.name} {rollback.incoming} {loss}"
        token = f"{rollback.name}-{hashlib.sha256(names.encode()).hexdigest()[:4]}"
        plan = Plan(rollback, token, loss, taken_at, self.preserver.clock.now())
        self._plans[service.name] = plan
        return document(service.name, plan)

    async def _saved(self, service: ServiceState, slot: SlotState, rollback: Rollback, without_safety: bool) -> str:
        """Copy what is live; its id, or nothing when it is damaged, which may be why somebody goes back."""
        try:
            manifest = await self.preserver.take(service, slot)
        except PerdureError as error:
            if not without_safety and not isinstance(error, CorruptionError):
                hint = f"{error.hint}; or, to keep what is live only as it is: add --without-safety".removeprefix(
                    "; or, "
                )
                raise UnavailableError(f"no safety snapshot can be taken: {error.sentence}", hint) from error
            sentence = f"no safety snapshot can be taken, so what is live is kept only as it is: {error.sentence}"
            self.preserver.tell("D17", str(slot.slot), sentence, Severity.WARNING)
            return ""
        pin = Pin(rollback.undo_until, f"what {rollback.name} replaced")
        await self.preserver.keeper.note(service.name, manifest.id, pin, None)
        return manifest.id

    async def _conclude(self, service: ServiceState, rollback: Rollback, sentence: str) -> None:
        await rollback_commands.conclude(self.controller, service.name, rollback, sentence)
        await self.learned(self.controller.revision)

    def _next_number(self, service: ServiceState) -> int:
        """One that no rollback had, also where the service was declared anew."""
        last = service.desired.rollback
        return max(last.number if last is not None else 0, service.term.rollback) + 1

    def _next(self, service: ServiceState, slot: SlotState, base: str) -> Rollback:
        number = self._next_number(service)
        histories = [service.term.data_epoch, *(one.manifest.data_epoch for one in service.preserved.kept)]
        directory = aside_of(self.preserver.source(service, slot))
        wall = self.preserver.clock.wall()
        return Rollback(
            number,
            slot.slot.number,
            f"{directory}/r{number}-new",
            f"{directory}/r{number}-old",
            max(histories) + 1,
            base,
            at=wall,
            undo_until=wall + UNDO_S,
        )

    def _rescue_file(self, service: ServiceState, slot: SlotState, rollback: Rollback) -> str:
        """Where the lost rows go; empty when the state has no rows, or it is not known what the other one had."""
        state = service.desired.service.state
        if state is None or state.kind is not StateKind.SQLITE or not rollback.base:
            return ""
        return f"{aside_of(self.preserver.source(service, slot))}/{rollback.name}-rows"

    def _alone(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _left(self, service: ServiceState) -> frozenset[str]:
        """What is kept beside the slots."""
        plan, wall = self._plans.get(service.name), self.preserver.clock.wall()
        kept = {plan.rollback.incoming} if plan is not None else set()
        for one in service.desired.rollbacks:
            if wall < one.undo_until or one.outcome is Outcome.OPEN:
                kept |= {one.incoming, one.outgoing, one.rescue_file}
        return frozenset(kept - {""})

    def _needed(self, service: ServiceState) -> frozenset[str]:
        """Snapshots that are restored sooner or later: that of a plan, and what the lost rows are told by."""
        plan, last = self._plans.get(service.name), service.desired.rollback
        bases = {plan.rollback.base} if plan is not None else set()
        if last is not None and (last.outcome is Outcome.OPEN or (last.rescue_file and last.rescued is None)):
            bases.add(last.base)
        return frozenset(bases - {""})

    async def _tidy(self, service: ServiceState) -> None:
        """Remove what is not kept any longer, when that has changed."""
        service.preserved.relied_on = self._needed(service)
        kept = self._left(service)
        if self._tidied.get(service.name) == kept:
            return
        for slot in list(service.slots.values()):
            await self.preserver.keeper.tidy(self.preserver.source(service, slot), sorted(kept))
        self._tidied[service.name] = kept

    def _owner(self, name: str) -> tuple[ServiceState, SlotState]:
        """The service, and the slot that holds its data; its replica need not run."""
        service = self.preserver.world.services.get(name)
        if service is None:
            known = ", ".join(sorted(self.preserver.world.services)) or "none"
            raise ConfigError(f"there is no service {name!r} (there are: {known})", "perdure status")
        if service.desired.service.state is None:
            sentence = f"{name} declares no state, so there is nothing to go back to"
            raise RefusedError(sentence, f"add [service.{name}.state]: perdure docs state")
        last = service.desired.rollback
        if last is not None and last.outcome is Outcome.OPEN:
            raise ConflictError(f"{last.name} of {name} is being carried out", f"wait for it: perdure status {name}")
        slot = service.slots.get(service.term.owner or 0)
        if slot is None:
            raise UnavailableError(f"no slot of {name} was active yet", f"perdure explain {name}")
        return service, slot
