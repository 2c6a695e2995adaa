"""One row of the fault catalogue: what is done, to whom, and what must come of it. The rows are in `catalogue`."""

from dataclasses import dataclass
from enum import StrEnum

from bench.faults import stages
from bench.faults.struck import Strike

REST_S = 6.0


class Whom(StrEnum):
    """Who is struck."""

    NOBODY = "nobody"
    ONE = "one"
    TWO = "two"
    ALL = "all"


class Expected(StrEnum):
    """What must come of it."""

    ISOLATED = "isolated"  # those that were struck get no requests, each time anew, and nobody else is touched
    ALARM = "alarm"  # nobody is isolated or restarted; an event of one of the row's rules tells somebody
    TOLD = "told"  # the status says so, in these words, then an event (if the row has rules); nobody else is touched
    PUT_RIGHT = "put right"  # every server has its weight again, and nobody is touched
    GONE = "gone"  # the process and all its children are gone, and nobody else is touched
    SERVES = "serves"  # somebody else serves in its place, and nobody else is touched
    ANOTHER_BALANCER = "another balancer"  # clients are answered through another HAProxy, and nobody is touched
    NOTHING = "nothing"  # nobody is isolated or restarted


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `within_s` is the longest time it may take, or for how long nothing may happen."""

    number: str
    name: str
    strike: Strike
    expected: Expected = Expected.ISOLATED
    within_s: float = 10.0
    whom: Whom = Whom.ONE
    again_s: float = 0.0
    """It is done again and again with this pause; 0: once."""
    words: str = ""
    """What the status must say."""
    own: bool = False
    """It is about something that only Perdure has, so no other side is asked."""
    times: int = 1
    """How often it is made for each trial."""
    trials_max: int | None = None
    """It takes so long that it is made this often at most."""
    stage: str = stages.SHOP
    """What it is played on."""
    rules: frozenset[str] = frozenset()
    """The events of which one must tell of it."""
    forbidden: frozenset[str] = frozenset()
    """Events that there must not be; each counts as somebody touched."""
    spare: int = 0
    """So many may be touched beside those that were struck, since it is in the nature of the fault."""
    lasts_s: float = 0.0
    """It is watched for so long, also when it was noticed before."""
    none_fails: bool = False
    """Not one request may fail."""
    rest_s: float = REST_S
    """For how long all must have been well before, and before anything else is done."""
    alone: bool = False
    """It would disturb what runs beside it, so nothing does."""

    @property
    def heals(self) -> bool:
        """Whether those that were struck are made well again; otherwise they are ended."""
        return self.expected in HEALED

    def trials(self, extent: int) -> int:
        """How often it is made when the extent is so many trials."""
        wanted = extent * self.times
        return wanted if self.trials_max is None else min(wanted, self.trials_max)


HEALED = frozenset({Expected.ALARM, Expected.PUT_RIGHT, Expected.ANOTHER_BALANCER, Expected.NOTHING})
