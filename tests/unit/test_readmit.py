"""Readmission: the evidence that convicted must acquit, after a hold-down that doubles with each relapse."""

from dataclasses import replace

import pytest
from facts import HEALTHZ, conviction, service
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import cusum, heartbeat, probe, process, readmit, suspect, traffic
from perdure.detect.suspect import Belief
from perdure.model.check import Check, CheckKind
from perdure.model.evidence import EvidenceClass
from perdure.model.service import Heartbeat, Limits
from perdure.model.verdict import Conviction, Sign

TCP = Check(CheckKind.TCP)
RULES = suspect.policy(service(checks=(HEALTHZ, TCP), heartbeat=Heartbeat(1.0), limits=Limits(memory_bytes=100)))
AT = 100.0
LESS_MEMORY = "less than 0 MB of memory"


def answers(label: str, goods: int = 3, asked_at: float = 101.0) -> probe.Asked:
    return probe.Asked(label, goods=goods, last_good_at=asked_at)


def belief(healthz: probe.Asked | None = None, tcp: probe.Asked | None = None, beat_at: float = 109.5) -> Belief:
    given_ = [one for one in (healthz, tcp) if one is not None]
    told = heartbeat.Told(50, beat_at, 1.0)
    return Belief(process.Kernel(memory_bytes=50), {one.check: one for one in given_}, told)


HEALTHY = belief(answers(HEALTHZ.label), answers("tcp"))


def acquits(held: Belief, sign: Sign, now: float = 110.0, relapses: int = 0, rules: suspect.Policy = RULES) -> bool:
    return readmit.acquits(held, conviction(sign, AT), relapses, now, rules)


@pytest.mark.parametrize("sign", sorted(Sign))
def test_whoever_shows_all_evidence_of_health_is_acquitted(sign: Sign) -> None:
    assert acquits(HEALTHY, sign)


@pytest.mark.parametrize(
    "healthz",
    [
        None,
        answers(HEALTHZ.label, goods=2),
        answers(HEALTHZ.label, goods=0),
        answers(HEALTHZ.label, goods=99, asked_at=99.9),
        replace(answers(HEALTHZ.label), last_good_at=None),
    ],
)
def test_a_good_answer_elsewhere_does_not_acquit_of_a_failing_check(healthz: probe.Asked | None) -> None:
    assert not acquits(belief(healthz, answers("tcp", goods=1000)), Sign.STATUS)


@pytest.mark.parametrize("beat_at", [0.0, 99.9, 100.0, 105.0])
def test_good_answers_do_not_acquit_of_silence(beat_at: float) -> None:
    silent = belief(answers(HEALTHZ.label, 50), answers("tcp", 50), beat_at)
    assert not acquits(silent, Sign.SILENT)


def test_memory_must_be_measured_again_before_it_acquits() -> None:
    for kernel in (process.Kernel(), process.Kernel(memory_bytes=200, memory_over=1)):
        assert not acquits(replace(HEALTHY, kernel=kernel), Sign.MEMORY)


def test_a_limit_that_a_reload_took_away_keeps_nobody_out() -> None:
    unlimited = suspect.policy(service())
    over = Belief(process.Kernel(memory_bytes=200, memory_over=5))
    assert acquits(over, Sign.MEMORY, rules=unlimited)


def test_heartbeats_that_a_reload_took_away_are_replaced_by_all_checks() -> None:
    untold = suspect.policy(service(checks=(HEALTHZ, TCP)))
    silent = belief(answers(HEALTHZ.label), answers("tcp"), beat_at=90.0)
    assert acquits(silent, Sign.SILENT, rules=untold)
    assert not acquits(belief(answers(HEALTHZ.label), beat_at=90.0), Sign.SILENT, rules=untold)


def test_a_check_that_a_reload_took_away_is_replaced_by_all_that_are_left() -> None:
    gone = Conviction(EvidenceClass.PROBE, Sign.STATUS, "http /old", AT, "")
    assert readmit.acquits(HEALTHY, gone, 0, 110.0, RULES)
    assert not readmit.acquits(belief(answers(HEALTHZ.label)), gone, 0, 110.0, RULES)


def test_a_process_that_is_stopped_again_is_not_acquitted() -> None:
    stopped = replace(HEALTHY, kernel=process.Kernel(stopped_since_at=109.9, stopped_seen_at=109.9))
    assert not acquits(stopped, Sign.STOPPED)


@pytest.mark.parametrize("sign", [Sign.REQUESTS, Sign.STOPPED])
def test_without_any_answer_since_the_conviction_nobody_comes_back(sign: Sign) -> None:
    assert not acquits(Belief(told=heartbeat.Told(50, 109.5, 1.0)), sign)


