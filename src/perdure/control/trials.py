"""Post-deployment tests: commands and requests against a replica of the new release, on its own port.

`rollouts` asks for the tests of a stage (before any traffic, in each step, after the end) and looks at what came of
them with its next turn. They run as tasks of the daemon; a daemon that starts in the middle runs them again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from perdure.control.world import ServiceState, SlotState
from perdure.model.check import Check, CheckKind
from perdure.model.deploy import DeployTest
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Outcome
from perdure.model.release import Rollout
from perdure.ports.clock import Clock
from perdure.ports.prober import Prober, Target
from perdure.recover.rollout_facts import Tried

AGAIN_S = 1.0
"""Between two tries of a test."""

Stage = tuple[str, int, int, str, int]
"""Service, number of the rollout, attempt, phase, step: the tests of each run once."""


@dataclass(slots=True)
class Trials:
    """Runs tests, one stage of a service at a time."""

    clock: Clock
    prober: Prober
    environment: Callable[[SlotState], tuple[tuple[str, str], ...]]
    _tasks: dict[str, tuple[Stage, asyncio.Task[Tried]]] = field(default_factory=dict)

    def of(self, service: ServiceState, rollout: Rollout) -> Tried:
        """How the tests of the present stage stand; begins them when they have not begun."""
        tests = rollout.new.service.deploy.tests
        if not tests or rollout.back:
            return Tried(passed=True)
        stage = (service.name, rollout.number, rollout.attempt, rollout.phase.value, rollout.step)
        known = self._tasks.get(service.name)
        if known is not None and known[0] == stage:
            return known[1].result() if known[1].done() else Tried()
        slot = next((service.slots[one] for one in rollout.new.slots if _runs(service, one, rollout)), None)
        if slot is None:
            return Tried()
        self.forget(service.name)
        task = asyncio.create_task(self._all(slot, rollout), name=f"test {rollout.new.release}")
        self._tasks[service.name] = (stage, task)
        return Tried()

    def forget(self, service: str) -> None:
        """End what is tested of a service."""
        known = self._tasks.pop(service, None)
        if known is not None:
            known[1].cancel()

    async def close(self) -> None:
        """End all of it."""
        tasks = [task for _, task in self._tasks.values()]
        for name in list(self._tasks):
            self.forget(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _all(self, slot: SlotState, rollout: Rollout) -> Tried:
        for test in rollout.new.service.deploy.tests:
            failure = await self._one(slot, rollout, test)
            if failure:
                return Tried(failed=f"{test.label}: {failure}")
        return Tried(passed=True)

    async def _one(self, slot: SlotState, rollout: Rollout, test: DeployTest) -> str:
        """Why a test failed in all its tries; empty: it passed."""
        failure = ""
        for number in range(test.tries):
            if number:
                await self.clock.sleep_until(self.clock.now() + AGAIN_S)
            replica, service = slot.replica, rollout.new.service
            if replica is None or not slot.live or replica.release != rollout.new.release:
                return "its replica has ended"
            url = f"http://127.0.0.1:{replica.port}"
            given = (("PERDURE_URL", url), ("PERDURE_RELEASE", replica.release))
            target = Target(
                replica.port, (*self.environment(slot), *given), service.directory, service.user, service.group
            )
            try:
                answer = await self.prober.probe(_asked(test), target, test.timeout_s)
            except UnavailableError as error:
                failure = error.sentence
                continue
            if answer.outcome is Outcome.GOOD:
                return ""
            failure = answer.excerpt or answer.outcome.value
        return failure


def _asked(test: DeployTest) -> Check:
    if test.check is not None:
        return test.check
    return replace(Check(CheckKind.COMMAND), command=test.command)


def _runs(service: ServiceState, number: int, rollout: Rollout) -> bool:
    slot = service.slots.get(number)
    return slot is not None and slot.live and slot.replica is not None and slot.replica.release == rollout.new.release
