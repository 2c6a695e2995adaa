"""What the two releases of a rollout showed in one reading of the balancer, counted, and which of the failures count.

Clients repeat what failed, and a client with a bug makes all of its own requests fail: such failures are one event, not
many. So of the failures of one client in one second only the first counts, *whichever release it was*. That is fair:
whether a failure counts depends on what came before it, never on its release, so those that count still fall on the new
release with its share of the requests. To drop repeats for each release by itself would not be: of a request that the
client repeats until it has failed on both, one failure would count on either side, and the release with a twentieth of
the requests would seem to fail as often as the other, which is nineteen times as often a request.

Neighbours: `usual`, `compare`, `slowness` and `relapse` are fed with it; `control.rollouts` fills it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CLIENTS_MAX = 256
"""So many failures of a second count at most: memory is bounded, and more would say nothing new."""


class Failed(NamedTuple):
    """One failed request."""

    new: bool
    """It was the new release's."""
    client: str
    waited_s: float = 0.0
    """From the request to the failure: it belongs to the share that there was when it came."""


class Timed(NamedTuple):
    """One answer that was no failure."""

    new: bool
    ms: int
    """How long it took, in the whole milliseconds that HAProxy measures."""
    stands_for: int = 1
    """How many requests like it this line of the sample stands for."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One reading. `failures` are in the order in which they came: what counts is the first."""

    at: float
    requests_new: int
    """Requests since the reading before."""
    requests_old: int
    failures: Sequence[Failed] = ()
    timed: Sequence[Timed] = ()
    intended_share: float = 0.0
    """The share of the requests that the new release is to have (0 to 1)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of one release and how many of them failed. Of the failures of one client in one second one counts."""

    requests: float = 0.0
    failures: float = 0.0
    counted: float = 0.0

    def plus(self, other: "Tally", kept: float = 1.0) -> "Tally":
        """This, faded to the part `kept`, and the other."""
        return Tally(
            self.requests * kept + other.requests,
            self.failures * kept + other.failures,
            self.counted * kept + other.counted,
        )

    @property
    def share(self) -> float:
        """Which share failed; 0 when there were no requests."""
        return min(1.0, self.failures / self.requests) if self.requests > 0.0 else 0.0


NONE = Tally()


@dataclass(frozen=True, slots=True)
class Arms:
    """The same count for the new and the old release."""

    new: Tally = NONE
    old: Tally = NONE

    def plus(self, other: "Arms", kept: float = 1.0) -> "Arms":
        """This, faded to the part `kept`, and the other."""
        return Arms(self.new.plus(other.new, kept), self.old.plus(other.old, kept))


NO_REQUESTS = Arms()


@dataclass(frozen=True, slots=True)
class Clients:
    """Those of which a failure counted in this second."""

    second: int = -1
    seen: frozenset[str] = frozenset()


NOBODY = Clients()


def first_of_second(clients: Clients, at: float, failures: Iterable[Failed]) -> tuple[Clients, list[Failed]]:
    """Which of the failures of one reading count, and whom to remember."""
    second = int(at)
    seen = set(clients.seen) if second == clients.second else set()
    first = []
    for one in failures:
        if one.client not in seen and len(seen) < CLIENTS_MAX:
            seen.add(one.client)
            first.append(one)
    return (Clients(second, frozenset(seen)) if first else clients), first


def counted(seen: Observed, first: Sequence[Failed]) -> Arms:
    """One reading, counted; `first` are the failures that count."""
    failures_new = sum(one.new for one in seen.failures)
    counted_new = sum(one.new for one in first)
    failures_old, counted_old = len(seen.failures) - failures_new, len(first) - counted_new
    return Arms(
        Tally(max(seen.requests_new, failures_new), failures_new, counted_new),
        Tally(max(seen.requests_old, failures_old), failures_old, counted_old),
    )
