"""The part of a transcript that is about who is active: commands, the term, and replicas that are told of it."""

from collections.abc import Callable
from dataclasses import replace

from listed import VirtualClock

from perdure.control.world import ServiceState
from perdure.model.decision import Promote, Take
from perdure.model.owner import Handover, Term
from perdure.model.replica import Slot
from perdure.model.standing import Desired

TAKES_S = 0.01
TOLD_S = 0.05


class Owning:
    """Commands for active-passive services; `interpreter.Interpreter` has the rest."""

    deaf: set[int]
    clock: VirtualClock
    _service: ServiceState
    _wanted: Desired
    _later: Callable[[float, Callable[[], None]], None]
    _want: Callable[..., None]

    def do_promote(self, target: str, *options: str) -> None:
        """`promote notes/2` or `promote notes`: another slot is to be active."""
        last = self._wanted.handover.number if self._wanted.handover is not None else 0
        slot = Slot.parse(target).number if "/" in target else None
        self._want(handover=Handover(last + 1, slot, "accept-loss" in options))

    def do_behind(self, slot: str, seconds: str) -> None:
        """`behind notes/2 30`: the last state of the active one cannot be read, and this slot's is so old."""
        self._service.lossy = True
        self._service.preserved.current_at[Slot.parse(slot).number] = self.clock.now() - float(seconds)

    def do_unsaved(self, slot: str) -> None:
        """`unsaved notes/1`: it holds changes that nobody has copied."""
        self._service.slots[Slot.parse(slot).number].unsaved = True

    def do_right_lost(self) -> None:
        """`right-lost`: the store has not renewed the right in time."""
        self._service.term = replace(self._service.term, holds=False)

    def do_right_back(self) -> None:
        """`right-back`: it has, at last."""
        self._service.term = replace(self._service.term, holds=True)

    def do_elsewhere(self, epoch: str) -> None:
        """`elsewhere 9`: the record names another host, in this epoch."""
        self._service.term = Term(epoch=int(epoch))

    def do_deaf(self, slot: str) -> None:
        """`deaf notes/2`: it does not take what it is told of its role."""
        self.deaf.add(Slot.parse(slot).number)

    def _occupied(self, change: Take | Promote) -> None:
        """The store, or the replica, needs a moment."""
        self._service.term = replace(self._service.term, busy=True)
        self._later(TAKES_S if isinstance(change, Take) else TOLD_S, lambda: self._owned(change))

    def _owned(self, change: Take | Promote) -> None:
        service = self._service
        if isinstance(change, Take):
            epoch = service.term.epoch + 1
            service.term = Term(change.slot.number, epoch, handover=change.handover, holds=True, takeable=True)
            return
        service.term = replace(service.term, busy=False)
        slot = service.slots[change.slot.number]
        if change.slot.number in self.deaf:
            slot.refusals += 1
        else:
            slot.told = service.term.epoch
