"""The keeper of state makes snapshots of a service, keeps them, and puts them back.

`Archive` is what can be done with the snapshots that are kept, `Keeper` what is done with a slot's state besides.

All of it works in another process, so that hashing gigabytes never delays the loop; a call returns when the work is
done, and dies with the daemon. What was begun and not finished leaves nothing that counts: a snapshot exists once its
manifest does, and a restore works aside until it is switched to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.model.errors import UnavailableError
from perdure.model.snapshot import Keeping, Kept, Loss, Manifest, Pin, Proof


class EndedError(UnavailableError):
    """The keeper's process ended in a call: what was asked may have been done, or not."""


class HalfwayError(UnavailableError):
    """The state is between two, or it is not known to be whole: nobody may run on it until `recover` has answered."""


@dataclass(frozen=True, slots=True)
class Source:
    """The state of one slot. `directory` is the slot's own (`$PERDURE_STATE`), absolute."""

    service: str
    slot: str
    directory: str
    keeping: Keeping
    environment: tuple[tuple[str, str], ...] = ()
    """For commands: what the service's own processes get."""
    pid: int | None = None
    """The first process of the group that is stopped for `Consistency.PAUSE`; None: nobody runs."""
    user: str | None = None
    group: str | None = None


def aside_of(source: Source) -> str:
    """The directory beside the slot's own in which going back works: on the same file system."""
    return f"{source.directory.rpartition('/')[0]}/back"


class Archive(Protocol):
    """The snapshots of a service. Methods raise UnavailableError (no room, no such snapshot), CorruptionError (naming
    the damaged file) and ConflictError (another process works with them)."""

    async def kept(self, service: str) -> Sequence[Kept]:
        """All snapshots of a service, the oldest first."""

    async def verify(self, service: str, snapshot: str) -> None:
        """Read all of it, and check every digest; CorruptionError names the file that is damaged."""

    async def note(self, service: str, snapshot: str, pin: Pin | None, proof: Proof | None) -> None:
        """Write down what was learned of a snapshot; None leaves what is known."""

    async def unpin(self, service: str, snapshot: str) -> None:
        """Let retention remove it again; nothing happens when it is not pinned."""

    async def mark(self, service: str, name: str, snapshot: str) -> None:
        """Give a snapshot a name; a name that exists moves."""

    async def unmark(self, service: str, name: str) -> None:
        """Take a name away; nothing happens when no snapshot has it."""

    async def remove(self, service: str, snapshots: Sequence[str]) -> int:
        """Delete snapshots and the packs that no other one needs; the bytes that became free."""

    async def abandon(self, service: str) -> None:
        """End what is being done for a service, and what waits for it: those calls raise UnavailableError, and once
        this returns none of them has an effect any more. What is called from then on begins anew. A state that was
        being brought to a snapshot may be between two; `applied` says None of it then."""

    async def hurry(self, service: str) -> None:
        """End what can be repeated for a service (`restore`, `compare`, `rescue`, `prove`), begun or waiting, so that
        what clients wait for is done next: those calls raise EndedError. All others are left alone."""

    async def transfer_out(self, service: str, snapshot: str, file: str) -> None:
        """Write one snapshot to a file that stands alone."""

    async def transfer_in(self, service: str, file: str) -> Manifest:
        """Read such a file; it gets a new id, and its own time and epochs are kept."""

    async def close(self) -> None:
        """End the work."""


class Keeper(Archive, Protocol):
    """Methods raise RefusedError (an older epoch), ConflictError (a process has open what must be at rest),
    UnavailableError (no room, a command failed, no such snapshot), CorruptionError (naming the damaged file); nothing
    live was changed then. HalfwayError (`switch`, `recover`, `apply`) says that this cannot be said.

    A directory `aside` is laid out like a slot's own: what is at `path` there is at `path` here. It lies on the same
    file system as the slot's directory if it is to be switched to.
    """

    async def take(self, source: Source, epoch: int, data_epoch: int) -> Manifest:
        """Take a snapshot; RefusedError when a newer epoch was seen."""

    async def apply(self, source: Source, snapshot: str, running: bool) -> None:
        """Bring the state of a passive replica to a snapshot. `running`: a process may have it open. An interrupted
        call leaves a mark in the slot's directory, and `applied` says None until the next one is complete."""

    async def applied(self, source: Source) -> Manifest | None:
        """The snapshot that a slot's state was brought to last; None: to none, or half. What was written to it since is
        not looked for."""

    async def restore(self, source: Source, snapshot: str, aside: str) -> Manifest:
        """Restore aside, into a directory that does not exist yet, and check it (integrity, the user's own query). It
        gets its name when all of it is there; what a process that was ended left of it is in nobody's way."""

    async def prove(self, source: Source, snapshot: str) -> Proof:
        """Restore aside, check, time, and remove it again; what was found is noted with the snapshot."""

    async def compare(self, source: Source, aside: str, taken_at: float) -> Loss:
        """What would be lost by switching from the live state to the one that was restored aside."""

    async def rescue(self, source: Source, aside: str, file: str) -> int:
        """Write the rows that would be lost to `file`, as a changeset; how many there are."""

    async def reinsert(self, source: Source, file: str, tables: Sequence[str]) -> tuple[int, Sequence[str]]:
        """Put lost rows back: how many, and a sentence for each one that conflicts. No tables: all."""

    async def switchable(self, source: Source, incoming: str, outgoing: str) -> None:
        """Raise what `switch` would raise before it begins, but not for processes that have the state open; cheap, and
        nothing is changed."""

    async def switch(self, source: Source, incoming: str, outgoing: str) -> None:
        """Make the state in `incoming` the live one, and keep what was live in `outgoing`, which does not exist yet.

        Both lie below the directory of the service's slots, and not in the slot's own. Nobody runs meanwhile. Done
        again it changes nothing, and with the two names exchanged it is undone, unless nothing was live that could be
        kept: then that is an UnavailableError. Success: the new state is live. HalfwayError, or the process dies in it
        (EndedError): the state is the old one or the new one once `recover` has answered, and nobody runs on it before.
        CorruptionError for its journal: nothing was moved now, and what an earlier switch left is not known."""

    async def tidy(self, source: Source, kept: Sequence[str]) -> None:
        """Remove what was restored aside or kept beside the slot's directory, in `aside_of(source)`, but for these
        paths, and for what `recover` needs."""

    async def recover(self, source: Source) -> bool | None:
        """Called before a slot's state is used, after a death or a HalfwayError: complete a half-done switch (True), or
        take it back (False); None when there was none. HalfwayError: it is still half done; CorruptionError: somebody
        must look, for its journal is not to be believed."""
