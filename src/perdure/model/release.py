"""Releases and rollouts: what was let in, how, and what became of it.

A release is an immutable record of what a service runs. A rollout lets a new one in beside the one before: two *arms*,
each with slots of its own, until one of them has all the traffic for good. It is part of what is wanted of a service
(`model.standing.Desired.rollout`), so each of its steps is one write to the store: whoever dies in between leaves
nothing to guess, and the next daemon goes on from the step that was written last.
Neighbours: `recover.roll_out` decides the steps, `recover.compare` whether the new release fails more than the old one,
`control.rollouts` gathers the facts and writes.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from perdure.model.deploy import Step, Strategy
from perdure.model.service import Service


class Phase(StrEnum):
    """Where a rollout is. All but the last three have a deadline, or an instant at which they end."""

    STARTING = "starting"  # replicas of the new release start, answer their checks, and prove to be stable; no traffic
    TESTING = "testing"  # they get no traffic, and the tests are run against one of them
    SHARING = "sharing"  # they get the share of the present step, and are compared with the old ones
    WATCHING = "watching"  # it has all the traffic; the old replicas, if they still run, stand by for the way back
    RECALLED = "recalled"  # it had all the traffic and turned bad: the old ones get a share again, to compare
    GOING_BACK = "going back"  # it gets no traffic any more, and its replicas are drained and ended
    DONE = "done"  # it stays
    ROLLED_BACK = "rolled back"  # the release before serves, and nothing runs of the new one
    ABORTED = "aborted"  # the same, because somebody wanted it while it was on trial


UNDER_WAY = frozenset({Phase.STARTING, Phase.TESTING, Phase.SHARING})
"""The new release is on trial, and the one before is the one that counts."""
ENDED = frozenset({Phase.DONE, Phase.ROLLED_BACK, Phase.ABORTED})


@dataclass(frozen=True, slots=True)
class Release:
    """An immutable record of what to run. `service` is everything that the file said then; its `directory` is where
    the release's own copy of the files lies, when it has some.
    """

    name: str
    """`web@7`: ordered by its number."""
    service: Service
    made_at: float
    """Unix time."""
    message: str = ""
    files: str = ""
    """Digest of the list of its files; empty: it has none of its own."""
    content: str = ""
    """Digest of all that makes it differ from another release."""
    verdict: str = ""
    """Why it was rolled back; empty: it never was. The same content is refused until it changes."""

    @property
    def number(self) -> int:
        """7 of `web@7`."""
        return number_of(self.name)


def number_of(name: str) -> int:
    """The number in the name of a release."""
    return int(name.rpartition("@")[2])


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two releases of a rollout, and the slots in which it runs."""

    release: str
    service: Service
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """One deploy (or rollback by command) of one service, and where it is now.

    Instants `*_at` are monotonic and belong to one boot of the machine; those for people are Unix time (`*_wall`).
    """

    number: int
    old: Arm
    new: Arm
    strategy: Strategy
    steps: tuple[Step, ...]
    replicas: int
    """How many of the new release there are in the end."""
    phase: Phase = Phase.STARTING
    step: int = -1
    """Index of the step of `steps` that it is in; -1: before the first."""
    phase_at: float = 0.0
    """When this phase, or this step, began."""
    progress_at: float = 0.0
    """When it last made progress: the deadline counts from here."""
    began_wall: float = 0.0
    ended_wall: float | None = None
    """When it was done, rolled back or aborted."""
    attempt: int = 1
    """2: evidence of a short burst took the traffic off it once, and a fresh replica is tried."""
    tested: bool = False
    """The tests of the present phase have passed."""
    skip: bool = False
    """Somebody wants no more waiting (`perdure promote-release`)."""
    back: bool = False
    """It goes back to an earlier release by command: it is not compared, and not watched afterwards."""
    observe: bool = False
    """All verdicts are told, and none is acted on."""
    group: tuple[str, ...] = ()
    """Services that are deployed together with this one: all or none."""
    message: str = ""
    usual: float | None = None
    """Which share of the requests failed while it was let in: more afterwards is a reason to compare again."""
    ended_for: str = ""
    """Why it was rolled back, or aborted: one sentence."""
    aborted: bool = False
    """It goes back because somebody wanted it."""
    numbers: tuple[tuple[str, float], ...] = ()
    """The numbers behind the last verdict: requests, failures, e-value."""
    capsule: tuple[str, ...] = field(default=(), repr=False)
    """Last lines of output of the new release, when it was rolled back."""
    acknowledged: bool = False
    """Somebody has seen that it was rolled back."""
    markers: tuple[str, ...] = ()
    """Names of the markers that were set before and after."""

    @property
    def under_way(self) -> bool:
        """Whether the new release is still on trial."""
        return self.phase in UNDER_WAY

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet what becomes of it: on trial, or compared once more before its end."""
        return self.under_way or (self.phase is Phase.RECALLED and self.ended_wall is None)

    @property
    def moving(self) -> bool:
        """Whether two releases of a service are on the move, so that nothing else may be changed."""
        return (
            self.under_way or self.phase is Phase.RECALLED or (self.phase is Phase.GOING_BACK and bool(self.new.slots))
        )

    @property
    def told(self) -> bool:
        """Whether a verdict on it was told and not acted on: there is nothing more to tell."""
        return self.holds and bool(self.ended_for)

    @property
    def in_place(self) -> bool:
        """Whether the new replicas take the slots of the old ones."""
        return self.strategy is Strategy.ROLLING

    @property
    def holds(self) -> bool:
        """Whether a verdict is told and not acted on: it is only observed, or the release before cannot read the data
        that it has written since it took over.
        """
        untouched = self.phase in (Phase.STARTING, Phase.TESTING)
        writes = self.old if self.back else self.new
        return self.observe or (writes.service.deploy.breaks_data and not untouched)

    @property
    def share(self) -> float:
        """The share of the requests that the new release is to have now."""
        if self.phase is Phase.SHARING:
            return self.steps[self.step].share
        if self.phase is Phase.RECALLED:
            return RECALL_SHARE
        return 1.0 if self.phase in (Phase.WATCHING, Phase.DONE) else 0.0

    def idles(self, release: str) -> bool:
        """Whether the replicas of a release get no request just now, though they could."""
        if self.in_place or self.phase in ENDED:
            return False
        nothing = {self.new.release: self.share <= 0.0, self.old.release: self.share >= 1.0}
        return nothing.get(release, False)

    @property
    def failed(self) -> bool:
        """Rolled back, and nobody has acknowledged it yet."""
        return self.phase in (Phase.GOING_BACK, Phase.ROLLED_BACK) and not (self.acknowledged or self.aborted)


RECALL_SHARE = 0.5
"""What the new release keeps while the old one is recalled: the halves are compared soonest."""
