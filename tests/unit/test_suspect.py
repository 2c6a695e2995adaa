"""Adding the evidence up: which class convicts, when two halves make a whole, and what time alone can complete."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from facts import HEALTHZ, service
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import cusum, digest, heartbeat, process, suspect, traffic, vantage
from perdure.detect.suspect import Belief
from perdure.model.check import CONFIRMING, Check, CheckKind, CheckRole
from perdure.model.evidence import Beat, EvidenceClass, Held, Outcome, Probed, Sighted
from perdure.model.service import Heartbeat, Limits
from perdure.model.verdict import Sign

BEATS = service(heartbeat=Heartbeat(1.0), limits=Limits(memory_bytes=100))
RULES = suspect.policy(BEATS)
PLAIN = suspect.policy(service())
NAME = "web/1#1"


def probed(outcome: Outcome, started_at: float, took_s: float = 0.01, check: str = HEALTHZ.label) -> Probed:
    return Probed(NAME, check, started_at, started_at + took_s, outcome)


def believed(*evidence: Probed | Sighted | Held | Beat, rules: suspect.Policy = RULES) -> Belief:
    belief = Belief()
    for one in evidence:
        belief = suspect.observe(belief, one, rules)
    return belief


def with_traffic(belief: Belief, share: float) -> Belief:
    """The belief with a suspicion from traffic of this share of its limit."""
    return replace(belief, seen=traffic.Seen(scores=(share * RULES.traffic_limit,) * len(cusum.GRID)))


REFUSED = [probed(Outcome.REFUSED, at) for at in (1.0, 1.1, 1.2)]
STOPPED = [Sighted(NAME, at, "T") for at in (1.0, 2.0, 3.1)]


def test_the_limits_follow_from_how_often_each_class_looks() -> None:
    slow = Check(CheckKind.TCP, interval_s=10.0)
    rules = suspect.policy(service(checks=(HEALTHZ, slow)))
    assert rules.probe_limits == {
        "http /healthz": pytest.approx(14.7679, abs=1e-4),
        "tcp": pytest.approx(12.4654, abs=1e-4),
    }
    assert (rules.heartbeat_limit, rules.traffic_limit) == pytest.approx((14.7679, 17.0705), abs=1e-4)


def test_definitive_evidence_convicts_before_any_other() -> None:
    verdict = suspect.judge(believed(*REFUSED, *STOPPED), 3.1, RULES)
    assert verdict is not None and verdict.sign is Sign.STOPPED


def test_each_class_convicts_alone() -> None:
    beats = [Beat(NAME, float(at)) for at in range(5)]
    cases = [
        (believed(*REFUSED), 2.0, Sign.REFUSED),
        (believed(*beats), 20.0, Sign.SILENT),
        (with_traffic(Belief(), 1.0), 2.0, Sign.REQUESTS),
        (believed(*[Sighted(NAME, float(at), "S", 101) for at in (1, 2)]), 2.0, Sign.MEMORY),
    ]
    for belief, now, sign in cases:
        verdict = suspect.judge(belief, now, RULES)
        assert verdict is not None and verdict.sign is sign


def test_nothing_observed_convicts_nobody() -> None:
    assert suspect.judge(Belief(), 1e9, RULES) is None
    assert not suspect.suspected(Belief(), 1e9, RULES)
    assert suspect.look_again_at(Belief(), 0.0, RULES) == math.inf


def test_two_classes_that_pass_half_of_their_limits_convict_together() -> None:
    probes = believed(*REFUSED[:2])
    assert suspect.judge(probes, 1.2, RULES) is None
    assert suspect.judge(with_traffic(Belief(), 0.6), 1.2, RULES) is None
    verdict = suspect.judge(with_traffic(probes, 0.6), 1.2, RULES)
    assert verdict is not None
    assert verdict.sentence == "two kinds of evidence agree: probe and traffic"
    assert verdict.evidence is EvidenceClass.PROBE
    assert set(verdict.facts) == {"probe", "traffic"}


def test_requests_that_fail_on_all_replicas_alike_are_no_half_of_a_verdict() -> None:
    shared = with_traffic(believed(*REFUSED[:2]), 0.9)
    assert suspect.judge(shared, 1.2, RULES) is not None
    for seen in (replace(shared.seen, apart=traffic.APART_MIN - 0.1), replace(shared.seen, compared=False)):
        assert suspect.judge(replace(shared, seen=seen), 1.2, RULES) is None


def test_one_half_and_less_than_a_half_do_not_convict() -> None:
    assert suspect.judge(with_traffic(believed(*REFUSED[:2]), 0.49), 1.2, RULES) is None


def test_the_same_class_at_two_endpoints_counts_once() -> None:
    rules = suspect.policy(service(checks=(HEALTHZ, Check(CheckKind.TCP))))
    both = believed(*REFUSED[:2], *[replace(one, check="tcp") for one in REFUSED[:2]], rules=rules)
    assert suspect.judge(both, 1.2, rules) is None


def test_silence_that_may_be_a_pause_is_no_half() -> None:
    silent = believed(*[probed(Outcome.TIMEOUT, at, 0.5) for at in (1.0, 1.5)])
    assert suspect.judge(with_traffic(silent, 0.9), 2.0, RULES) is None


def test_probes_that_a_stopped_process_does_not_answer_are_no_second_cause() -> None:
    hung = [probed(Outcome.TIMEOUT, at, 1.0) for at in (1.0, 2.0, 2.1, 3.0)]
    stopped = believed(*hung, Sighted(NAME, 3.9, "T"))
    assert suspect.judge(believed(*hung), 4.0, RULES) is not None
    assert suspect.judge(stopped, 4.0, RULES) is None


def test_a_check_that_a_reload_took_away_says_nothing_any_more() -> None:
    belief = believed(*REFUSED, *[replace(one, check="tcp") for one in REFUSED])
    only_tcp = suspect.policy(service(checks=(Check(CheckKind.TCP),)))
    verdict = suspect.judge(belief, 2.0, only_tcp)
    assert verdict is not None and verdict.endpoint == "tcp"
    neither = suspect.policy(service(checks=(Check(CheckKind.HTTP, path="/ready"),)))
    assert suspect.judge(belief, 2.0, neither) is None
    assert [one.evidence for one in suspect.suspicions(belief, 2.0, neither)] == [
        EvidenceClass.TRAFFIC,
        EvidenceClass.PROCESS,
    ]


def test_what_was_asked_in_the_place_of_clients_once_says_nothing_of_the_clock_and_of_being_well_for_ever() -> None:
    asked_once = f"{CONFIRMING}/pay"
    told = [replace(probed(Outcome.GOOD, at, check=asked_once), clock_ahead_s=90.0) for at in (1.0, 2.0, 3.0)]
    belief = believed(*told, probed(Outcome.GOOD, 9.0))
    assert (suspect.good_at(belief, PLAIN), suspect.clock_ahead_s(belief, PLAIN)) == (9.0, None)
    wrong = believed(*(replace(one, check=HEALTHZ.label) for one in told))
    assert (suspect.good_at(wrong, PLAIN), suspect.clock_ahead_s(wrong, PLAIN)) == (3.0, 90.0)
    assert suspect.good_at(Belief(), PLAIN) is None


def test_half_of_a_limit_is_suspicion() -> None:
    assert not suspect.suspected(believed(REFUSED[0]), 1.1, PLAIN)
    assert suspect.suspected(believed(*REFUSED[:2]), 1.1, PLAIN)
    assert suspect.suspected(with_traffic(Belief(), 0.5), 1.1, PLAIN)
    assert not suspect.suspected(with_traffic(Belief(), 0.49), 1.1, PLAIN)
    assert suspect.suspected(believed(STOPPED[0]), 1.0, PLAIN)


def test_every_class_shows_its_share_of_the_limit() -> None:
    shares = {one.evidence: one.share for one in suspect.suspicions(believed(*REFUSED, *STOPPED), 3.1, RULES)}
    assert shares == {
        EvidenceClass.PROBE: pytest.approx(20.7233 / 14.7679, abs=1e-4),
        EvidenceClass.HEARTBEAT: 0.0,
        EvidenceClass.TRAFFIC: 0.0,
        EvidenceClass.PROCESS: pytest.approx(2.1 / process.STOPPED_CONVICTS_S),
    }


def test_the_next_look_is_when_silence_becomes_too_long_and_never_in_the_past() -> None:
    silent = believed(probed(Outcome.TIMEOUT, 10.0, 1.0))
    assert suspect.look_again_at(silent, 11.0, RULES) == pytest.approx(12.05)
    assert suspect.look_again_at(silent, 12.05, RULES) == math.inf
    told = believed(*[Beat(NAME, float(at)) for at in range(5)])
    assert suspect.look_again_at(told, 5.0, RULES) == heartbeat.convicts_at(told.told, 1.0, RULES.heartbeat_limit)


def test_what_a_replica_did_not_answer_while_it_started_is_forgotten_when_it_is_ready() -> None:
    refused = [probed(Outcome.REFUSED, float(at)) for at in range(60)]
    belief = believed(*refused, probed(Outcome.GOOD, 60.0))
    assert suspect.suspected(belief, 60.1, PLAIN)
    ready = suspect.started(belief)
    assert not suspect.suspected(ready, 60.1, PLAIN)
    assert ready.asked[HEALTHZ.label].goods == 1


@given(st.floats(0.35, 3600.0))
def test_a_pause_of_the_monitor_postpones_every_silence_by_its_length(pause_s: float) -> None:
    belief = believed(
        *[probed(Outcome.TIMEOUT, at, 1.0) for at in (10.0, 11.0, 11.1)],
        *[Beat(NAME, float(at)) for at in range(10)],
        Sighted(NAME, 10.0, "T"),
    )
    shifted = suspect.shifted(belief, pause_s)
    assert suspect.judge(shifted, 12.0 + pause_s, RULES) is None
    assert suspect.look_again_at(shifted, 11.9 + pause_s, RULES) == pytest.approx(
        suspect.look_again_at(belief, 11.9, RULES) + pause_s
    )
    assert shifted.kernel.stopped_since_at == 10.0 + pause_s


def test_a_look_that_finds_nothing_new_leaves_the_belief_as_it_was() -> None:
    belief = Belief()
    assert suspect.observe(belief, Sighted(NAME, 5.0, "S"), RULES) is belief


SILENT = [probed(Outcome.TIMEOUT, at, 1.0) for at in (10.0, 11.0, 11.1)]
FULL = [Held(NAME, 10.0 + number / 4, 9, 8) for number in range(10)]


def test_who_answers_nobody_hangs_though_its_backlog_is_full() -> None:
    stuck = believed(*SILENT, *FULL)
    hangs, full = suspect.judge(stuck, 12.3, RULES), suspect.judge(believed(*FULL), 12.3, RULES)
    assert hangs is not None and hangs.sign is Sign.HANG
    assert full is not None and full.sign is Sign.BACKLOG


@pytest.mark.parametrize(
    ("answers", "silence_counts"),
    [
        (vantage.Answers(9, ((9.5, 0, 4), (10.5, 3, 4), (12.0, 9, 4))), True),  # it goes on answering: overload
        (vantage.Answers(), False),  # it may be the monitor's own path
    ],
)
def test_a_full_backlog_stays_one_when_somebody_may_be_answered(answers: vantage.Answers, silence_counts: bool) -> None:
    busy = replace(believed(*SILENT, *FULL), answers=answers)
    verdict = suspect.judge(busy, 12.3, RULES, suspect.Peered(silence_counts=silence_counts))
    assert verdict is not None and verdict.sign is Sign.BACKLOG


def test_what_was_in_flight_before_the_silence_and_is_answered_late_makes_no_overload_of_a_hang() -> None:
    stuck = replace(believed(*SILENT, *FULL), answers=vantage.Answers(4, ((10.5, 0, 4), (12.0, 4, 0))))
    verdict = suspect.judge(stuck, 12.3, RULES)
    assert verdict is not None and verdict.sign is Sign.HANG


@pytest.mark.parametrize(
    ("evidence", "sign"), [(SILENT, Sign.HANG), (REFUSED, Sign.REFUSED), (FULL, Sign.BACKLOG), ((), Sign.DIVERGED)]
)
def test_data_that_differ_hide_nothing_else(evidence: Sequence[Probed | Held], sign: Sign) -> None:
    rules = suspect.policy(service(digest=Check(CheckKind.HTTP, "/digest", role=CheckRole.DIGEST)))
    apart = replace(believed(*evidence, rules=rules), compared=digest.Compared(apart=digest.ROUNDS))
    verdict = suspect.judge(apart, 12.3, rules)
    assert verdict is not None and verdict.sign is sign


def test_what_the_last_requests_said_fades_while_it_serves_and_stays_while_it_is_isolated() -> None:
    """Who relapses is restarted for the verdict that isolated it again; until there is a token, it must stand."""
    failed = with_traffic(Belief(), 1.05)
    failed = replace(failed, seen=replace(failed.seen, at=10.0))
    assert suspect.judge(failed, 10.0, RULES) is not None
    assert suspect.judge(failed, 15.0, RULES) is None
    assert suspect.judge(failed, 15.0, RULES, convicted=True) is not None
