"""Lines of HAProxy's log that say only that all is well wait for a while before a simulated day hands them in.

Each second with lines costs a judgment of all replicas at the endpoint. A second without a failed, refused or slow
answer there changes no score, only tallies that are averages over ten seconds and more; so such lines are gathered for
up to `HELD_S`. As soon as one at the endpoint is not good, those that waited are handed in first, as of the second
before: what was good earlier never dilutes what is bad now. Neighbours: `crowd` writes the lines, `day` hands them to
`control.sample`, whose memory of each endpoint says what is slow there.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from perdure.control.world import ServiceState
from perdure.model.traffic import Answered

HELD_S = 5.0


@dataclass(slots=True)
class Lull:
    """The lines that wait, by path."""

    waiting: dict[str, list[Answered]] = field(default_factory=dict)
    since_at: float = 0.0
    """When all were handed in last."""

    def sorted(
        self, service: ServiceState, lines: Iterable[Answered], now: float
    ) -> tuple[list[Answered], list[Answered]]:
        """What must be handed in as of a second ago, and what must be handed in now; the rest waits."""
        by_path: dict[str, list[Answered]] = {}
        for line in lines:
            by_path.setdefault(line.path, []).append(line)
        earlier: list[Answered] = []
        present: list[Answered] = []
        for path, several in by_path.items():
            limit_ms = _limit_ms(service, path)
            if any(one.status >= 400 or (one.response_ms or 0) >= limit_ms for one in several):
                earlier += self.waiting.pop(path, ())
                present += several
            else:
                self.waiting.setdefault(path, []).extend(several)
        if now - self.since_at >= HELD_S:
            self.since_at = now
            for several in self.waiting.values():
                present += several
            self.waiting.clear()
        return earlier, present

    def ended(self) -> list[Answered]:
        """Everything that waits: from now on nothing does."""
        every = [line for several in self.waiting.values() for line in several]
        self.waiting.clear()
        return every

    def forget(self) -> None:
        """The monitor was paused: what was gathered is void."""
        self.waiting.clear()


def _limit_ms(service: ServiceState, path: str) -> float:
    """From which time on an answer is slow on some replica; infinity as long as nobody knows, for then none counts."""
    known = [slot.belief.endpoints.get(path) for slot in service.slots.values()]
    limits = [one.limit_ms for one in known if one is not None and one.limit_ms is not None]
    return min(limits, default=math.inf)
