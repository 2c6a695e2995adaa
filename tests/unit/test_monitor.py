"""A monitor that cannot ask says so once, and asks again in time; it is not taken for one that did not run."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from facts import HEALTHZ, desired, replica, service

from perdure.control.monitor import Monitor
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import self_health, suspect
from perdure.model.check import Check
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target


@dataclass
class Machine:
    """Virtual time up to `until_at`, and questions that cannot be asked from 100 s to `hindered_until_at`."""

    until_at: float
    hindered_until_at: float = 0.0
    at: float = 100.0
    asked_at: list[float] = field(default_factory=list)
    tick: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.at

    async def sleep_until(self, at: float) -> None:
        if at > self.until_at:
            raise asyncio.CancelledError
        while self.at < at:
            self.at = min(at, self.at + self_health.TICK_S)
            self.tick()

    async def echo(self, timeout_s: float) -> bool:
        self._ask()
        return True

    async def probe(self, check: Check, target: Target, timeout_s: float, twice: bool = False) -> Answer:
        self._ask()
        return Answer(Outcome.GOOD)

    def _ask(self) -> None:
        self.asked_at.append(self.at)
        if self.at < self.hindered_until_at:
            raise UnavailableError("too many open files", "raise the limit")


class Watched:
    """A monitor of one replica on such a machine, and what it told."""

    def __init__(self, machine: Machine) -> None:
        self.machine: Any = machine
        self.told: list[str] = []
        self.pauses: list[self_health.Pause] = []
        declared = service(replicas=1)
        self.slot = SlotState(replica(1).slot, replica(1))
        self.service = ServiceState(desired(declared), suspect.policy(declared), {1: self.slot})
        nothing: Any = None
        self.monitor = Monitor(
            self.machine,
            self.machine,
            nothing,
            nothing,
            World({"web": self.service}),
            lambda evidence: None,
            self.pauses.append,
            lambda slot: (),
            self_health.Wakefulness(machine.at),
            on_hindered=lambda error: self.told.append(f"{self.machine.at:g} {error.sentence if error else 'over'}"),
        )

    def listen(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self.monitor.listen())

    def ask(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self.monitor._ask(self.service, self.slot, HEALTHZ))


def test_an_echo_that_cannot_be_asked_is_told_once_and_is_no_pause() -> None:
    watched = Watched(Machine(until_at=140.0, hindered_until_at=120.0))
    watched.machine.tick = watched.monitor.note_awake
    watched.listen()
    assert watched.pauses == []
    assert watched.told == ["100 too many open files", "129.5 over"]


def test_a_check_that_cannot_be_asked_is_asked_at_its_interval_and_told_once() -> None:
    watched = Watched(Machine(until_at=110.0, hindered_until_at=200.0))
    watched.ask()
    assert 9 <= len(watched.machine.asked_at) <= 11
    assert [one.split(" ", 1)[1] for one in watched.told] == ["too many open files"]


def test_a_check_with_a_long_interval_is_waited_for_before_it_is_over() -> None:
    hindrance = self_health.hindered(100.0)
    assert not self_health.asks_again(hindrance, 109.9, 1.0) and self_health.asks_again(hindrance, 110.0, 1.0)
    assert not self_health.asks_again(hindrance, 159.9, 30.0) and self_health.asks_again(hindrance, 160.0, 30.0)
    assert not self_health.asks_again(self_health.Hindrance(), 160.0, 1.0)
