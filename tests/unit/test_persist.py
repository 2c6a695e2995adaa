"""What the store keeps of a slot: read again after the daemon, or the whole machine, was started anew."""

from dataclasses import replace

import pytest
from facts import replica

from perdure.control import persist
from perdure.control.world import SlotState
from perdure.model.replica import Slot, State
from perdure.model.service import Restart
from perdure.model.standing import History

WEB = Slot("web", 1)


def read(slot: SlotState, now: float) -> SlotState:
    return persist.read_slot(persist.slot_document(slot), WEB, Restart(backoff_s_max=30.0), now)


def stopped(since_at: float, next_start_at: float, readmitted_at: float | None = None) -> SlotState:
    history = History(failures=3, next_start_at=next_start_at, readmitted_at=readmitted_at)
    return SlotState(WEB, replica(1, State.STOPPED, since_at), history=history, ready_at=since_at, unsaved=True)


def test_a_daemon_that_starts_again_keeps_the_back_off_of_the_one_before() -> None:
    before = stopped(100.0, 120.0, 90.0)
    after = read(before, 110.0)
    assert after.history == before.history and after.replica == before.replica and after.unsaved


@pytest.mark.parametrize("uptime_s", [1200.0, 2400.0, 40_000.0])
def test_after_a_reboot_nothing_waits_for_an_uptime_of_before(uptime_s: float) -> None:
    after = read(stopped(uptime_s, uptime_s + 5.0, uptime_s - 5.0), 20.0)
    assert after.history == History(failures=3, next_start_at=20.0)
    assert after.replica == replace(replica(1, State.STOPPED, 20.0))
    assert after.ready_at == 20.0


def test_a_back_off_longer_than_any_is_from_before_a_reboot() -> None:
    after = read(stopped(10.0, 900.0), 20.0)
    assert after.history.next_start_at == 20.0
