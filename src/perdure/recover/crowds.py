"""Which clients stand for many: proxies in front that nobody has declared, and load tests.

Of the failures of one client in one second only one counts (`observed`), for one client with a bug is one. But where
all requests come from a single address, it is not one client, and what it gets is all that there is to know. So the
share of the requests that each address sends is estimated from the log's lines, and the failures of one that sends more
than `CROWD_SHARE` count each by itself.
Neighbours: `control.contest` asks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CROWD_SHARE = 0.1
"""From this share of the requests on an address is a crowd."""
SPAN_S = 10.0
CLIENTS_MAX = 4096
"""Addresses that are counted in a span; with more of them, none of the others is a crowd."""


@dataclass(slots=True)
class Crowds:
    """Requests of each address in the present span and in the one before."""

    since_at: float = 0.0
    present: dict[str, int] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)

    def add(self, at: float, lines: Iterable[tuple[str, int]]) -> None:
        """Add addresses, each with how many requests a line stands for."""
        if at - self.since_at >= SPAN_S:
            self.since_at, self.before, self.present = at, self.present, {}
        for client, requests in lines:
            if client in self.present or len(self.present) < CLIENTS_MAX:
                self.present[client] = self.present.get(client, 0) + requests

    def is_crowd(self, client: str) -> bool:
        """Whether an address stands for many clients."""
        sent = self.present.get(client, 0) + self.before.get(client, 0)
        total = sum(self.present.values()) + sum(self.before.values())
        return sent > CROWD_SHARE * total
