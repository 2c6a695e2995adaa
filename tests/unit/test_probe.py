"""What asking says: errors convict when they are confirmed, silence only when it was seen to outlast a pause."""

from dataclasses import replace

import asking
import pytest
from facts import HEALTHZ
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.detect import cusum, probe
from perdure.model.evidence import Outcome, Probed
from perdure.model.verdict import Sign

LIMIT = cusum.threshold(1 / (30 * 86_400), 1.0)
BAD = [outcome for outcome in Outcome if outcome is not Outcome.GOOD]
PHASES = st.floats(0.0, 1.0)
PAUSES_S = st.floats(0.0, 2.0)
CHECKS = st.builds(
    lambda interval_s, timeout_s: replace(HEALTHZ, interval_s=interval_s, timeout_s=timeout_s),
    st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 10.0]),
    st.sampled_from([0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]),
)


def probed(outcome: Outcome, started_at: float, took_s: float = 0.01, answer: str = "") -> Probed:
    return Probed("web/1#1", HEALTHZ.label, started_at, started_at + took_s, outcome, answer)


def after(*results: Probed) -> probe.Asked:
    asked = probe.Asked(HEALTHZ.label)
    for result in results:
        asked = probe.observe(asked, result)
    return asked


@given(st.sampled_from(BAD), st.floats(0.0, 1e6), st.floats(0.001, 60.0), st.floats(0.0, 30.0), st.integers(0, 20))
def test_one_failure_never_convicts(outcome: Outcome, at: float, took_s: float, limit: float, goods: int) -> None:
    before = [probed(Outcome.GOOD, at - 1.0 - number) for number in reversed(range(goods))]
    asked = after(*before, probed(outcome, at, took_s))
    assert probe.judge(asked, at + 3600.0, limit) is None


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (Outcome.REFUSED, Sign.REFUSED),
        (Outcome.STATUS, Sign.STATUS),
        (Outcome.CONTENT, Sign.CONTENT),
        (Outcome.FOREIGN, Sign.FOREIGN),
    ],
)
def test_a_failure_that_the_burst_confirms_convicts_at_once(outcome: Outcome, sign: Sign) -> None:
    two = after(probed(outcome, 1.0), probed(outcome, 1.01))
    three = probe.observe(two, probed(outcome, 1.11, answer="503 no database"))
    verdict = probe.judge(three, 1.12, LIMIT)
    assert probe.judge(two, 1.02, LIMIT) is None
    assert verdict is not None
    assert (verdict.sign, verdict.endpoint, verdict.facts["misses"]) == (sign, "http /healthz", 3)
    assert verdict.score == pytest.approx(20.7233, abs=1e-4)
    assert verdict.sentence.endswith("3 times in a row: 503 no database")


def test_a_replica_that_fails_every_second_question_is_convicted() -> None:
    results = [probed(Outcome.GOOD if at % 2 else Outcome.STATUS, float(at)) for at in range(7)]
    convicted = [at for at in range(7) if probe.judge(after(*results[: at + 1]), at + 0.01, LIMIT)]
    assert convicted == [4, 6]


def test_a_hang_is_convicted_when_it_outlasted_the_tolerated_pause() -> None:
    asked = after(*[probed(Outcome.TIMEOUT, at, 1.0) for at in (10.0, 11.0, 11.1)])
    assert probe.silence_convicts_at(asked) == pytest.approx(12.05)
    assert probe.judge(asked, 12.04, LIMIT) is None
    verdict = probe.judge(asked, 12.05, LIMIT)
    assert verdict is not None
    assert verdict.sign is Sign.HANG
    assert verdict.sentence == "http /healthz got no answer for 2.1 s (3 probes)"


def test_silence_that_nobody_asked_into_convicts_nobody() -> None:
    asked = after(*[probed(Outcome.TIMEOUT, 10.0 + number / 10, 0.5) for number in range(5)])
    assert probe.judge(asked, 1000.0, LIMIT) is None


@given(CHECKS, PHASES, PAUSES_S)
@settings(max_examples=150)
def test_a_pause_of_two_seconds_never_convicts_whatever_the_phase(
    check: probe.Check, phase: float, pause_s: float
) -> None:
    paused_at = 20.0 + phase * check.interval_s
    assert asking.convicted_at(check, LIMIT, 0.0, (paused_at, paused_at + pause_s), paused_at + 40.0) is None


@given(PHASES)
def test_with_a_check_every_second_a_hang_is_always_convicted_within_3_05_seconds(phase: float) -> None:
    hung_at = 20.0 + phase
    convicted_at = asking.convicted_at(HEALTHZ, LIMIT, 0.0, (hung_at, 1e9), hung_at + 10.0)
    assert convicted_at is not None
    assert 2.0 <= convicted_at - hung_at <= 3.05 + asking.LATENCY_S


@given(CHECKS, PHASES)
@settings(max_examples=50)
def test_a_hang_is_convicted_whatever_the_check(check: probe.Check, phase: float) -> None:
    hung_at = 20.0 + phase * check.interval_s
    bound_s = check.interval_s + max(2.05 + check.interval_s / 4.0, check.timeout_s + 2.3) + check.timeout_s
    convicted_at = asking.convicted_at(check, LIMIT, 0.0, (hung_at, 1e9), hung_at + bound_s)
    assert convicted_at is not None


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.STATUS, Outcome.CONTENT])
def test_a_forgiven_pause_confirms_no_other_error(outcome: Outcome) -> None:
    silence = [probed(Outcome.TIMEOUT, 10.0 + number / 5, 1.0) for number in range(5)]
    asked = after(*silence, probed(Outcome.GOOD, 11.5, 0.4), probed(outcome, 12.0))
    assert probe.judge(asked, 12.1, LIMIT) is None


