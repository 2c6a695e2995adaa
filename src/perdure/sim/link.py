"""The network between: what gets through to a replica, and how late, as seen by whoever asks.

One machine has no network that fails, but Perdure will run on several. So the monitor and HAProxy are two observers
with a path of their own to each slot, and a `Trouble` is what is wrong with some of these paths. A packet that is lost
is sent again after 0.2 s, 0.4 s, and so on, as TCP does; over a path that loses all of them nothing arrives, and what
was sent meanwhile is lost for good. Neighbours: `prober` and `haproxy` ask, `faults_network` makes the trouble.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from perdure.model.replica import Slot

SENT_AGAIN_S = 0.2
"""TCP sends again what was not acknowledged after so long, then after twice as long."""
LARGE_BYTES = 100_000
"""The size of a large answer to a client; that of all others does not matter."""


class Observer(StrEnum):
    """Who asks a replica."""

    MONITOR = "monitor"
    HAPROXY = "HAProxy"


EVERYBODY = frozenset(Observer)


@dataclass(frozen=True, slots=True, eq=False)
class Trouble:
    """What is wrong with the paths from `observers` to a slot; `slot` None means to every slot of every service."""

    observers: frozenset[Observer]
    slot: Slot | None
    lost_share: float = 0.0
    """Of all packets, in [0, 1]; with 1 the path is cut."""
    largest_bytes: float = float("inf")
    """Larger answers never arrive."""

    def meets(self, observer: Observer, slot: Slot | None) -> bool:
        """Whether it is on this path; None is a path to nobody's slot."""
        return observer in self.observers and self.slot in (None, slot)


@dataclass(slots=True)
class Network:
    """All paths; they are well but for `troubles`."""

    random: Random
    troubles: list[Trouble] = field(default_factory=list)

    def cut(self, observer: Observer, slot: Slot) -> bool:
        """Whether nothing gets through now."""
        return self._lost_share(observer, slot) >= 1.0

    def swallows(self, observer: Observer, slot: Slot, answer_bytes: int) -> bool:
        """Whether an answer of this size never arrives."""
        return any(one.largest_bytes < answer_bytes and one.meets(observer, slot) for one in self.troubles)

    def late_s(self, observer: Observer, slot: Slot | None) -> float:
        """How late the next question or request arrives because packets of it were lost; infinity when never."""
        lost_share = self._lost_share(observer, slot)
        if lost_share >= 1.0:
            return float("inf")
        late_s, again_s = 0.0, SENT_AGAIN_S
        while lost_share and self.random.random() < lost_share:
            late_s, again_s = late_s + again_s, 2.0 * again_s
        return late_s

    def _lost_share(self, observer: Observer, slot: Slot | None) -> float:
        return max((one.lost_share for one in self.troubles if one.meets(observer, slot)), default=0.0)
