"""Going back: the state of the active slot is exchanged for that of a snapshot, and what was live is kept.

A rollback is a command (`Desired.rollback`); that it was carried out is known from the record of ownership, which names
the last one that is settled and the data epoch that began with it, in one write. So nobody who dies in between leaves
anything to guess: until then the exchange is made again, which changes nothing when it was made.
Neighbours: `control.going_back` plans, watches and undoes, `recover.take_over` decides when, `control.own` does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of it."""

    OPEN = "open"  # it is being carried out, or on trial: nobody has served with these data yet
    DONE = "done"
    FAILED = "failed"  # nothing was exchanged
    TAKEN_BACK = "taken back"  # nobody could serve with these data; another rollback puts back what they replaced


@dataclass(frozen=True, slots=True)
class Rollback:
    """One command to go back. Directories are absolute, and laid out like a slot's own (`ports.keeper`)."""

    number: int
    """`r41`: counts the rollbacks of a service."""
    slot: int
    """Whose state is exchanged: the owner's when it was asked for."""
    incoming: str
    outgoing: str
    """Where what was live is kept."""
    data_epoch: int
    """The history that begins with it."""
    base: str
    """The snapshot that `incoming` was restored from; of an undo, the safety snapshot of what is undone."""
    safety: str = ""
    """The snapshot of what was live, pinned; empty: it could not be read any more."""
    at: float = 0.0
    """When it was asked for (Unix time)."""
    undo_until: float = 0.0
    """What was live is kept so long (Unix time)."""
    undoes: int | None = None
    """The rollback that is undone by it."""
    trial: bool = True
    """It is taken back when nobody can serve with these data."""
    outcome: Outcome = Outcome.OPEN
    rescue_file: str = ""
    rescued: int | None = None
    """Rows in that file: those that only what was live had. None: there is no file (yet)."""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"r{self.number}"

    @property
    def target(self) -> str:
        """What it goes back to, in words."""
        return f"what r{self.undoes} had replaced" if self.undoes is not None else self.base


def undoable(rollbacks: Sequence[Rollback], wall: float) -> list[Rollback]:
    """Those that can be undone at `wall` (Unix time), the last one first: carried out, what they replaced is kept, and
    no other one has put that back."""
    undone = {one.undoes for one in rollbacks if one.outcome is not Outcome.FAILED}
    carried_out = (Outcome.DONE, Outcome.TAKEN_BACK)
    found = [one for one in rollbacks if one.outcome in carried_out and wall < one.undo_until]
    return sorted((one for one in found if one.number not in undone), key=lambda one: -one.number)