def test_another_class_that_convicts_now_keeps_it_out() -> None:
    silent = belief(answers(HEALTHZ.label), answers("tcp"), beat_at=90.0)
    assert not acquits(silent, Sign.STATUS)


def test_failed_requests_of_before_neither_convict_nor_acquit_an_isolated_replica() -> None:
    seen = traffic.Seen(scores=(cusum.SCORE_MAX,) * len(cusum.GRID))
    assert acquits(replace(HEALTHY, seen=seen), Sign.REQUESTS)


@pytest.mark.parametrize(
    ("sign", "relapses", "held_s"),
    [
        (Sign.STATUS, 0, 1.0),
        (Sign.STATUS, 1, 2.0),
        (Sign.STATUS, 5, 32.0),
        (Sign.STATUS, 6, 60.0),
        (Sign.REQUESTS, 0, 5.0),
        (Sign.REQUESTS, 3, 40.0),
        (Sign.REQUESTS, 1_000_000, 60.0),
    ],
)
def test_each_relapse_doubles_the_hold_down_up_to_a_minute(sign: Sign, relapses: int, held_s: float) -> None:
    assert readmit.hold_down_s(conviction(sign), relapses) == held_s
    held = belief(answers(HEALTHZ.label), answers("tcp"), beat_at=AT + held_s - 0.1)
    assert not acquits(held, sign, AT + held_s - 0.01, relapses)
    assert acquits(held, sign, AT + held_s, relapses)


@given(st.sampled_from(Sign), st.integers(0, 5), st.integers(0, 5), st.floats(90.0, 109.0), st.floats(90.0, 109.5))
def test_readmission_never_comes_without_the_evidence_that_convicted(
    sign: Sign, healthz_goods: int, tcp_goods: int, asked_at: float, beat_at: float
) -> None:
    held = belief(answers(HEALTHZ.label, healthz_goods, asked_at), answers("tcp", tcp_goods, asked_at), beat_at)
    if acquits(held, sign):
        why = conviction(sign)
        if why.evidence is EvidenceClass.HEARTBEAT:
            assert beat_at > AT
        elif why.evidence is EvidenceClass.PROBE:
            assert healthz_goods >= 3 and asked_at >= AT
        elif why.evidence is not EvidenceClass.LIMIT:
            assert min(healthz_goods, tcp_goods) >= 3 and asked_at >= AT


@pytest.mark.parametrize(
    ("held", "sign", "now", "left"),
    [
        (HEALTHY, Sign.STATUS, 110.0, readmit.Remaining(0.0, {})),
        (HEALTHY, Sign.STATUS, 100.25, readmit.Remaining(0.75, {})),
        (belief(answers(HEALTHZ.label, 1)), Sign.STATUS, 110.0, readmit.Remaining(0.0, {HEALTHZ.label: 2})),
        (belief(answers(HEALTHZ.label, 9, 99.0)), Sign.STATUS, 110.0, readmit.Remaining(0.0, {HEALTHZ.label: 1})),
        (belief(answers(HEALTHZ.label)), Sign.REQUESTS, 110.0, readmit.Remaining(0.0, {"tcp": 3})),
        (belief(beat_at=99.9), Sign.SILENT, 101.5, readmit.Remaining(0.0, {}, "a heartbeat")),
        (replace(HEALTHY, kernel=process.Kernel()), Sign.MEMORY, 110.0, readmit.Remaining(0.0, {}, LESS_MEMORY)),
    ],
)
def test_what_keeps_a_replica_out_is_known_in_numbers(
    held: Belief, sign: Sign, now: float, left: readmit.Remaining
) -> None:
    assert readmit.remaining(held, conviction(sign, AT), 0, now, RULES) == left
    assert acquits(held, sign, now) is left.over


def test_a_replica_convicted_by_traffic_is_readmitted_on_trial() -> None:
    held = replace(HEALTHY, asked={"tcp": replace(answers("tcp"), scores=(20.0,) * 6)})
    tried = readmit.on_trial(held, conviction(Sign.REQUESTS), 110.0, RULES)
    assert tried.seen.scores == (RULES.traffic_limit / 2.0,) * len(cusum.GRID)
    assert tried.asked["tcp"].scores == cusum.NOTHING
    assert tried.asked["tcp"].goods == 3
    assert suspect.suspected(tried, 110.0, RULES)
    assert suspect.judge(tried, 110.0, RULES) is None
    assert traffic.strength(tried.seen, 170.0) < RULES.traffic_limit / 4.0, "without requests the suspicion fades"


def test_a_replica_convicted_by_its_checks_is_readmitted_without_suspicion() -> None:
    assert not suspect.suspected(readmit.on_trial(HEALTHY, conviction(Sign.STATUS), 110.0, RULES), 110.0, RULES)
