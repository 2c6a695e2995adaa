"""Preserving state: snapshots of the active replica, those that stand by brought to them, and proofs that they restore.

One task for each service that declares a state, since the keeper does one thing after the other for it anyway: take a
snapshot when one is due, bring every slot that stands by to it, remove what nobody relies on, and restore one aside
when the last proof is too old. What it finds is in `ServiceState.preserved`, for the deciders and for `status`.

Before another slot of this host takes over, the last state of the one that has ended is copied to it (`caught_up`): its
process is gone, but its directory is not, so nothing is lost. When that cannot be read, the slot is left as it is: it
may hold the only copy of the last changes, so it is brought to no snapshot before it was copied itself.

Whoever is about to become active must find its state whole and at rest. So from the decision on nothing else is written
to it (`ServiceState.heir`); what is being written is waited for; and what is given up is ended with its process, for a
call that goes on would write below a replica that starts, or put an old state over its first changes.
Neighbours: `prevent.snapshot` decides, `ports.keeper` does it, `own` asks for the last copy.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from perdure.control import lineage, markers
from perdure.control.attempts import Attempts
from perdure.control.tell import Tell
from perdure.control.world import ServiceState, SlotState, World
from perdure.model.errors import ConflictError, CorruptionError, PerdureError, UnavailableError
from perdure.model.event import Severity
from perdure.model.replica import SERVING, Slot, State
from perdure.model.rollback import Rollback
from perdure.model.snapshot import Manifest, Pin, Proof
from perdure.ports.clock import Clock
from perdure.ports.keeper import EndedError, HalfwayError, Keeper, Source
from perdure.ports.role import Roles
from perdure.prevent import snapshot
from perdure.recover import take_over

LOOK_S = 0.5
CAUGHT_UP_S_MAX = 60.0
"""So long may the last copy before a takeover take."""
UNSAVED_AGAIN_S = 30.0
ASIDE_S = 7 * 86_400.0


@dataclass(slots=True)
class Preserver:
    """Keeps the snapshots of all services; `touch` wakes the loop for a service."""

    clock: Clock
    keeper: Keeper
    world: World
    roles: Roles
    environment: Callable[[SlotState], tuple[tuple[str, str], ...]]
    jitter: Callable[[], float]
    touch: Callable[[str], None]
    changed: Callable[[Slot], None]
    """Has a slot written down before the next decision is carried out."""
    tell: Tell
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _saved_at: dict[str, float] = field(default_factory=dict)
    _unfit: dict[str, str] = field(default_factory=dict)
    """Why a slot was not made active the last time, so that it is told once."""
    _attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.clock)

    async def run(self) -> None:
        """Look after every service that declares a state, for ever."""
        while True:
            for name, task in list(self._tasks.items()):
                if task.done():
                    task.result()  # what it raised was not foreseen, and ends the daemon
                    del self._tasks[name]
            for name, service in self.world.services.items():
                if service.desired.service.state is not None and name not in self._tasks:
                    self._tasks[name] = asyncio.create_task(self.step(name), name=f"preserve {name}")
            await self.clock.sleep_until(self.clock.now() + LOOK_S)

    async def step(self, name: str) -> None:
        """Do for one service what is due."""
        service = self.world.services.get(name)
        if service is None or service.desired.service.state is None or service.removed:
            return
        if service.preserved.held or take_over.goes_back(service.desired, service.term):
            return  # nothing is to be in the way of an exchange while clients wait
        problem: PerdureError | None = None
        for part in (self._known, self._taken, self._followed, self._proven, self._marked):
            if problem is not None and (part == self._marked or not service.preserved.known):
                break
            try:
                await part(service)
            except PerdureError as error:
                problem = problem or error
        if problem is not None:
            self._failed(service, problem)
        else:
            self._works(service)

    async def caught_up(self, service: ServiceState, heir: Slot) -> bool:
        """Bring `heir` to the last state of the slot that was active; False when that could not be done.

        After it could not (`service.lossy`), the heir only gets a whole state. Nothing is written to it any more when
        this returns, whatever it returns.
        """
        number = service.term.owner
        if service.desired.service.state is None or number is None or number == heir.number:
            return True
        state, slot = service.slots.get(number), service.slots[heir.number]
        if service.lossy or state is None:
            why = await self._given_up(service, slot, self._made_whole(service, slot))
            if why and self._unfit.get(str(heir)) != why:
                self.tell("D21", str(heir), f"is not made active, for its state is not whole: {why}", Severity.ALARM)
            self._unfit[str(heir)] = why
            return not why
        why = await self._given_up(service, slot, self._copied(service, state, slot))
        if why:
            state.unsaved = True
            self.changed(state.slot)
            service.preserved.attempt = None  # whether it can be copied again is to be known soon
            self.tell(
                "D05",
                str(state.slot),
                f"the last changes could not be copied from it: {why}",
                Severity.ALARM,
                {"snapshot": _id(service.preserved.applied.get(heir.number))},
            )
        return not why

    async def _copied(self, service: ServiceState, state: SlotState, slot: SlotState) -> None:
        await self.keeper.hurry(service.name)
        manifest = await self.take(service, state)
        await self._brought(service, slot, manifest)
        lineage.applied(
            service, state.slot.number, manifest, self.clock
        )  # what it has, since nobody runs there any more

    async def _made_whole(self, service: ServiceState, slot: SlotState) -> None:
        """Wait for what is being written to a slot; one that is between two snapshots, or at none, gets the newest."""
        found = lineage.owners(service)
        if found and await self.keeper.applied(self.source(service, slot)) is None:
            await self._brought(service, slot, max(found, key=lambda one: (one.epoch, *lineage.order(service, one))))

    async def _given_up(self, service: ServiceState, slot: SlotState, work: Coroutine[None, None, None]) -> str:
        """Do something for an heir in time, or not at all; why not, or nothing. What it holds is looked up then."""
        try:
            async with asyncio.timeout(CAUGHT_UP_S_MAX):
                await work
        except TimeoutError:
            await self.keeper.abandon(service.name)
            why = f"not within {CAUGHT_UP_S_MAX:g} s"
        except PerdureError as error:
            why = error.sentence
        else:
            return ""
        with suppress(PerdureError):
            await self._look_up(service, slot)
        return why

    @asynccontextmanager
    async def at_rest(self, service: ServiceState) -> AsyncIterator[None]:
        """Begins nothing for a service meanwhile, and enters when nothing is under way: no snapshot is taken, followed
        or removed."""
        service.preserved.held += 1
        try:
            task = self._tasks.get(service.name)
            if task is not None:
                await asyncio.wait([task])
            yield
        finally:
            service.preserved.held -= 1

    async def exchanged(self, service: ServiceState, slot: SlotState, rollback: Rollback) -> bool | None:
        """Put older data into a slot where nobody runs. False: it has what it had; None: that is not known yet."""
        try:
            if rollback.slot != slot.slot.number or rollback.data_epoch <= service.term.data_epoch:
                raise ConflictError(f"another slot, or another history, than when {rollback.name} was planned")
            await self.keeper.hurry(service.name)
            await self.keeper.switch(self.source(service, slot), rollback.incoming, rollback.outgoing)
        except (EndedError, HalfwayError, CorruptionError) as error:
            if service.preserved.problem != error.sentence:
                service.preserved.problem = error.sentence
                sentence = f"whether its data were exchanged is not known, and nobody runs on them: {error.sentence}"
                self.tell("D11", str(slot.slot), sentence, Severity.ALARM, {"hint": error.hint})
            return None
        except PerdureError as error:
            sentence = f"its data could not be exchanged, and it serves what it had: {error.sentence}"
            self.tell("D12", str(slot.slot), sentence, Severity.ALARM, {"hint": error.hint})
            return False
        service.preserved.settled.add(slot.slot.number)
        service.preserved.attempt = None  # those who stand by need a snapshot of the new history at once
        return True

    async def take(self, service: ServiceState, slot: SlotState) -> Manifest:
        """Take a snapshot of a slot now; one of another slot than the owner's stands aside, and is kept for a week."""
        term, began_at = service.term, self.clock.now()
        manifest = await self.keeper.take(self.source(service, slot), term.epoch, term.data_epoch)
        service.preserved.born[manifest.id] = began_at
        if slot.slot.number != term.owner:
            pin = Pin(self.clock.wall() + ASIDE_S, snapshot.ASIDE)
            await self.keeper.note(service.name, manifest.id, pin, None)
        service.preserved.kept = tuple(await self.keeper.kept(service.name))
        return manifest

    async def prove(self, service: ServiceState, chosen: str) -> Proof:
        """Restore a snapshot aside, and note what came of it."""
        slot = service.slots.get(service.term.owner or 1)
        if slot is None:
            raise UnavailableError(f"no slot of {service.name} can restore it now", f"perdure explain {service.name}")
        proof = await self.keeper.prove(self.source(service, slot), chosen)
        service.preserved.kept = tuple(await self.keeper.kept(service.name))
        return proof

    def source(self, service: ServiceState, slot: SlotState) -> Source:
        """A slot's state, for the keeper."""
        declared, replica = service.desired.service, slot.replica
        if declared.state is None or self.world.services.get(service.name) is not service:
            raise UnavailableError(f"{service.name} declares no state any more", "perdure status")
        process = replica.process if replica is not None and slot.live else None
        return Source(
            declared.name,
            str(slot.slot),
            self.roles.prepare(declared, str(slot.slot)),
            declared.state,
            self.environment(slot) if replica is not None else (),
            process.pid if process is not None else None,
            declared.user,
            declared.group,
        )

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.keeper.close()

    # What is due

    async def _known(self, service: ServiceState) -> None:
        """Complete what an earlier daemon left half done in slots where nobody runs, then learn what is kept."""
        for number in service.desired.numbers:
            self.world.slot(Slot(service.name, number))
        unsettled = [slot for number, slot in service.slots.items() if number not in service.preserved.settled]
        owner_first = sorted(unsettled, key=lambda slot: slot.slot.number != service.term.owner)
        try:
            await self._attempts.each(service, owner_first, self._settle)
        finally:
            if not service.preserved.known:
                service.preserved.kept = tuple(await self.keeper.kept(service.name))
                service.preserved.known = True

    async def _settle(self, service: ServiceState, slot: SlotState) -> None:
        if not slot.live:
            await self.keeper.recover(self.source(service, slot))
        service.preserved.settled.add(slot.slot.number)
        self.touch(service.name)
        if slot.slot.number != service.term.owner:
            await self._look_up(service, slot)

    async def _taken(self, service: ServiceState) -> None:
        """Take a snapshot of the active replica when one is due."""
        preserved, keeping = service.preserved, service.desired.service.state
        if keeping is None:
            return
        due_at = snapshot.due(preserved.attempt, keeping.every_s, self.jitter())
        owner = service.slots.get(service.term.owner or 0)
        serves = owner is not None and owner.replica is not None and owner.replica.state in SERVING
        if owner is None or not serves or due_at is None or self.clock.now() < due_at or not service.term.holds:
            return
        began_at = self.clock.now()
        failures = preserved.attempt.failures if preserved.attempt is not None else 0
        preserved.attempt = snapshot.Attempt(began_at, None, failures)
        try:
            await self.take(service, owner)
        except PerdureError:
            preserved.attempt = snapshot.Attempt(began_at, self.clock.now(), failures + 1)
            raise
        preserved.attempt = snapshot.Attempt(began_at, self.clock.now())
        owner.unsaved = service.lossy = False
        await self._swept(service)

    async def _followed(self, service: ServiceState) -> None:
        """Bring every slot that stands by to the newest snapshot; then see to those that hold what nobody has."""
        newest = lineage.newest(service)

        async def follow(service: ServiceState, slot: SlotState) -> None:
            number = slot.slot.number
            if number in (service.heir, service.term.owner):
                return  # it became so while another one was brought
            if slot.unsaved:
                await self._save(service, slot)
                return
            stands_by = slot.replica is None or not slot.live or slot.replica.state is State.PASSIVE
            if newest is None or not service.desired.wants(number) or not stands_by:
                return
            if _id(service.preserved.applied.get(number)) != newest.id:
                await self._brought(service, slot, newest)

        others = [slot for number, slot in sorted(service.slots.items()) if number != service.term.owner]
        await self._attempts.each(service, sorted(others, key=lambda slot: slot.unsaved), follow)

    async def _proven(self, service: ServiceState) -> None:
        """Restore a snapshot aside, when the last proof is too old."""
        keeping = service.desired.service.state
        if keeping is None:
            return
        chosen = snapshot.drill(service.preserved.kept, keeping, self.clock.wall())
        if chosen is None or service.term.owner is None:
            return
        proof = await self.prove(service, chosen)
        if proof.problem:
            self.tell("D04", service.name, f"{chosen} cannot be restored: {proof.problem}", Severity.ALARM)
        else:
            took = f"{chosen} was restored aside and checked in {proof.took_s:.2f} s"
            self.tell("D03", service.name, took, facts={"snapshot": chosen, "took_s": round(proof.took_s, 3)})

    async def _marked(self, service: ServiceState) -> None:
        await markers.step(service, lineage.newest(service), self.keeper, self.clock, self.tell)

    # How it is done

    async def _look_up(self, service: ServiceState, slot: SlotState) -> None:
        """Learn which snapshot a slot was brought to last."""
        number = slot.slot.number
        applied = await self.keeper.applied(self.source(service, slot))
        if applied is not None:
            lineage.applied(service, number, applied, self.clock)
        else:
            service.preserved.applied.pop(number, None)
            service.preserved.current_at.pop(number, None)

    async def _brought(self, service: ServiceState, slot: SlotState, manifest: Manifest) -> None:
        running, began_at, number = slot.replica is not None and slot.live, self.clock.now(), slot.slot.number
        if not running:
            service.preserved.rewritten.add(number)
        try:
            await self.keeper.apply(self.source(service, slot), manifest.id, running)
        finally:
            service.preserved.rewritten.discard(number)
        service.preserved.bring_s = self.clock.now() - began_at
        lineage.applied(service, number, manifest, self.clock)
        self.touch(service.name)

    async def _save(self, service: ServiceState, slot: SlotState) -> None:
        """Copy what the slot of a former owner holds, before it is brought to anything."""
        now = self.clock.now()
        if slot.live or now < self._saved_at.get(str(slot.slot), 0.0) + UNSAVED_AGAIN_S:
            return
        self._saved_at[str(slot.slot)] = now
        manifest = await self.take(service, slot)
        slot.unsaved = False
        self.changed(slot.slot)
        sentence = f"what it held when it was active is kept as {manifest.id}"
        self.tell("D06", str(slot.slot), sentence, Severity.WARNING, {"snapshot": manifest.id})

    async def _swept(self, service: ServiceState) -> None:
        preserved, keeping = service.preserved, service.desired.service.state
        if keeping is None:
            return
        in_use = {manifest.id for manifest in preserved.applied.values()} | preserved.relied_on
        gone = snapshot.surplus(preserved.kept, keeping, in_use, self.clock.wall())
        if gone:
            await self.keeper.remove(service.name, gone)
            preserved.kept = tuple(await self.keeper.kept(service.name))
            kept = {one.manifest.id for one in preserved.kept}
            preserved.born = {chosen: at for chosen, at in preserved.born.items() if chosen in kept}

    def _failed(self, service: ServiceState, error: PerdureError) -> None:
        if service.preserved.problem != error.sentence:
            service.preserved.problem = error.sentence
            self.tell("D01", service.name, error.sentence, Severity.ALARM, {"hint": error.hint})

    def _works(self, service: ServiceState) -> None:
        attempt = service.preserved.attempt
        failed = attempt is not None and attempt.failures > 0
        if service.preserved.problem and not failed and not self._attempts.failed(service):
            service.preserved.problem = ""
            self.tell("D02", service.name, "snapshots are taken and followed again")


def _id(manifest: Manifest | None) -> str:
    return manifest.id if manifest is not None else ""
