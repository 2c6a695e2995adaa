"""How releases of a service are let in: the declared `[service.X.deploy]` and `files`, as frozen values.

Neighbours: `model.service` holds them, `recover.roll_out` reads them as policy, `model.release` is what they apply to.
"""

from dataclasses import dataclass
from enum import StrEnum

from perdure.model.check import Check


class Strategy(StrEnum):
    """How a new release gets the traffic."""

    CANARY = "canary"
    """It runs beside the old one, and gets a growing share."""
    BLUE_GREEN = "blue-green"
    """All its replicas run beside the old ones, and get everything at once."""
    ROLLING = "rolling"
    """Its replicas take the places of the old ones, one after the other."""


@dataclass(frozen=True, slots=True)
class Step:
    """The new release gets `share` (0 to 1) of the requests for `for_s` seconds."""

    share: float
    for_s: float


@dataclass(frozen=True, slots=True)
class DeployTest:
    """A post-deployment test: a command (exit code 0 is good), or a request to the new replica's own port."""

    command: tuple[str, ...] = ()
    check: Check | None = None
    timeout_s: float = 60.0
    tries: int = 1

    @property
    def label(self) -> str:
        """What people call it."""
        return " ".join(self.command) if self.check is None else f"{self.check.method} {self.check.path}"


BAKE_SHARE = 0.9
STEPS = (Step(0.05, 60.0), Step(0.25, 60.0), Step(0.5, 120.0))


@dataclass(frozen=True, slots=True)
class Deploy:
    """How releases of a service are let in: the declared `[service.X.deploy]`."""

    strategy: Strategy = Strategy.CANARY
    steps: tuple[Step, ...] = STEPS
    bake_s: float = 600.0
    """The last step: the new release has `BAKE_SHARE`, and the old one the rest, as a live control."""
    stable_s: float = 10.0
    """A new replica answers its checks for so long before it is tested."""
    exposure: int = 300
    """Requests that the new release must have had in a step before the next one."""
    tests: tuple[DeployTest, ...] = ()
    watch_s: float = 86_400.0
    """For so long after its end a rollout is taken back when the release turns bad."""
    warm_s: float = 1_800.0
    """For so long after the end the old replicas go on running without traffic."""
    deadline_s: float = 600.0
    """A rollout that makes no progress for so long is rolled back."""
    keep: int = 5
    """Releases that are kept beside those that run."""
    errors_max: float | None = None
    """A step that ends with a larger share of failed requests of the new release is rolled back, whatever the old one
    does; None: it is only compared.
    """
    breaks_data: bool = False
    """The data that this release writes cannot be read by the one before: code is not rolled back alone."""


@dataclass(frozen=True, slots=True)
class Files:
    """Which files of a directory belong to a release: shell patterns relative to `source` (absolute)."""

    source: str
    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
