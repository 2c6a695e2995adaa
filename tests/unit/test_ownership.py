"""The rules of a right: when it ends, and when it may be taken."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.owner import Owner, Seen, Terms
from perdure.prevent import ownership

TERMS = Terms()
MINE = Owner("notes", "notes/1", "here", 7, TERMS.ttl_s)
THEIRS = Owner("notes", "notes/1", "there", 7, TERMS.ttl_s)


def test_a_right_ends_a_margin_before_the_ttl_has_passed_since_before_it_was_asked_for() -> None:
    right = ownership.right(MINE, 100.0, TERMS)
    assert (right.epoch, right.slot, right.until_at) == (7, "notes/1", 102.5)
    assert right.until_at < right.kill_at < 100.0 + TERMS.ttl_s
    assert ownership.renew_at(100.0, TERMS) == 101.0


def test_without_rivals_a_right_does_not_end() -> None:
    right = ownership.right(MINE, 100.0, ownership.ALONE)
    assert right.until_at == right.kill_at == ownership.renew_at(100.0, ownership.ALONE) == math.inf


@pytest.mark.parametrize(
    ("seen", "at"),
    [
        (Seen(None, 0, 50.0), -math.inf),
        (Seen(MINE, 1, 50.0), -math.inf),
        (Seen(Owner("notes", "notes/1", "there", 7, 3.0, released=True), 1, 50.0), -math.inf),
        (Seen(THEIRS, 1, 50.0), 53.03),
    ],
)
def test_what_is_nobodys_or_ones_own_may_be_taken_at_once_and_what_is_anothers_when_it_must_have_stopped(
    seen: Seen, at: float
) -> None:
    assert ownership.takeable_at(seen, "here", TERMS) == pytest.approx(at)


@given(
    sent_at=st.floats(0, 1e6),
    seen_after=st.floats(0, 30),
    rate=st.floats(1.0, 1.0 + TERMS.drift),
    ttl_s=st.floats(1, 60),
)
def test_rights_do_not_overlap_as_long_as_clocks_differ_by_less_than_the_drift(
    sent_at: float, seen_after: float, rate: float, ttl_s: float
) -> None:
    """In true time: the holder's clock is right, the challenger's runs faster."""
    terms = Terms(ttl_s=ttl_s, margin_s=min(0.5, ttl_s / 4.0))
    owner = Owner("notes", "notes/1", "there", 7, ttl_s)
    killed_at = ownership.right(owner, sent_at, terms).kill_at
    seen_at = sent_at + seen_after
    challenged_s = ownership.takeable_at(Seen(owner, 1, 0.0), "here", terms)
    assert seen_at + challenged_s / rate >= killed_at


def test_epochs_go_on_above_the_highest_that_was_ever_seen() -> None:
    assert ownership.next_epoch(Seen(None, 0, 0.0), 0) == 1
    assert ownership.next_epoch(Seen(THEIRS, 1, 0.0), 3) == 8
    assert ownership.next_epoch(Seen(THEIRS, 1, 0.0), 12) == 13


def test_the_bound_of_a_takeover_is_the_ttl_of_a_slow_clock_and_what_follows() -> None:
    assert ownership.takeover_bound_s(TERMS, 0.1, 0.4) == pytest.approx(3.53)
    assert ownership.takeover_bound_s(ownership.ALONE, 0.1, 0.4) == pytest.approx(0.5)
