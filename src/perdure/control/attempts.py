"""Doing something for each of several slots, so that one for which it fails keeps no other one from it."""

import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field

from perdure.control.world import ServiceState, SlotState
from perdure.model.errors import PerdureError
from perdure.model.replica import Slot
from perdure.ports.clock import Clock

AGAIN_S = 5.0
"""A slot for which something failed is left alone for so long."""


@dataclass(slots=True)
class Attempts:
    """Remembers for which slots something failed, and when it is tried again."""

    clock: Clock
    _again_at: dict[Slot, float] = field(default_factory=dict)

    def failed(self, service: ServiceState) -> bool:
        """Whether something failed for a slot of the service, and has not succeeded since."""
        return any(slot.slot in self._again_at for slot in service.slots.values())

    async def each(
        self,
        service: ServiceState,
        slots: Iterable[SlotState],
        work: Callable[[ServiceState, SlotState], Coroutine[None, None, None]],
    ) -> None:
        """Do it for each that is due, and raise what the first one raised."""
        problem: PerdureError | None = None
        for slot in slots:
            if self.clock.now() < self._again_at.get(slot.slot, -math.inf):
                continue
            try:
                await work(service, slot)
            except PerdureError as error:
                self._again_at[slot.slot] = self.clock.now() + AGAIN_S
                problem = problem or error
            else:
                self._again_at.pop(slot.slot, None)
        if problem is not None:
            raise problem
