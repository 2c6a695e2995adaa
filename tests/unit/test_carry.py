"""The carrier with a balancer that cannot be set up, dies, or says nothing: it never gives up, and tells it once."""

import asyncio
from collections.abc import Callable, Sequence

from heard import Heard

from perdure.control.carry import Cargo, Carrier
from perdure.model.errors import ConfigError, UnavailableError
from perdure.model.replica import Process
from perdure.model.service import Address, Service
from perdure.model.traffic import BackendSpec, BalancerChange, Reading

WEB = Service("web", ("serve",), listen=Address("127.0.0.1", 8000))


class Time:
    """A clock that is set by hand."""

    at = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    async def sleep_until(self, at: float) -> None:
        self.at = max(self.at, at)


class Stubborn:
    """A balancer that refuses to be configured as often as it is told, and may die while it is read."""

    def __init__(self, refusals: int = 0, dies_when_read: bool = False, silent: bool = False) -> None:
        self.refusals = refusals
        self.dies_when_read = dies_when_read
        self.silent = silent
        self.starts = 0
        self._callback: Callable[[], None] = lambda: None

    async def configure(self, backends: Sequence[BackendSpec]) -> Process:
        if self.refusals:
            self.refusals -= 1
            raise ConfigError("HAProxy refuses the configuration")
        self.starts += 1
        return Process(self.starts, 1)

    async def adopt(self, process: Process, backends: Sequence[BackendSpec]) -> bool:
        return False

    async def read(self) -> Reading:
        if self.silent:
            raise UnavailableError("HAProxy did not answer for 1 s")
        if self.dies_when_read:
            self.dies_when_read = False
            self._callback()
            raise UnavailableError("the connection was reset")
        return Reading(0.0, self.starts, ())

    async def change(self, changes: Sequence[BalancerChange]) -> None: ...

    def on_exit(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def kill(self) -> None:
        self._callback()

    async def stop(self) -> None: ...


async def _carried(balancer: Stubborn, turns: int, pause_s: float) -> tuple[Carrier, list[str]]:
    clock, told = Time(), Heard()
    carrier = Carrier(balancer, clock, lambda reading: None, told)
    carrier.cargo["web"] = Cargo(WEB, ())
    running = asyncio.create_task(carrier.run())
    for _ in range(turns):
        clock.at += pause_s
        carrier.poke()
        for _ in range(5):
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return carrier, told.rules


async def test_a_balancer_that_cannot_be_set_up_is_told_once_and_tried_again() -> None:
    balancer = Stubborn(refusals=3)
    carrier, told = await _carried(balancer, turns=10, pause_s=1.1)
    assert told == ["A03", "A01"]
    assert carrier.state == "serving"


async def test_a_balancer_that_dies_while_it_is_read_is_started_again() -> None:
    balancer = Stubborn(dies_when_read=True)
    carrier, told = await _carried(balancer, turns=10, pause_s=0.5)
    assert told == ["A01", "A02", "A01"]
    assert balancer.starts == 2 and carrier.state == "serving"


async def test_a_balancer_that_stays_silent_is_ended_less_and_less_often() -> None:
    """On a machine that is starved, ending it makes matters worse each time."""
    _, told = await _carried(Stubborn(silent=True), turns=200, pause_s=0.5)
    assert told.count("A04") == 5, "after 2.5, 5, 10, 20 and 40 s"


class Flapping(Stubborn):
    """Answers twelve readings, is silent for the next eight, and so on."""

    reads = 0

    async def read(self) -> Reading:
        self.reads += 1
        self.silent = self.reads % 20 >= 12
        return await super().read()


async def test_when_ending_it_helped_the_next_silence_is_as_short_as_the_first() -> None:
    _, told = await _carried(Flapping(), turns=100, pause_s=0.5)
    assert told.count("A04") == 5, "once in each silence of four seconds"
