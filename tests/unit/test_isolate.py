"""Who is isolated: the convicted, worst first, never below the capacity floor, and nobody for a shared sign."""

from dataclasses import replace

import pytest
import worlds
from facts import conviction, standing, verdict
from hypothesis import given

from perdure.control import turn
from perdure.model.decision import Advance, Note
from perdure.model.event import Severity
from perdure.model.replica import Event, State
from perdure.model.standing import Standing, View
from perdure.model.verdict import DEFINITIVE, Common, Scope, Sign
from perdure.recover import isolate
from perdure.recover.isolate import Shared

NOTHING_SHARED = Shared()


def shared(*signs: Sign, told: bool = True) -> Shared:
    return Shared(frozenset(signs), frozenset(signs if told else ()))


def ready(number: int, sign: Sign | None = None, score: float = 20.0) -> Standing:
    return standing(number, verdict=verdict(sign, score) if sign else None, verdict_since_at=0.0 if sign else None)


@pytest.mark.parametrize(("replicas", "floor"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (10, 5)])
def test_the_capacity_floor_is_half_of_the_replicas_and_at_least_one(replicas: int, floor: int) -> None:
    assert isolate.capacity_floor(replicas) == floor


def test_a_convicted_replica_is_isolated_with_the_evidence_that_convicted() -> None:
    [decision] = isolate.decide([ready(1), ready(2, Sign.STATUS), ready(3)], 3, NOTHING_SHARED)
    assert (decision.rule, decision.subject, decision.severity) == ("R01", "web/2", Severity.WARNING)
    assert decision.change == Advance(standing(2).slot, Event.CONVICTED)
    assert decision.sentence == "is isolated: it is status"
    assert decision.facts == {"evidence": "probe", "sign": "status", "endpoint": "http /healthz"}


def test_the_worst_evidence_goes_first_and_the_rest_keeps_its_traffic_at_the_floor() -> None:
    convicted = [ready(1, Sign.STATUS, 11.0), ready(2, Sign.HANG, 30.0), ready(3, Sign.STOPPED, 0.0)]
    decisions = isolate.decide(convicted, 3, NOTHING_SHARED)
    assert [(one.rule, one.subject) for one in decisions] == [("R01", "web/3"), ("R01", "web/2"), ("R06", "web/1")]
    assert decisions[2].change == Note("floor")
    assert decisions[2].severity is Severity.ALARM


def test_the_only_replica_of_a_service_is_never_isolated() -> None:
    [decision] = isolate.decide([ready(1, Sign.STOPPED)], 1, NOTHING_SHARED)
    assert decision.rule == "R06"


def test_a_shared_sign_is_told_and_isolates_nobody() -> None:
    decisions = isolate.decide([ready(1, Sign.STATUS), ready(2, Sign.STATUS), ready(3)], 3, shared(Sign.STATUS))
    assert {(one.rule, one.subject, one.change) for one in decisions} == {("R05", "web", Note("shared status"))}
    assert "the cause is shared" in decisions[0].sentence


def test_a_sign_that_was_shared_a_moment_ago_isolates_nobody_and_is_not_told_again() -> None:
    one = [ready(1, Sign.STATUS), ready(2), ready(3)]
    assert isolate.decide(one, 3, shared(Sign.STATUS, told=False)) == []


@pytest.mark.parametrize(
    ("common", "words"),
    [
        (Common(Sign.REQUESTS, "/pay", 3, 0.9, 502), "all replicas fail on /pay with 502 (up to 90% in the last 10 s)"),
        (Common(Sign.REFUSALS, "/", 2, 0.5, 403), "2 of 3 replicas refuse requests to / with 403"),
        (Common(Sign.SLOW, "/a", 3, 0.4, 0), "all replicas answer slowly on /a (up to 40% in the last 10 s)"),
    ],
)
def test_what_replicas_show_at_one_endpoint_is_told_in_words_and_isolates_nobody(common: Common, words: str) -> None:
    convicted = replace(verdict(common.sign), endpoint=common.endpoint)
    standings = [standing(1, verdict=convicted, verdict_since_at=0.0), ready(2), ready(3)]
    [decision] = isolate.decide(standings, 3, Shared(common=(common,)))
    assert (decision.rule, decision.subject, decision.change) == ("R08", "web", Note(f"shared {common.sign.value}"))
    assert decision.sentence.startswith(words) and "nobody is isolated" in decision.sentence


@pytest.mark.parametrize(
    ("common", "also", "whose"),
    [
        (Common(Sign.REQUESTS, "/pay", 3, 0.9, 502), {}, Scope.DEPENDENCY),
        (Common(Sign.REQUESTS, "/pay", 2, 0.9, 502), {}, Scope.SHARED),
        (Common(Sign.REFUSALS, "/pay", 3, 0.9, 403), {}, Scope.SHARED),
        (Common(Sign.SLOW, "/pay", 3, 0.9, 0), {}, Scope.SHARED),
        (Common(Sign.SLOW, "/pay", 3, 0.9, 0), {"of_release": frozenset({Sign.SLOW})}, Scope.RELEASE),
        (Common(Sign.REQUESTS, "/pay", 3, 0.9, 502), {"signs": frozenset({Sign.REQUESTS})}, Scope.DEPENDENCY),
    ],
)
def test_the_alarm_for_a_common_cause_says_whose_fault_it_is(
    common: Common, also: dict[str, frozenset[Sign]], whose: Scope
) -> None:
    [decision] = isolate.decide([ready(1), ready(2), ready(3)], 3, Shared(common=(common,), **also))
    assert (decision.rule, decision.facts["scope"]) == ("R07" if "signs" in also else "R08", whose.value)


