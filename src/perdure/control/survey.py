"""What is asked about a service beside its checks: digests of all replicas in one round, synthetic requests, and the
room on its disk and for threads.

`monitor` asks one replica whether it is well. Here the answers are evidence only in comparison with those of the peers:
a round of digests goes to `detect.digest`, a synthetic request counts as one of a client's (`control.sample`). One task
looks after all services.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace

from perdure.control.conditions import room_left
from perdure.control.monitor import Monitor, spread
from perdure.control.sample import Sampler, Synthetic
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import digest, space, tasks
from perdure.model.check import Check
from perdure.model.evidence import Outcome
from perdure.model.replica import State
from perdure.ports.clock import Clock
from perdure.ports.host import Host

IDLE_S = 0.5
"""Between two looks for something to ask."""
SPACE_EVERY_S = 10.0
AGAIN_S = 0.5
"""A round follows so soon while somebody is apart and not yet convicted."""


@dataclass(slots=True)
class Surveyor:
    """Surveys the services of a world; `touch` wakes the loop for one of which something was learned."""

    clock: Clock
    world: World
    monitor: Monitor
    host: Host
    sampler: Sampler
    touch: Callable[[str], None]
    _round_at: dict[str, float] = field(default_factory=dict)
    _canary_at: dict[str, float] = field(default_factory=dict)
    """Replica -> when it gets the next synthetic request."""
    _space_at: dict[str, float] = field(default_factory=dict)
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Ask what is due, for ever."""
        try:
            while True:
                now = self.clock.now()
                due_at = min([now + IDLE_S, *(self._survey(service, now) for service in self.world.services.values())])
                await self.clock.sleep_until(max(due_at, now + 0.01))
        finally:
            for task in self._asking:
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)

    def _survey(self, service: ServiceState, now: float) -> float:
        """Ask what is due of one service; returns when something is due again."""
        declared = service.rules.service
        due_at = float("inf")
        if declared.digest is not None:
            at = self._round_at.get(service.name, now)
            if at <= now:
                at = now + declared.digest.interval_s
                self._start(self._round(service, declared.digest))
            self._round_at[service.name] = due_at = at
        if self._space_at.get(service.name, now) <= now:
            self._space_at[service.name] = float("inf")  # until it has answered
            self._start(self._room(service))
        return min(due_at, self._canaries(service, now))

    def _canaries(self, service: ServiceState, now: float) -> float:
        """Ask each replica what its release declares; returns when one is due again."""
        due: dict[str, float] = {}
        for slot in service.slots.values():
            canary = service.rules_of(slot).service.canary if slot.serves else None
            if canary is None or slot.replica is None:
                continue
            name, period_s = slot.replica.name, canary.check.interval_s
            at = self._canary_at.get(name, now + spread(name) * period_s)
            if at <= now:
                at = max(at + period_s, now)
                self._start(self._synthetic(service, slot, canary.check))
            due[name] = at
        gone = [name for name in self._canary_at if name.startswith(f"{service.name}/") and name not in due]
        for name in gone:
            del self._canary_at[name]
        self._canary_at |= due
        return min(due.values(), default=float("inf"))

    async def _round(self, service: ServiceState, check: Check) -> None:
        # Of the release that counts: another one may have other data by right.
        release = service.desired.release
        mine = [slot for slot in service.slots.values() if slot.replica is not None and slot.replica.release == release]
        asked = [slot for slot in mine if slot.serves or _isolated(slot)]
        replicas = [slot.replica.name for slot in asked if slot.replica is not None]
        found = await asyncio.gather(*(self.monitor.ask(service, slot, check, check.timeout_s) for slot in asked))
        answers = {
            replica: one.answer.digest
            for replica, one in zip(replicas, found, strict=True)
            if one is not None and one.answer.outcome is Outcome.GOOD
        }
        before = service.digests
        service.digests = digest.observe(before, answers)
        changed = bool(before.undecided or service.digests.undecided)
        for slot in asked:
            if slot.replica is None or slot.replica.name not in answers:
                continue
            compared = digest.compare(slot.belief.compared, service.digests, slot.replica.name)
            changed |= bool(compared.apart or slot.belief.compared.apart) or _isolated(slot)
            slot.belief = replace(slot.belief, compared=compared)
        if digest.suspects([slot.belief.compared for slot in asked]):
            self._round_at[service.name] = min(self._round_at[service.name], self.clock.now() + AGAIN_S)
        if changed:
            self.touch(service.name)

    async def _room(self, service: ServiceState) -> None:
        """How much is left on the disk, and how many threads may still be started."""
        declared = service.rules.service
        found, held = await self.host.space(declared.directory), await self.host.tasks(declared.user)
        now = self.clock.now()
        self._space_at[service.name] = now + SPACE_EVERY_S
        before = room_left(service), tasks.sentence(service.started)
        if found is not None:
            service.filled = space.observe(service.filled, found, now)
        if held is not None:
            service.started = tasks.observe(service.started, held, now)
        if (room_left(service), tasks.sentence(service.started)) != before:
            self.touch(service.name)

    async def _synthetic(self, service: ServiceState, slot: SlotState, check: Check) -> None:
        replica = slot.replica
        asked = await self.monitor.ask(service, slot, check, check.timeout_s)
        if asked is None or replica is None or slot.replica is not replica or not slot.serves:
            return
        good = asked.answer.outcome is Outcome.GOOD
        taken_ms = round((asked.ended_at - asked.started_at) * 1000.0)
        rollout = service.desired.rollout
        if service.contest is not None and rollout is not None and replica.release == rollout.new.release:
            service.contest.synthetic += 1
        self.sampler.tried(service, slot, Synthetic(check.label, good, asked.answer.status, taken_ms))

    def _start(self, asking: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(asking, name="survey")
        self._asking.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.result()


def _isolated(slot: SlotState) -> bool:
    return slot.replica is not None and slot.replica.state is State.ISOLATED
