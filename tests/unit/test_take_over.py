"""Taking over, as a decision: what follows from a term that nobody has read yet."""

from dataclasses import replace

from facts import desired, replica, service

from perdure.control import turn
from perdure.model.owner import Term
from perdure.model.replica import Slot, State
from perdure.model.service import Mode, Standby
from perdure.model.snapshot import Keeping, StateKind
from perdure.model.standing import Standing
from perdure.recover.restart import Bucket

COLD = service(
    mode=Mode.ACTIVE_PASSIVE, standby=Standby.COLD, replicas=1, state=Keeping(StateKind.SQLITE, "notes.db", every_s=2.0)
)


def rules(term: Term) -> list[str]:
    """Slot 2 is active, and stays although it is not wanted: the last state cannot be copied from it to slot 1."""
    empty = Standing(Slot("web", 1), None, unsaved=True)
    active = Standing(Slot("web", 2), replace(replica(2, State.READY), epoch=3))
    facts = turn.Facts(desired(COLD), [empty, active], dependencies_ready=True, bucket=Bucket(2.0, 0.0), term=term)
    return [one.rule for one in turn.decide(facts, 100.0).decisions]


def test_while_the_record_of_the_owner_was_not_read_nobody_is_ended_or_started() -> None:
    assert rules(Term(known=False)) == []
    assert rules(Term(owner=2, epoch=3, holds=True, takeable=True)) == ["T09"]
