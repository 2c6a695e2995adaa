"""The two writes of going back: that older data are wanted, and what became of it.

`going_back` calls them; they are commands like those of the `controller`, through which they go.
"""

from dataclasses import replace

from perdure.control.controller import Controller
from perdure.model.errors import ConflictError
from perdure.model.rollback import Outcome, Rollback
from perdure.model.standing import Desired


async def ask(controller: Controller, service: str, rollback: Rollback) -> list[str]:
    """Want older data for a service, as planned; ConflictError when another rollback was asked for meanwhile."""

    def change(desired: Desired) -> Desired:
        _follows(desired, rollback)
        return replace(desired, rollback=rollback, earlier=_remembered(desired, rollback, controller.wall()))

    return await controller.change("C08", service, None, change, f"{service} goes back to {rollback.target}")


async def conclude(controller: Controller, service: str, rollback: Rollback, sentence: str) -> None:
    """Write down what became of a rollback."""

    def change(desired: Desired) -> Desired:
        if desired.rollback is None or desired.rollback.number != rollback.number:
            raise ConflictError(f"{rollback.name} of {service} is not the last rollback any more", "perdure status")
        return replace(desired, rollback=rollback)

    await controller.change("D18", service, None, change, sentence)


def _follows(desired: Desired, rollback: Rollback) -> None:
    last = desired.rollback
    if last is not None and rollback.number <= last.number:
        raise ConflictError("another rollback was asked for meanwhile", "look at it: perdure status; then plan anew")


def _remembered(desired: Desired, rollback: Rollback, wall: float) -> tuple[Rollback, ...]:
    """The rollbacks before this one of which something is kept; one that it takes back was on trial until now."""
    kept = [one for one in desired.rollbacks if one.outcome is not Outcome.FAILED and wall < one.undo_until]
    return tuple(
        replace(one, outcome=Outcome.TAKEN_BACK) if one.outcome is Outcome.OPEN and not rollback.trial else one
        for one in kept
    )