def test_the_time_outs_of_one_forgiven_pause_count_as_one_miss() -> None:
    silence = [probed(Outcome.TIMEOUT, 10.0 + number / 5, 1.0) for number in range(5)]
    answered = probed(Outcome.GOOD, 11.5, 0.4)
    assert after(*silence, answered).scores == after(silence[0], answered).scores


def test_an_error_is_an_answer_and_ends_the_silence() -> None:
    asked = after(probed(Outcome.TIMEOUT, 0.0, 1.0), probed(Outcome.STATUS, 1.0))
    assert asked.unanswered_since_at is None
    asked = probe.observe(asked, probed(Outcome.TIMEOUT, 2.0, 1.0))
    assert asked.unanswered_since_at == 2.0


def test_a_time_out_that_was_asked_before_the_last_good_answer_is_old_news() -> None:
    good = after(probed(Outcome.GOOD, 5.0))
    assert probe.observe(good, probed(Outcome.TIMEOUT, 4.5, 1.0)) == good


@pytest.mark.parametrize(
    ("asked", "both"),
    [
        (None, False),
        (probe.Asked("http /"), False),
        (probe.Asked("http /", goods=3), False),
        (probe.Asked("http /", goods=4), True),
        (probe.Asked("http /", goods=9), True),
        (probe.Asked("http /", misses=1), True),
    ],
)
def test_each_fifth_question_and_those_of_doubt_are_asked_on_a_kept_connection_too(
    asked: probe.Asked | None, both: bool
) -> None:
    assert probe.on_both_kinds(asked) is both


def test_only_the_first_miss_wants_a_burst() -> None:
    miss = probed(Outcome.REFUSED, 1.0)
    assert not probe.wants_burst(after())
    assert not probe.wants_burst(after(probed(Outcome.GOOD, 0.0)))
    assert probe.wants_burst(after(miss))
    assert not probe.wants_burst(after(miss, miss))
    assert probe.wants_burst(after(miss, probed(Outcome.GOOD, 2.0), probed(Outcome.REFUSED, 3.0)))


@pytest.mark.parametrize(
    ("results", "starting", "since_start_s", "expected_s"),
    [
        ([], False, 0.0, 1.0),
        ([Outcome.GOOD] * 3, False, 0.0, 1.0),
        ([Outcome.GOOD], False, 0.0, 0.25),
        ([Outcome.REFUSED], False, 0.0, 0.25),
        ([], True, 0.0, 0.05),
        ([], True, 4.0, 0.4),
        ([], True, 60.0, 1.0),
    ],
)
def test_a_replica_that_starts_or_is_suspected_is_asked_more_often(
    results: list[Outcome], starting: bool, since_start_s: float, expected_s: float
) -> None:
    asked = after(*[probed(outcome, float(at)) for at, outcome in enumerate(results)])
    assert probe.interval_s(HEALTHZ, asked, starting, since_start_s) == pytest.approx(expected_s)


def test_a_starting_replica_that_answers_though_not_well_is_asked_again_soon() -> None:
    refused, erring = after(probed(Outcome.REFUSED, 0.0)), after(probed(Outcome.STATUS, 0.0))
    assert probe.interval_s(HEALTHZ, refused, True, 9.0) == pytest.approx(0.9)
    assert probe.interval_s(HEALTHZ, erring, True, 9.0) == 0.25


def test_a_check_that_is_quick_already_is_not_slowed_down_by_suspicion() -> None:
    quick = replace(HEALTHZ, interval_s=0.05)
    assert probe.interval_s(quick, after(probed(Outcome.REFUSED, 0.0)), False, 0.0) == 0.05


@pytest.mark.parametrize(
    ("results", "sign"),
    [
        ([Outcome.GOOD], None),
        ([Outcome.GOOD, Outcome.STATUS], Sign.STATUS),
        ([Outcome.STATUS, Outcome.GOOD], None),
        ([Outcome.STATUS, Outcome.TIMEOUT], None),
        ([Outcome.TIMEOUT, Outcome.CONTENT], Sign.CONTENT),
    ],
)
def test_the_last_bad_answer_is_a_hint_and_silence_is_none(results: list[Outcome], sign: Sign | None) -> None:
    asked = after(*(probed(outcome, float(at)) for at, outcome in enumerate(results)))
    assert probe.hint(asked) is sign


@pytest.mark.parametrize(
    ("ahead_s", "wrong_s"),
    [
        ([3600.0, 3600.5, 3599.8], 3599.8),
        ([-3600.0] * 3, -3600.0),
        ([3600.0, 3600.0], None),  # two answers: the host's own clock may have been set just now
        ([3600.0, 0.2, 3600.0, 3600.0], None),
        ([29.0] * 5, None),
        ([3600.0, 3600.0, 3600.0, -1.4], None),
    ],
)
def test_a_clock_is_wrong_when_three_answers_in_a_row_say_so(ahead_s: list[float], wrong_s: float | None) -> None:
    asked = after(*(replace(probed(Outcome.GOOD, at), clock_ahead_s=one) for at, one in enumerate(ahead_s)))
    assert probe.clock_ahead_s(asked) == wrong_s
    assert probe.clock_ahead_s(probe.observe(asked, probed(Outcome.TIMEOUT, 60.0))) == wrong_s, (
        "no answer tells nothing"
    )
    assert probe.judge(asked, 60.0, LIMIT) is None
