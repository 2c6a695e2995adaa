"""The term of one service on one host: it renews the right in time, hands its deadlines to the fence, and lets go.

`Claim` talks to the store, the fence kills at the deadline though this process may be paused or dead; here is when.
What may be active is asked of `claim.holds`, each time anew: nobody keeps a copy of it. Order matters twice: the fence
knows the deadline before anything becomes active, and a longer one only after the store has agreed to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from perdure.control.claim import Claim
from perdure.model.errors import UnavailableError
from perdure.model.owner import Right, Seen
from perdure.ports.clock import Clock
from perdure.prevent import ownership

LOOK_EVERY_S = 0.2
"""How often a host looks at a record that is not its own."""


@dataclass(slots=True)
class Tenure:
    """Keeps one claim. `hold` gives the fence the deadlines of a right; what it holds is released by whoever has seen
    the replica end. `on_change` is called when this host has gained or lost a right, and when the record is another.
    """

    claim: Claim
    clock: Clock
    hold: Callable[[Right], None]
    on_change: Callable[[], None]
    known: bool = False
    """The record was read, and if it was this host's, renewing it was tried: before that nobody can say whether what
    an earlier daemon let be active still may be."""
    _held: Right | None = None
    _told: Seen = field(default_factory=Seen)
    _look_at: float = -math.inf
    """When the record is looked at next, while it is not this host's."""

    async def run(self) -> None:
        """Keep it, for ever."""
        while True:
            await self.clock.sleep_until(await self.step())

    async def step(self) -> float:
        """Do what is due; the instant at which the next thing is."""
        claim, now = self.claim, self.clock.now()
        if claim.right is not None and not claim.holds(now):
            claim.right = None  # what ran was told to end by whoever asks `holds`, and by the fence
        if claim.right is not None:
            due_at = ownership.renew_at(claim.sent_at, claim.terms)
            if now >= due_at:
                await claim.renew()
        elif now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            await self._look()
        self._tell()
        return self._next_at()

    async def take(
        self, slot: str, *, data_epoch: int | None = None, handover: int = 0, rollback: int | None = None
    ) -> bool:
        """Let a slot of this host become the owner, in a new term; False when it may not, or did not succeed."""
        taken = await self.claim.take(slot, data_epoch=data_epoch, handover=handover, rollback=rollback)
        self._tell()
        return taken and self.claim.holds(self.clock.now())

    async def release(self) -> bool:
        """Give the record up; what was active here has ended."""
        released = await self.claim.release()
        self._tell()
        return released

    async def _look(self) -> None:
        try:
            await self.claim.look()
        except UnavailableError:
            return  # nothing is known that was not known before
        owner = self.claim.seen.owner
        if owner is not None and owner.host == self.claim.host and not owner.released:
            await self.claim.renew()
        self.known = True

    def _tell(self) -> None:
        right = self.claim.right
        if right != self._held and right is not None:
            self.hold(right)
        if right != self._held or self.claim.seen != self._told:
            self._held, self._told = right, self.claim.seen
            self.on_change()

    def _next_at(self) -> float:
        claim, now = self.claim, self.clock.now()
        if claim.right is None:
            return self._look_at
        again_at = max(now + LOOK_EVERY_S / 2.0, ownership.renew_at(claim.sent_at, claim.terms))
        return min(again_at, claim.right.until_at)
