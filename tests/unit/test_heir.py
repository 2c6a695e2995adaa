"""Who is next: whoever loses least, and never one of an older history."""

from dataclasses import replace

from perdure.model.owner import Candidate
from perdure.recover import heir
from perdure.recover.heir import Bearable

ANY, MINUTE = Bearable(), Bearable(60.0)


def candidate(slot: str, behind_s: float = 0.0, *, data_epoch: int = 0, ready: bool = True) -> Candidate:
    return Candidate(slot, "here", data_epoch, behind_s, ready)


def test_the_one_that_lacks_least_is_next_and_then_one_that_is_ready() -> None:
    found = [candidate("notes/1", 5.0), candidate("notes/2", 1.0, ready=False), candidate("notes/3", 1.0)]
    assert heir.heir(found, 0, ANY).slot == "notes/3"
    assert heir.heir(found[:2], 0, ANY) == heir.Heir("notes/2", "here", 1.0)


def test_a_loss_that_is_too_large_is_refused_with_the_command_that_accepts_it() -> None:
    refused = heir.heir([candidate("notes/2", 61.0)], 0, MINUTE)
    assert "perdure promote notes notes/2 --accept-loss" in refused.refusal
    assert not heir.heir([candidate("notes/2", 61.0)], 0, replace(MINUTE, accepted=True)).refusal
    assert not heir.heir([candidate("notes/2", 60.0)], 0, MINUTE).refusal


def test_no_loss_is_borne_for_what_nobody_needs_unless_it_is_accepted() -> None:
    found = [candidate("notes/2", 0.5)]
    assert "cannot be copied" in heir.heir(found, 0, replace(MINUTE, needless=True)).refusal
    assert not heir.heir(found, 0, Bearable(60.0, needless=True, accepted=True)).refusal
    assert not heir.heir([candidate("notes/2")], 0, replace(MINUTE, needless=True)).refusal


def test_data_of_an_older_history_is_never_served_whatever_is_accepted() -> None:
    old = candidate("notes/2", data_epoch=1)
    assert "restore" in heir.heir([old], 2, replace(ANY, accepted=True)).refusal
    assert heir.heir([old, candidate("notes/3", 9.0, data_epoch=2)], 2, ANY).slot == "notes/3"
    assert heir.heir([], 0, ANY).refusal
