"""Everybody who sends requests: Poisson arrivals in small batches, and what became of each request.

Neighbours: `balancer.Front` takes the requests, `haproxy` answers them; `checkers` watch what is sent and answered.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from perdure.sim.kernel import Reply, Runs
from perdure.sim.link import LARGE_BYTES
from perdure.sim.loop import VirtualLoop
from perdure.sim.servers import Clients, Request

BATCH_S = 0.05
SLOW_S = 2.0


@dataclass(slots=True)
class Tally:
    """What the clients of one service got."""

    rate: float
    """Requests a second, on average."""
    slow_share: float = 0.0
    """Of all requests, in [0, 1]: those that a replica works on for `SLOW_S`."""
    takes_s: float = 0.0
    """How long a replica works on any other, on average."""
    sent: int = 0
    answered: int = 0
    failed: int = 0
    wrong: int = 0
    wait_s_max: float = 0.0
    bad_share: float = 0.0
    """Of all requests, in [0, 1]: those that no replica can answer."""
    large_share: float = 0.0
    """The same: those whose answer is large."""

    @property
    def open(self) -> int:
        """Requests that are not over."""
        return self.sent - self.answered - self.failed - self.wrong


@dataclass(slots=True)
class Population(Clients):
    """The clients of all services; `on_sent` and `on_failed` let checkers watch."""

    loop: VirtualLoop
    random: Random
    on_sent: Callable[[Request, Runs | None, int], None]
    on_failed: Callable[[Request], None]
    tallies: dict[str, Tally] = field(default_factory=dict)

    def batch(self, arrive: Callable[[Request], None]) -> None:
        """Send what arrives in one batch."""
        now, random = self.loop.time(), self.random
        for name, tally in self.tallies.items():
            for _ in range(poisson(tally.rate * BATCH_S, random)):
                tally.sent += 1
                request = Request(name, now)
                if tally.slow_share and random.random() < tally.slow_share:
                    request.slow_s = SLOW_S
                if tally.takes_s:
                    request.slow_s += random.expovariate(1.0 / tally.takes_s)
                if tally.bad_share and random.random() < tally.bad_share:
                    request.bad = True
                if tally.large_share and random.random() < tally.large_share:
                    request.answer_bytes = LARGE_BYTES
                arrive(request)

    def sent(self, request: Request, runs: Runs | None, port: int) -> None:
        """HAProxy sends a request to a port."""
        self.on_sent(request, runs, port)

    def answered(self, request: Request, reply: Reply) -> None:
        """A request is over."""
        tally = self.tallies[request.service]
        tally.wait_s_max = max(tally.wait_s_max, self.loop.time() - request.arrived_at - request.slow_s)
        if reply is Reply.GOOD:
            tally.answered += 1
        elif reply in (Reply.WRONG, Reply.FOREIGN):
            tally.wrong += 1
        else:
            tally.failed += 1
            if not request.bad:
                self.on_failed(request)


def poisson(mean: float, random: Random) -> int:
    """A Poisson number with this mean (Knuth 1969); for means up to some tens."""
    limit, product, number = math.exp(-mean), random.random(), 0
    while product > limit:
        product *= random.random()
        number += 1
    return number
