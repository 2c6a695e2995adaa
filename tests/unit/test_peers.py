"""Summaries of peers: leaving one out gives the same as looking at all the others, at a cost that grows with n."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import peers
from perdure.detect.peers import Peers, Tally

TALLIES = st.builds(
    lambda requests, share: Tally(float(requests), requests * share), st.integers(0, 50), st.floats(0, 1)
)
COUNTS = st.floats(0.0, 100.0)
ONES = st.one_of(st.just(peers.UNASKED), st.builds(peers.of_one, TALLIES, TALLIES, TALLIES, COUNTS, COUNTS))


def joined(ones: list[Peers]) -> Peers:
    return reduce(Peers.joined, ones, peers.NOBODY)


def figures(one: Peers) -> list[float]:
    """Everything in a summary, in one list."""
    tallies = (one.now.requests, one.now.failures, one.lately.requests, one.lately.failures)
    return [one.number, one.asked, *tallies, one.lowest_share, one.fewest_failures, one.asked_at]


@given(st.lists(ONES, max_size=12))
def test_leaving_one_out_is_joining_all_the_others(ones: list[Peers]) -> None:
    found = peers.leave_one_out(ones)
    assert len(found) == len(ones)
    for place, others in enumerate(found):
        assert figures(others) == pytest.approx(figures(joined(ones[:place] + ones[place + 1 :])))


def test_a_replica_alone_has_no_peers() -> None:
    assert peers.leave_one_out([peers.UNASKED]) == [peers.NOBODY]
    assert peers.leave_one_out([]) == []


def test_one_that_was_not_asked_is_a_peer_and_no_comparison() -> None:
    asked = peers.of_one(Tally(10.0, 1.0), Tally(100.0, 5.0), Tally(300.0, 5.0), 0.0, 7.0)
    both = asked.joined(peers.UNASKED)
    assert (both.number, both.asked, both.lowest_share, both.fewest_failures, both.asked_at) == (2, 1, 0.1, 5.0, 7.0)


def test_a_share_of_less_than_a_request_is_no_share() -> None:
    assert peers.of_one(Tally(0.4, 0.4), Tally(0.4, 0.4), Tally(0.4, 0.4), 0.0, 1.0).lowest_share == peers.INFINITY
