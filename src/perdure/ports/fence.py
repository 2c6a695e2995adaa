"""The fence ends the active replica of a service when the right to be active has run out and nobody renewed it.

It is the supervisor of `ownership`: another process than the daemon and than the service, so that the deadline also
holds while the daemon is paused, starved or dead. The daemon states for each active-passive service who is active and
until when (`Hold`), before it lets that replica be active, and again at each renewal; the fence does the rest alone.

All instants are seconds of CLOCK_BOOTTIME: it is the same for all processes of the host, and counts suspended time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.model.replica import Process, Slot


@dataclass(frozen=True, slots=True)
class Hold:
    """The active replica of a service, and until when it may go on.

    Both instants are None when the right does not run out, as on one machine with a store of its own: a dead daemon
    then leaves the active replica serving. Otherwise `term_at` <= `kill_at`.
    """

    slot: Slot
    epoch: int
    process: Process
    term_at: float | None
    """From here on its whole group is told to end (SIGTERM)."""
    kill_at: float | None
    """From here on its whole group is killed (SIGKILL)."""

    def __post_init__(self) -> None:
        assert self.process.pid > 1, "1 and 0 stand for every process when they are signalled"
        assert (self.term_at is None) == (self.kill_at is None), "both or none"
        assert self.term_at is None or self.kill_at is None or 0 <= self.term_at <= self.kill_at < float("inf")

    @property
    def service(self) -> str:
        """Whose replica it is."""
        return self.slot.service


@dataclass(frozen=True, slots=True)
class Acted:
    """What the fence did to a replica because its right had run out."""

    slot: Slot
    epoch: int
    process: Process
    at: float
    signal: str
    """`SIGTERM` or `SIGKILL`."""
    gone_at: float | None
    """When the whole group was first seen to be gone; None: not yet."""

    @property
    def group_gone(self) -> bool:
        """Whether nothing of the group was left."""
        return self.gone_at is not None


class Fence(Protocol):
    """No method waits for a network; a call costs less than a millisecond, except one that has to start the process."""

    @property
    def pid(self) -> int | None:
        """The supervisor's process; None: it does not run now."""

    def ensure(self) -> None:
        """Start the process when it is not there, adopt one that an earlier daemon started, and replace that of another
        version. From then on it is watched, and started again when it ends. UnavailableError when it cannot be
        started, or ended so often that the next attempt has to wait."""

    def hold(self, hold: Hold) -> None:
        """State who is active in a service, and until when; replaces what was stated before. Outlives the daemon.

        A renewal counts when the call returned before `term_at` of the last one; a later one may find that the replica
        was told to end (see `acted`). UnavailableError when the hold cannot be made to last or nobody would enforce it:
        then the replica must not go on beyond what was held before. RefusedError for an epoch below one that was held:
        somebody newer is active."""

    def release(self, service: str) -> None:
        """Nobody is active in this service any more: forget the deadline. UnavailableError: it still holds."""

    def held(self) -> Sequence[Hold]:
        """What is held now, also by an earlier daemon. A service that is missing here has no right to be active."""

    def acted(self) -> Sequence[Acted]:
        """What was done to the process that each service held last, in order of time; it is there until another process
        is held."""

    def end(self) -> None:
        """Tell the process to end; it stays for as long as something with a deadline is held."""
