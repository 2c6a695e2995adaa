"""The part of a transcript that is about who is active: commands, the term, and replicas that are told of it."""

from collections.abc import Callable
from dataclasses import replace

from listed import VirtualClock

from perdure.control.world import ServiceState
from perdure.detect import suspect
from perdure.model.decision import Exchange, Promote, Take
from perdure.model.owner import Handover, Term
from perdure.model.replica import Slot
from perdure.model.rollback import Rollback
from perdure.model.standing import Desired

TAKES_S = 0.01
TOLD_S = 0.05


def fresh(wanted: Desired) -> ServiceState:
    """A service of which nothing runs yet; no exchange of its data was cut short."""
    service = ServiceState(wanted, suspect.policy(wanted.service), term=Term(takeable=True))
    service.preserved.settled |= set(range(1, wanted.replicas + 1))
    return service


class Owning:
    """Commands for active-passive services; `interpreter.Interpreter` has the rest."""

    deaf: set[int]
    stuck = False
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

    def do_go_back(self, *options: str) -> None:
        """`go-back` or `go-back stuck`: the owner's data are to be exchanged for older ones; it may not be possible."""
        term, last = self._service.term, self._wanted.rollback
        number = (last.number if last is not None else 0) + 1
        self.stuck = "stuck" in options
        self._want(rollback=Rollback(number, term.owner or 0, "new", "old", term.data_epoch + 1, "s-0002"))

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

    def _occupied(self, change: Take | Promote | Exchange) -> None:
        """The store, or the replica, needs a moment."""
        self._service.term = replace(self._service.term, busy=True)
        self._later(TOLD_S if isinstance(change, Promote) else TAKES_S, lambda: self._owned(change))

    def _owned(self, change: Take | Promote | Exchange) -> None:
        service = self._service
        before, wanted = service.term, self._wanted.rollback
        if not isinstance(change, Promote):
            chosen = service.slots[change.slot.number]
            chosen.history = replace(chosen.history, failures=0, next_start_at=0.0)
        if isinstance(change, Take):
            fresh = Term(change.slot.number, before.epoch + 1, before.data_epoch, change.handover, before.rollback)
            service.term = replace(fresh, holds=True, takeable=True)
            return
        if isinstance(change, Exchange):
            assert wanted is not None
            history = before.data_epoch if self.stuck else wanted.data_epoch
            fresh = Term(change.slot.number, before.epoch + 1, history, before.handover, wanted.number)
            service.term = replace(fresh, holds=True, takeable=True)
            return
        service.term = replace(service.term, busy=False)
        slot = service.slots[change.slot.number]
        if change.slot.number in self.deaf:
            slot.refusals += 1
        else:
            slot.told = service.term.epoch
