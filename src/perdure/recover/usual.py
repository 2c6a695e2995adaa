"""What is usual for the release that serves, gathered before a new one gets traffic, and then frozen.

Neighbours: `compare` compares the new release with it, besides with what the old one shows at the same time.
"""

from dataclasses import dataclass, field

from perdure.recover import observed, slowness, surge
from perdure.recover.observed import Clients, Observed, Tally
from perdure.recover.slowness import Limit, Times


@dataclass(frozen=True, slots=True)
class History:
    """What the old release showed so far."""

    served: Tally = observed.NONE
    times: Times = field(default_factory=Times)
    clients: Clients = observed.NOBODY


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is usual: the share of requests that fails, and the limits of response times (none: too few answers)."""

    failing: float = surge.FLOOR
    limits: tuple[Limit, ...] = ()

    @property
    def sentence(self) -> str:
        """Whether response times are compared, and with what."""
        if not self.limits:
            return f"response times are not compared: fewer than {slowness.LINES_MIN} answers were seen before"
        limits = ", ".join(f"{one.name} {one.ms} ms" for one in self.limits)
        return f"response times are compared; an answer is slow that takes longer than {limits}"


def gather(history: History, seen: Observed) -> History:
    """Add a reading in which the new release got nothing."""
    clients, first = observed.first_of_second(history.clients, seen.at, seen.failures)
    served = history.served.plus(observed.counted(seen, first).old)
    return History(served, slowness.gather(history.times, seen.timed), clients)


def freeze(history: History) -> Frozen:
    """What is usual, from now on."""
    failing = surge.usual_share(history.served.counted, history.served.requests)
    return Frozen(failing, slowness.freeze(history.times))
