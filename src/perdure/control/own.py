"""Owning: for each active-passive service of this host its term, and telling replicas of it.

The agent asks `term` before it decides, and hands in what was decided (`Take`, `Promote`, `Exchange`); each takes a
while, so they are tasks, and what comes of them is a new observation. Neighbours: `tenure` and `claim` guard the term,
`recover.take_over` decides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial

from perdure.control import waiting
from perdure.control.claim import Claim
from perdure.control.tell import Tell
from perdure.control.tenure import Tenure
from perdure.control.world import ServiceState, SlotState, World
from perdure.model.decision import Decision, Exchange, Promote, Take
from perdure.model.errors import UnavailableError
from perdure.model.event import Severity
from perdure.model.owner import Right, Term, Terms
from perdure.model.replica import Slot, State
from perdure.model.rollback import Rollback
from perdure.ports.clock import Clock
from perdure.ports.role import Duty, Listener, Roles
from perdure.ports.store import Store
from perdure.prevent import ownership

ACTIVE, PASSIVE = "active", "passive"
AGAIN_S = 0.2
"""Between two attempts to begin a term, or to tell a replica."""
CATCH_UP_AGAIN_S = 5.0
"""Between two attempts with a slot whose state is no whole one."""
KEEP_S_MAX = 1.0
STUCK_S = 10.0
"""For so long no other term is begun after the store did not take one."""


@dataclass(slots=True)
class Owners:
    """The terms of all active-passive services; `touch` wakes the loop for a service, `nonce` draws a new word."""

    clock: Clock
    store: Store
    world: World
    roles: Roles
    host: str
    terms: Terms
    nonce: Callable[[], str]
    touch: Callable[[str], None]
    tell: Tell
    catch_up: Callable[[ServiceState, Slot], Awaitable[bool]]
    """Brings a slot to the last state of the one that was active, or, after that was tried in vain (`lossy`), to a
    whole one; False when that cannot be done. Nothing is written to it once this returns."""
    exchange: Callable[[ServiceState, SlotState, Rollback], Awaitable[bool | None]]
    """Puts older data into a slot where nobody runs; False: it has what it had. None: not known yet, do it again."""
    hold: Callable[[str, Right], None] = lambda service, right: None
    """Gives the fence the deadlines of a right, where it has any."""
    tenures: dict[str, Tenure] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Keep every term, for ever."""
        while True:
            await waiting.for_news(self._news, self.clock, await self.step())

    async def step(self) -> float:
        """Do for each term what is due; the instant at which to look again."""
        finished = [task for task in self._tasks if task.done()]
        self._tasks.difference_update(finished)
        for task in finished:
            task.result()  # what it raised was not foreseen, and ends the daemon
        self._follow()
        due_at = self.clock.now() + KEEP_S_MAX
        for tenure in list(self.tenures.values()):
            due_at = min(due_at, await tenure.step())
        return due_at

    async def rest(self) -> None:
        """Return when nothing is being begun any more."""
        while left := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(left)

    def term(self, service: ServiceState) -> Term:
        """What is known of the term now."""
        tenure = self.tenures.get(service.name)
        if tenure is None and service.desired.service.one_active:
            self._news.set()
        if tenure is None or not tenure.known:
            return Term(known=False)
        claim, now = tenure.claim, self.clock.now()
        owner = claim.seen.owner
        learned = service.desired.service.state is None or service.preserved.known
        here = owner is not None and owner.host == self.host and not owner.released
        return Term(
            owner=Slot.parse(owner.slot).number if here and owner is not None else None,
            epoch=owner.epoch if owner is not None else 0,
            data_epoch=owner.data_epoch if owner is not None else 0,
            handover=owner.handover if owner is not None else 0,
            rollback=owner.rollback if owner is not None else 0,
            holds=claim.holds(now),
            takeable=learned and now >= ownership.takeable_at(claim.seen, self.host, self.terms),
            busy=service.name in self._busy,
            stuck=now < service.stuck_until_at,
        )

    def act(self, service: ServiceState, decision: Decision) -> None:
        """Begin what was decided."""
        match decision.change:
            case Take(slot, handover):
                self._begin(service.name, self._take(service, slot, handover))
            case Promote(slot):
                self._begin(service.name, self._promote(service, self.world.slot(slot)))
            case Exchange(slot):
                self._begin(service.name, self._exchange(service, self.world.slot(slot)))

    def introduce(self, service: ServiceState, slot: SlotState) -> None:
        """Write the role of a replica that is about to start. Raises UnavailableError."""
        if service.desired.service.one_active:
            self.roles.write(self._duty(service, slot))

    def variables(self, service: ServiceState, slot: SlotState) -> tuple[tuple[str, str], ...]:
        """What a replica is told of its role when it starts."""
        if not service.desired.service.one_active or slot.replica is None:
            return ()
        duty = self._duty(service, slot)
        told = (("PERDURE_ROLE", duty.role), ("PERDURE_EPOCH", str(duty.epoch)))
        return (*told, *self.roles.variables(service.name, str(slot.slot)))

    def _duty(self, service: ServiceState, slot: SlotState) -> Duty:
        replica = slot.replica
        epoch = replica.epoch if replica is not None else 0
        role = ACTIVE if epoch else PASSIVE
        return Duty(service.desired.service, str(slot.slot), role, epoch or service.term.epoch)

    def _follow(self) -> None:
        """Keep a claim for each active-passive service, and for no other."""
        wanted = {name for name, one in self.world.services.items() if one.desired.service.one_active}
        for name in self.tenures.keys() - wanted:
            del self.tenures[name]
        for name in sorted(wanted - self.tenures.keys()):
            claim = Claim(name, self.host, self.clock, self.store, self.terms, self.nonce)
            self.tenures[name] = Tenure(claim, self.clock, partial(self.hold, name), partial(self.touch, name))

    def _begin(self, service: str, work: Coroutine[None, None, None]) -> None:
        if service in self._busy:
            work.close()
            return
        self._busy.add(service)
        self._tasks.add(asyncio.create_task(self._finished(service, work), name=f"own {service}"))

    async def _finished(self, service: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        finally:
            self._busy.discard(service)
            self.touch(service)

    async def _take(self, service: ServiceState, slot: Slot, handover: int) -> None:
        tenure = self.tenures.get(service.name)
        if tenure is None:
            return
        service.heir = slot.number
        try:
            await self._taken(service, slot, handover, tenure)
        finally:
            service.heir = None

    async def _taken(self, service: ServiceState, slot: Slot, handover: int, tenure: Tenure) -> None:
        if not await self.catch_up(service, slot):
            if service.lossy:
                await self.clock.sleep_until(self.clock.now() + CATCH_UP_AGAIN_S)
            service.lossy = True  # decided anew: what would be lost counts from now on
            return
        before = service.term.owner
        # The store may have been lost, or restored: no epoch that a snapshot was taken in comes again.
        tenure.claim.highest = max([tenure.claim.highest, *(one.manifest.epoch for one in service.preserved.kept)])
        if await tenure.take(str(slot), handover=handover):
            service.takeovers += before is not None and before != slot.number
            self._owned(service, slot.number)
        else:
            service.stuck_until_at = self.clock.now() + STUCK_S

    async def _exchange(self, service: ServiceState, slot: SlotState) -> None:
        """Exchange its data, and begin a term with it: in a new history, or in the old one when that has failed."""
        tenure, rollback = self.tenures.get(service.name), service.desired.rollback
        if tenure is None or rollback is None:
            return
        exchanged = await self.exchange(service, slot, rollback)
        data_epoch = rollback.data_epoch if exchanged else None
        if exchanged is None or not await tenure.take(
            str(slot.slot), data_epoch=data_epoch, handover=service.term.handover, rollback=rollback.number
        ):
            await self.clock.sleep_until(self.clock.now() + AGAIN_S)
            return
        self._owned(service, slot.slot.number)

    def _owned(self, service: ServiceState, number: int) -> None:
        """A new term has begun with this slot, whose state is beyond every snapshot from now on; what failed there
        before is no reason to leave it again."""
        slot = self.world.slot(Slot(service.name, number))
        slot.history = replace(slot.history, failures=0, next_start_at=0.0)
        service.term = self.term(service)
        service.lossy = False
        service.preserved.applied.pop(number, None)
        service.preserved.current_at.pop(number, None)

    async def _promote(self, service: ServiceState, slot: SlotState) -> None:
        replica, term = slot.replica, self.term(service)
        if replica is None or replica.process is None or replica.state is not State.PASSIVE or not term.holds:
            return
        duty = replace(self._duty(service, slot), role=ACTIVE, epoch=term.epoch)
        try:
            await self.roles.tell(duty, Listener(replica.process, replica.port, self.variables(service, slot)))
        except UnavailableError as error:
            if slot.replica is not None and slot.replica.name == replica.name:
                slot.refusals += 1
                self.tell("T10", str(slot.slot), error.sentence, Severity.WARNING, {"hint": error.hint})
            await self.clock.sleep_until(self.clock.now() + AGAIN_S)
            return
        if slot.replica is not None and slot.replica.name == replica.name:
            slot.told = term.epoch
