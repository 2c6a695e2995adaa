"""Recording before acting: how long an act waits for its record."""

import asyncio
from typing import Any, cast

import pytest

from perdure.control.record import PATIENCE_S, Recorder
from perdure.model.decision import Advance, End, Note, outward
from perdure.model.replica import Event, Slot
from perdure.ports.store import Store, Transaction
from perdure.sim.loop import VirtualLoop


class SlowStore:
    """Takes a while for each transaction."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s

    async def commit(self, transaction: Transaction) -> int:
        """As in the port."""
        await asyncio.sleep(self.takes_s)
        return 1


def waited(takes_s: float, *noted_at: float) -> list[tuple[bool, float]]:
    """Whether each of the records that were noted at these instants was written, and how long its act waited."""
    found: list[tuple[bool, float]] = []
    loop = VirtualLoop()

    async def acts() -> None:
        recorder = Recorder(cast(Store, SlowStore(takes_s)), lambda _: None)
        writing = asyncio.create_task(recorder.run())
        for at in noted_at:
            await asyncio.sleep(at - loop.time())
            recorder.note({f"observed/{at}": cast(Any, {})}, [])
            written = await recorder.settled()
            found.append((written, loop.time() - at))
        writing.cancel()

    loop.create_task(acts())
    loop.call_later(1000.0, loop.stop)
    loop.run_until_at(100.0)
    assert not loop.errors
    return found


def test_an_act_waits_for_its_record() -> None:
    assert waited(0.05, 1.0, 2.0) == [(True, pytest.approx(0.05)), (True, pytest.approx(0.05))]


def test_a_store_that_takes_nothing_holds_up_several_acts_for_a_moment_in_all() -> None:
    first, second, third = waited(20.0, 1.0, 1.3, 1.4)
    assert first == (False, pytest.approx(PATIENCE_S))
    assert second == (False, pytest.approx(0.0)) and third == (False, pytest.approx(0.0))


def test_a_store_that_is_slow_but_takes_what_comes_is_waited_for_each_time() -> None:
    assert [written for written, _ in waited(0.15, 1.0, 1.16, 1.32)] == [True, True, True]


def test_only_what_somebody_would_notice_waits_for_its_record() -> None:
    slot = Slot("web", 1)
    assert not outward(Note("web is told")) and not outward(Advance(slot, Event.SUSPECTED))
    assert outward(Advance(slot, Event.CONVICTED)) and outward(End(slot, 1.0, failed=True))
