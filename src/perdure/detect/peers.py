"""What a replica's traffic is compared with: its peers, without itself.

A summary of any number of replicas that can be joined, so that all n summaries that leave one out cost 3 n joins and
not n x n looks. A peer that was not asked lately, being drained or just started, counts as a peer, but is no
comparison. `traffic` keeps what is summed here, and judges by it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

INFINITY = float("inf")
ONE_REQUEST = 0.5
"""Decayed requests below this are less than one request, of which no share is told."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Decayed counts of requests and failures over one time constant."""

    requests: float = 0.0
    failures: float = 0.0

    @property
    def share(self) -> float:
        """The share of failures, in [0, 1]; 0 when there was not even one request."""
        return self.failures / self.requests if self.requests > ONE_REQUEST else 0.0


@dataclass(frozen=True, slots=True)
class Peers:
    """A summary of replicas; the default is that of none."""

    number: int = 0
    asked: int = 0
    """How many of them were asked lately; only they are in what follows."""
    now: Tally = Tally()
    """What they showed together in the last second."""
    lately: Tally = Tally()
    """The same for the last 10 s."""
    minute: Tally = Tally()
    past_failures: float = 0.0
    """In the long run."""
    lowest_share: float = INFINITY
    """Of the failures in the last second, that of the healthiest."""
    fewest_failures: float = INFINITY
    """In the last 10 s, those of the healthiest."""
    asked_at: float = -INFINITY
    """When the last of them was asked."""

    def joined(self, other: "Peers") -> "Peers":
        """The summary of both."""
        return Peers(
            self.number + other.number,
            self.asked + other.asked,
            Tally(self.now.requests + other.now.requests, self.now.failures + other.now.failures),
            Tally(self.lately.requests + other.lately.requests, self.lately.failures + other.lately.failures),
            Tally(self.minute.requests + other.minute.requests, self.minute.failures + other.minute.failures),
            self.past_failures + other.past_failures,
            min(self.lowest_share, other.lowest_share),
            min(self.fewest_failures, other.fewest_failures),
            max(self.asked_at, other.asked_at),
        )


NOBODY = Peers()
UNASKED = Peers(number=1)
"""One peer that was not asked lately."""


def of_one(now: Tally, lately: Tally, minute: Tally, past_failures: float, asked_at: float) -> Peers:
    """The summary of one replica that was asked lately."""
    share = now.share if now.requests > ONE_REQUEST else INFINITY
    return Peers(1, 1, now, lately, minute, past_failures, share, lately.failures, asked_at)


def leave_one_out(each: Sequence[Peers]) -> list[Peers]:
    """For each of the replicas, the summary of all the others."""
    before = list(itertools.accumulate(each[:-1], Peers.joined, initial=NOBODY))
    after = list(itertools.accumulate(reversed(each[1:]), Peers.joined, initial=NOBODY))
    return [one.joined(other) for one, other in zip(before, reversed(after), strict=True)][: len(each)]
