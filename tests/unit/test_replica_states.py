"""The table of states: complete, reachable, with exits, and every rule in it leads where it says."""

import itertools

import pytest

from perdure.model import replica
from perdure.model.replica import LIVE, SERVING, TABLE, Event, Exit, Slot, State

ROWS = [
    ("S01", State.STARTING, Event.ANSWERED, State.READY),
    ("S02", State.STARTING, Event.STOP_WANTED, State.STOPPING),
    ("S03", State.STARTING, Event.EXITED, State.STOPPED),
    ("S04", State.READY, Event.SUSPECTED, State.SUSPECT),
    ("S05", State.READY, Event.CONVICTED, State.ISOLATED),
    ("S06", State.READY, Event.DRAIN_WANTED, State.DRAINING),
    ("S07", State.READY, Event.STOP_WANTED, State.STOPPING),
    ("S08", State.READY, Event.EXITED, State.STOPPED),
    ("S09", State.SUSPECT, Event.CLEARED, State.READY),
    ("S10", State.SUSPECT, Event.CONVICTED, State.ISOLATED),
    ("S11", State.SUSPECT, Event.DRAIN_WANTED, State.DRAINING),
    ("S12", State.SUSPECT, Event.STOP_WANTED, State.STOPPING),
    ("S13", State.SUSPECT, Event.EXITED, State.STOPPED),
    ("S14", State.ISOLATED, Event.READMITTED, State.READY),
    ("S16", State.ISOLATED, Event.STOP_WANTED, State.STOPPING),
    ("S17", State.ISOLATED, Event.EXITED, State.STOPPED),
    ("S18", State.DRAINING, Event.DRAIN_ENDED, State.ISOLATED),
    ("S19", State.DRAINING, Event.READMITTED, State.READY),
    ("S20", State.DRAINING, Event.STOP_WANTED, State.STOPPING),
    ("S21", State.DRAINING, Event.EXITED, State.STOPPED),
    ("S22", State.STOPPING, Event.EXITED, State.STOPPED),
    ("S23", State.STARTING, Event.STOOD_BY, State.PASSIVE),
    ("S24", State.PASSIVE, Event.PROMOTED, State.READY),
    ("S25", State.PASSIVE, Event.STOP_WANTED, State.STOPPING),
    ("S26", State.PASSIVE, Event.EXITED, State.STOPPED),
]


@pytest.mark.parametrize(("rule", "state", "event", "to"), ROWS)
def test_every_rule_leads_where_it_says(rule: str, state: State, event: Event, to: State) -> None:
    row = replica.advance(state, event)
    assert (row.rule, row.to) == (rule, to)
    assert row.sentence


def test_there_is_no_row_beside_these() -> None:
    assert set(TABLE) == {(state, event) for _, state, event, _ in ROWS}


def test_every_state_is_reached_from_the_first_one() -> None:
    reached = {State.STARTING}
    for _ in State:
        reached |= {row.to for (state, _), row in TABLE.items() if state in reached}
    assert reached == set(State)


def test_every_state_but_the_last_one_has_exits_and_the_last_has_none() -> None:
    assert {state for state, _ in TABLE} == LIVE
    assert all((state, Event.EXITED) in TABLE for state in LIVE)


def test_every_rule_has_one_row() -> None:
    rules = [row.rule for row in TABLE.values()]
    assert len(set(rules)) == len(rules)


def test_only_suspicion_isolation_and_draining_can_be_taken_back() -> None:
    order = list(State)
    back = {(state, row.to) for (state, _), row in TABLE.items() if order.index(row.to) < order.index(state)}
    assert back == {
        (State.SUSPECT, State.READY),
        (State.ISOLATED, State.READY),
        (State.DRAINING, State.READY),
        (State.DRAINING, State.ISOLATED),
    }


def test_what_serves_can_be_drained_convicted_and_ended() -> None:
    for state, event in itertools.product(SERVING, [Event.DRAIN_WANTED, Event.CONVICTED, Event.STOP_WANTED]):
        assert (state, event) in TABLE


def test_a_pair_without_a_row_is_a_bug() -> None:
    with pytest.raises(KeyError):
        replica.advance(State.STOPPED, Event.ANSWERED)


@pytest.mark.parametrize("text", ["web/1", "a-b/12"])
def test_a_slot_is_read_as_it_is_written(text: str) -> None:
    assert str(Slot.parse(text)) == text


@pytest.mark.parametrize("text", ["web", "web/", "/1", "web/0", "web/-1", "web/x", "web/1.5", ""])
def test_what_is_no_slot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a slot"):
        Slot.parse(text)


@pytest.mark.parametrize(
    ("ended", "text"),
    [(Exit(3), "exit code 3"), (Exit(signal="SIGKILL"), "signal SIGKILL"), (Exit(), "unknown exit status")],
)
def test_how_a_process_ended_is_told_in_words(ended: Exit, text: str) -> None:
    assert str(ended) == text
