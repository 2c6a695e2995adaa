"""One step of a plan: what is done to a simulated world, when, to whom and for how long; and how it is undone.

`faults` and `faults_network` hold what can be done, `commands` what users ask for, `plan` draws steps from a seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from perdure.model.replica import Slot
from perdure.sim.world import World


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: which (`F1`), when, to whom, for how long; `choice` in [0, 1) picks a variant."""

    what: str
    at: float
    service: str = ""
    number: int = 1
    length_s: float = 0.0
    choice: float = 0.0

    @property
    def slot(self) -> Slot:
        """The slot that is meant."""
        return Slot(self.service, self.number)

    def __str__(self) -> str:
        whom = f" {self.slot}" if self.service else ""
        return f"{self.what}{whom}" + (f" for {self.length_s:.2f} s" if self.length_s else "")


Doing = Callable[[World, Step], None]


def later(world: World, step: Step, undo: Callable[[], object]) -> None:
    """Undo it when the step is over."""

    def undone() -> None:
        world.note("fault", f"{step.what} {step.slot if step.service else ''} is over".replace("  ", " "))
        undo()

    world.loop.call_later(step.length_s, undone)
