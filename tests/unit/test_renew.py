"""One replica at a time is replaced before it is full."""

from facts import desired, standing

from perdure.control import turn
from perdure.model.decision import Advance
from perdure.model.replica import Event, State
from perdure.model.standing import Filling, Standing
from perdure.prevent import renew
from perdure.recover.restart import Bucket


def filling(number: int, full_in_s: float, state: State = State.READY) -> Standing:
    return standing(number, state, filling=Filling(full_in_s, f"full in {full_in_s:.0f} s"))


def test_the_one_that_is_full_first_is_drained_and_only_that_one() -> None:
    (decision,) = renew.decide(desired(), [filling(1, 500.0), filling(2, 100.0), filling(3, 400.0)])
    assert (decision.rule, decision.change) == ("P09", Advance(filling(2, 1.0).slot, Event.DRAIN_WANTED))
    assert "full in 100 s" in decision.sentence


def test_nobody_is_drained_while_another_slot_does_not_serve_or_there_is_time() -> None:
    assert renew.decide(desired(), [filling(1, 100.0), standing(2, State.STARTING), standing(3)]) == []
    assert renew.decide(desired(), [filling(1, 601.0), standing(2), standing(3)]) == []
    assert renew.decide(desired(replicas=1), [filling(1, 100.0)]) == []


def test_a_drained_one_is_ended_and_not_readmitted() -> None:
    draining = filling(1, 100.0, State.DRAINING)
    facts = turn.Facts(desired(), [draining, standing(2), standing(3)], True, Bucket(2.0, 0.0))
    assert not [one for one in turn.decide(facts, 1.0).decisions if one.rule == "P05"]
    later = turn.decide(facts, 31.0).decisions
    assert [(one.rule, one.subject) for one in later] == [("P03", "web/1")]