@pytest.mark.parametrize(
    ("sign", "whose"), [(Sign.BLOCKED, Scope.HOST), (Sign.STATUS, Scope.RELEASE), (Sign.CONTENT, Scope.SHARED)]
)
def test_the_alarm_for_a_sign_that_was_shared_just_now_says_whose_fault_it_is(sign: Sign, whose: Scope) -> None:
    lasting = Shared(told=frozenset({sign}), of_release=frozenset({Sign.STATUS}))
    [decision] = isolate.decide([ready(1)], 3, lasting)
    assert (decision.rule, decision.facts["scope"]) == ("R05", whose.value)


def test_data_that_differ_without_a_majority_are_nobodys_fault_in_particular() -> None:
    [decision] = isolate.undecided("web", "the replicas' data differ")
    assert (decision.rule, decision.facts["scope"]) == ("R09", Scope.SHARED.value)


def test_failed_requests_at_an_endpoint_give_the_alarm_its_words() -> None:
    common = Common(Sign.REQUESTS, "/pay", 3, 0.9, 502)
    failing = [standing(number, failing_share=0.3) for number in (1, 2, 3)]
    [decision] = isolate.decide(failing, 3, Shared(frozenset({Sign.REQUESTS}), common=(common,)))
    assert decision.rule == "R07" and "all replicas fail on /pay with 502" in decision.sentence


def test_an_acquitted_replica_is_readmitted() -> None:
    out = standing(2, State.ISOLATED, conviction=conviction(Sign.STATUS), acquitted=True)
    [decision] = isolate.decide([ready(1), out], 2, NOTHING_SHARED)
    assert (decision.rule, decision.change) == ("R02", Advance(out.slot, Event.READMITTED))
    assert decision.facts == {"evidence": "probe", "relapses": 0}


@pytest.mark.parametrize(
    ("one", "rules"),
    [
        (standing(1, State.READY, suspected=True), ["R03"]),
        (standing(1, State.SUSPECT, suspected=True), []),
        (standing(1, State.SUSPECT), ["R04"]),
        (standing(1, State.READY), []),
        (standing(1, State.ISOLATED, conviction=conviction(Sign.HANG)), []),
        (standing(1, State.ISOLATED), []),  # drained by command: nothing to acquit
        (standing(1, State.STARTING, verdict=verdict(Sign.REFUSED)), []),
        (standing(1, State.DRAINING, verdict=verdict(Sign.STATUS)), []),
    ],
)
def test_suspicion_comes_and_goes_and_only_serving_replicas_are_touched(one: Standing, rules: list[str]) -> None:
    assert [decision.rule for decision in isolate.decide([one], 3, NOTHING_SHARED)] == rules


def isolated(facts: turn.Facts) -> list[Standing]:
    signs = turn.shared_signs(facts.standings, facts.desired.replicas)
    decisions = isolate.decide(facts.standings, facts.desired.replicas, Shared(signs, signs))
    subjects = {one.subject for one in decisions if one.rule == "R01"}
    return [one for one in facts.standings if str(one.slot) in subjects]


@given(worlds.facts())
def test_nobody_is_isolated_below_the_capacity_floor_whatever_stands(facts: turn.Facts) -> None:
    serving = sum(one.serving for one in facts.standings)
    out = isolated(facts)
    assert not out or serving - len(out) >= isolate.capacity_floor(facts.desired.replicas)


@given(worlds.facts())
def test_nobody_is_isolated_for_a_sign_that_half_of_the_replicas_show(facts: turn.Facts) -> None:
    signs = turn.shared_signs(facts.standings, facts.desired.replicas)
    for one in isolated(facts):
        assert one.verdict is not None
        assert one.verdict.sign not in signs


@given(worlds.facts())
def test_definitive_evidence_goes_before_any_other(facts: turn.Facts) -> None:
    out = isolated(facts)
    kept = [one for one in facts.standings if one.serving and one.verdict is not None and one not in out]
    if any(one.verdict is not None and one.verdict.sign not in DEFINITIVE for one in out):
        assert not any(one.verdict is not None and one.verdict.sign in DEFINITIVE for one in kept)


@given(worlds.facts())
def test_only_the_acquitted_are_readmitted(facts: turn.Facts) -> None:
    readmitted = {one.subject for one in isolate.decide(facts.standings, 3, NOTHING_SHARED) if one.rule == "R02"}
    assert readmitted == {str(one.slot) for one in facts.standings if one.acquitted}


def test_replicas_that_all_wait_inside_the_kernel_accuse_the_host() -> None:
    both = [standing(number, verdict=verdict(Sign.BLOCKED)) for number in (1, 2)]
    shared = isolate.Shared(frozenset({Sign.BLOCKED}), frozenset({Sign.BLOCKED}))
    told = isolate.decide(both, 2, shared)
    assert {one.rule for one in told} == {"R05"}
    assert {one.facts["scope"] for one in told} == {"host"}
    assert "the cause is this host (a disk that does not answer)" in told[0].sentence


def test_a_monitor_that_nobody_answers_blames_itself_when_haproxy_reaches_somebody() -> None:
    reached = standing(1, view=View.ANSWERS, blind=True)
    unknown = standing(2, view=View.UP, blind=True)
    assert isolate.unheard("web", [unknown], told=False) == []
    (decision,) = isolate.unheard("web", [reached, unknown], told=False)
    assert (decision.rule, decision.facts["scope"]) == ("R16", "monitor")
    assert isolate.unheard("web", [unknown], told=True)[0].change == decision.change
    assert isolate.unheard("web", [standing(1)], told=True) == []
