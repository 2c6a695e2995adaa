"""What is known of a rollout, and the move that follows: the facts of `roll_out` and `roll_back`, as frozen values."""

import math
from dataclasses import dataclass

from perdure.model.event import Fact, Severity
from perdure.model.release import Rollout
from perdure.model.service import Service


def beside(service: Service) -> bool:
    """Whether two releases of a service can run at the same time."""
    return not why_not_beside(service)


def why_not_beside(service: Service) -> str:
    """Why its new replicas take the slots of the old ones; empty: they do not have to."""
    if service.one_active:
        return "one replica alone may be active"
    if service.port is not None:
        return f"it has the fixed port {service.port}"
    return "" if service.listen is not None else "without `listen` it has no traffic to share"


@dataclass(frozen=True, slots=True)
class Side:
    """The replicas of one release."""

    wanted: int = 0
    serving: int = 0
    live: int = 0
    since_at: float = math.inf
    """Since when all that are wanted serve (infinity: they do not)."""
    deaths: int = 0
    """Replicas that ended by themselves, since this attempt began."""
    convicted: int = 0
    """Replicas that the monitor has isolated for what they show."""
    failing: int = 0
    """Of those, the ones that failed requests of clients, which were compared with what all others failed."""
    ill_s: float = 0.0
    """For how long one of them has been convicted, or has failed its checks."""
    ill_for: str = ""

    @property
    def whole(self) -> bool:
        """Whether all that are wanted serve; one that is drained is not."""
        return self.serving >= self.wanted


@dataclass(frozen=True, slots=True)
class Tried:
    """The post-deployment tests of the present phase; all False: they have not ended yet."""

    passed: bool = False
    failed: str = ""
    """Which one failed, and how."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the comparison says."""

    guilty: str = ""
    """Why the new release is to blame; empty: nothing says so."""
    burst_s: float = math.inf
    """Between the first and the last of the failures that say so."""
    numbers: tuple[tuple[str, float], ...] = ()
    shared: str = ""
    """What both releases show: nobody is to blame."""
    suspicious: str = ""
    """While it has everything: it fails more than it, or the release before, did until then."""
    requests: float = 0.0
    """Of the new release, in this step."""
    error_share: float = 0.0
    """Of those, how many failed."""
    asked_at: float = -math.inf
    """When the new release got a request last."""


@dataclass(frozen=True, slots=True)
class Group:
    """The other services of the same deploy."""

    ready: bool = True
    """All have reached their last step."""
    failed: str = ""
    """One goes back: this one does, too."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a rollout now."""

    new: Side
    old: Side
    replicas: int
    """Of the release that serves."""
    free: tuple[int, ...]
    """Slots that nobody uses, the lowest first; enough of them."""
    tests: Tried = Tried()
    evidence: Evidence = Evidence()
    group: Group = Group()
    progress_at: float = -math.inf
    """When progress was seen last that is not written down (`roll_out.progressed`)."""
    ill_together_at: float = -math.inf
    """When both releases were ill last (`roll_out.ill_together_at`)."""
    stands: bool = True
    """What speaks against the new release (`roll_out.accused`) has stood for `roll_out.STANDS_S`, and nothing spoke
    against the old one from that long before.
    """


@dataclass(frozen=True, slots=True)
class Move:
    """The next state of a rollout, and why."""

    rule: str
    rollout: Rollout
    sentence: str
    severity: Severity = Severity.INFO
    handover: int | None = None
    """Of an active-passive service: the slot that is to be active now."""
    facts: tuple[tuple[str, Fact], ...] = ()
