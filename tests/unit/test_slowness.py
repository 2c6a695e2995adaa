"""Response times of two releases: frozen limits, looks of a second, and pauses that are nobody's fault."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from bench.rollout import canaries
from bench.rollout.canaries import Answers, Pauses
from hypothesis import given
from hypothesis import strategies as st

from perdure.recover import blame, compare, e_process, slowness, usual
from perdure.recover.blame import Kind
from perdure.recover.observed import Observed, Timed
from perdure.recover.slowness import Limit, Slowness, Times

ALPHA_EACH = blame.ALPHA / 3
LIMITS = (Limit("p50", 10, 0.5), Limit("p90", 100, 0.1), Limit("p99", 1_000, 0.01))
BEGAN_AT = 1_000.0
WARM_AT = BEGAN_AT + slowness.WARM_UP_S


def gathered(each_ms: Sequence[int], stands_for: int = 1) -> Times:
    return slowness.gather(Times(), [Timed(False, ms, stands_for) for ms in each_ms])


def warm() -> Slowness:
    """Both releases have answered for long enough."""
    return slowness.observe(slowness.begin(LIMITS), BEGAN_AT, [Timed(True, 1), Timed(False, 1)])


def looked(comparison: Slowness, at: float, new: Sequence[int], old: Sequence[int]) -> Slowness:
    """Answers in milliseconds in one reading, and the look that they belong to closed."""
    lines = [Timed(True, ms) for ms in new] + [Timed(False, ms) for ms in old]
    return slowness.observe(slowness.observe(comparison, at, lines), at + slowness.LOOKS_OPEN + 1.0, [])


@given(st.integers(0, 120_000))
def test_a_bucket_holds_its_time_within_five_percent(ms: int) -> None:
    index = slowness.bucket(ms)
    assert ms <= slowness.upper_ms(index) <= 1.05 * ms + 1
    assert slowness.bucket(slowness.upper_ms(index) + 1) > index


def test_the_limits_are_a_fifth_above_the_percentiles() -> None:
    limits = slowness.freeze(gathered(range(1, 1_001)))
    assert [one.name for one in limits] == ["p50", "p90", "p99"]
    assert [one.ms for one in limits] == pytest.approx([600, 1_080, 1_190], rel=0.05)
    assert [one.usual for one in limits] == pytest.approx([0.4, 0.001, 0.001], abs=0.03)


def test_a_limit_is_at_least_a_millisecond_above_what_it_was_learned_from() -> None:
    limits = slowness.freeze(gathered([0] * 150 + [1] * 50))
    assert [one.ms for one in limits] == [1, 2, 2]


def test_lines_that_stand_for_several_requests_weigh_as_much() -> None:
    times = slowness.gather(gathered([10] * 90, stands_for=10), [Timed(False, 500, 1)] * 90)
    assert slowness.freeze(times)[1].ms < 20
    assert slowness.freeze(slowness.gather(times, [Timed(False, 500, 9)] * 90))[1].ms > 500


def test_from_too_few_answers_nothing_is_frozen_and_it_says_so() -> None:
    assert slowness.freeze(gathered([10] * 99, stands_for=100)) == ()
    few = usual.freeze(usual.History(times=gathered([10] * 99)))
    assert few.sentence == "response times are not compared: fewer than 100 answers were seen before"
    assert "p50 12 ms, p90 12 ms, p99 12 ms" in usual.freeze(usual.History(times=gathered([10] * 100))).sentence
    slow = [Timed(True, 60_000)] * 50 + [Timed(False, 1)] * 50
    comparison = compare.begin(few, BEGAN_AT)
    for second in range(100):
        comparison = compare.observe(comparison, Observed(BEGAN_AT + second, 50, 50, (), slow, 0.5))
    assert blame.judge(comparison) is None


def test_answers_of_the_new_release_teach_no_limits() -> None:
    assert slowness.gather(Times(), [Timed(True, 9_000)] * 500) == Times()


@pytest.mark.parametrize(
    ("new", "old", "new_alone", "old_alone"),
    [([20], [1], 1.0, 0.0), ([20], [20], 0.0, 0.0), ([1], [20], 0.0, 1.0), ([20, 1], [1, 1, 1, 20], 0.375, 0.125)],
)
def test_a_look_counts_as_the_mean_over_the_pairs_of_answers(
    new: list[int], old: list[int], new_alone: float, old_alone: float
) -> None:
    found = looked(warm(), WARM_AT + 0.5, new, old).each[0].against_old
    expected = e_process.weigh(e_process.NOTHING, 0.5, new_alone, old_alone)
    assert found.logs == pytest.approx(expected.logs)


def test_a_look_compares_with_the_past_too_and_the_weaker_evidence_counts() -> None:
    found = looked(warm(), WARM_AT + 0.5, [20, 1], [1]).each[0]
    assert found.against_past == e_process.weigh(e_process.NOTHING, 0.5, 0.5, 0.5)
    assert found.value == min(e_process.value(found.against_old), e_process.value(found.against_past))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_however_many_answers_are_slow_a_second_is_one_event(new: list[int], old: list[int]) -> None:
    once = e_process.value(e_process.weigh(e_process.NOTHING, 0.5, 1.0, 0.0))
    assert e_process.value(looked(warm(), WARM_AT + 0.5, new, old).each[0].against_old) <= once + 1e-9


@pytest.mark.parametrize("sides", [(True,), (False,)])
def test_a_second_in_which_only_one_release_was_asked_is_no_comparison(sides: tuple[bool, ...]) -> None:
    alone = slowness.observe(warm(), WARM_AT + 0.5, [Timed(new, 5_000) for new in sides])
    assert slowness.observe(alone, WARM_AT + 30.0, []).each == warm().each


def test_an_answer_belongs_to_the_second_in_which_its_request_came() -> None:
    comparison = slowness.observe(warm(), WARM_AT + 0.5, [Timed(False, 1)])
    comparison = slowness.observe(comparison, WARM_AT + 2.4, [Timed(True, 2_000)])
    after = slowness.observe(comparison, WARM_AT + 20.0, [])
    assert after.new.over == (1, 1, 1)
    assert after.each[2].value > 0.0


def test_an_answer_to_a_request_of_long_ago_counts_in_the_oldest_second_that_is_open() -> None:
    comparison = slowness.observe(warm(), WARM_AT + 60.0, [Timed(True, 50_000)])
    assert [number for number, *_ in comparison.looks] == [int(WARM_AT) + 57]
    paired = slowness.observe(comparison, WARM_AT + 60.0, [Timed(False, 2_500)])
    after = slowness.observe(paired, WARM_AT + 90.0, [])
    assert (after.new.requests, after.old.requests) == (1, 1)


def test_what_is_open_is_bounded() -> None:
    comparison = warm()
    for tenth in range(2_000):
        comparison = slowness.observe(comparison, WARM_AT + tenth / 10, [Timed(True, tenth * 37 % 20_000)])
        assert len(comparison.looks) <= slowness.LOOKS_OPEN


def test_a_release_that_has_just_started_may_be_slow_for_half_a_minute() -> None:
    comparison = slowness.begin(LIMITS)
    for second in range(90):
        at, slow_ms = BEGAN_AT + second, 500 if second < 40 else 1
        lines = [Timed(False, 1)] if second < 10 else [Timed(False, 1), Timed(True, slow_ms)]
        comparison = slowness.observe(comparison, at, lines)
    assert comparison.each[0].last_at == 0.0


def test_an_old_release_that_became_faster_with_less_to_do_convicts_nobody() -> None:
    """The new one is as fast as the old one was when it had all the requests."""
    frozen = usual.freeze(usual.History(times=gathered(range(1, 1_001))))
    chance, comparison = random.Random(3), compare.begin(frozen, BEGAN_AT)
    for second in range(600):
        new = [Timed(True, chance.randrange(1, 1_001)) for _ in range(45)]
        old = [Timed(False, chance.randrange(1, 401)) for _ in range(5)]
        comparison = compare.observe(comparison, Observed(BEGAN_AT + second, 45, 5, (), [*new, *old], 0.9))
    assert e_process.value(comparison.times.each[0].against_old) > 50.0
    assert blame.judge(comparison) is None


def test_a_day_that_became_slower_for_both_convicts_nobody() -> None:
    frozen = usual.freeze(usual.History(times=gathered(range(1, 1_001))))
    chance, comparison = random.Random(3), compare.begin(frozen, BEGAN_AT)
    for second in range(600):
        lines = [Timed(chance.random() < 0.5, chance.randrange(500, 3_000)) for _ in range(50)]
        comparison = compare.observe(comparison, Observed(BEGAN_AT + second, 25, 25, (), lines, 0.5))
    assert e_process.value(comparison.times.each[0].against_past) > 50.0
    assert blame.judge(comparison) is None


def test_the_verdict_on_times_tells_the_limit_and_the_shares() -> None:
    comparison = compare.begin(usual.Frozen(limits=LIMITS), BEGAN_AT)
    for second in range(80):
        lines = [Timed(True, 20), Timed(False, 20 if second % 2 else 5)]
        comparison = compare.observe(comparison, Observed(BEGAN_AT + second, 1, 1, (), lines, 0.5))
    found = blame.judge(comparison, "web@6")
    assert found is not None and found.kind is Kind.P50
    assert found.sentence.startswith(
        "takes longer than 10 ms for 100.0% of its answers, web@6 for 48.9% at the same time and 50.0% before: 1 : "
    )
    assert 0.0 < found.burst_s <= 50.0
    assert dict(found.numbers)["limit in ms"] == 10


@pytest.mark.parametrize(("value", "proof"), [(math.log(2_900), False), (math.log(3_100), True)])
def test_each_of_the_three_limits_has_a_third_of_the_tolerated_errors(value: float, proof: bool) -> None:
    strong = e_process.EProcess((value,) * len(e_process.RATIOS))
    evidence = (slowness.Evidence(), slowness.Evidence(strong, strong), slowness.Evidence())
    comparison = compare.begin(usual.Frozen(limits=LIMITS), BEGAN_AT)
    found = blame.judge(replace(comparison, times=replace(comparison.times, each=evidence)))
    assert (found is not None and found.kind is Kind.P90) == proof


def compared(chance: random.Random, answers: Answers, pauses: Pauses | None) -> Iterator[tuple[float, Slowness]]:
    """A whole rollout: after how many seconds, and what was known then."""
    before = [one for _, lines in canaries.answered(chance, ((0.0, 60.0),), answers, pauses) for one in lines]
    comparison = slowness.begin(slowness.freeze(slowness.gather(Times(), before)))
    for at, lines in canaries.answered(chance, canaries.PLAN, answers, pauses):
        comparison = slowness.observe(comparison, at, lines)
        yield at - canaries.BEGAN_AT, comparison


@pytest.mark.parametrize(
    "pauses",
    [None, Pauses(20.0, 0.3), Pauses(2.0, 0.3, more=4), Pauses(5.0, 2.0, more=10)],
    ids=["none", "a short one now and then", "short ones all the time", "long ones"],
)
def test_pauses_of_single_replicas_blame_no_release(pauses: Pauses | None) -> None:
    """Whatever the numbers of replicas, the requests of either release meet a pause equally often. Even the comparison
    with the old release alone blames nobody.
    """
    chance, highest = random.Random(23), 0.0
    for _ in range(8):
        for _, comparison in compared(chance, Answers(sigma=0.1, per_s=20.0), pauses):
            highest = max(highest, *(e_process.value(one.against_old) for one in comparison.each))
    assert highest < e_process.limit(ALPHA_EACH)


@pytest.mark.parametrize(("factor", "within_s"), [(1.5, 180.0), (2.0, 120.0), (5.0, 80.0)])
def test_a_slower_release_is_found(factor: float, within_s: float) -> None:
    chance, limit = random.Random(29), e_process.limit(ALPHA_EACH)
    for _ in range(3):
        rollout = compared(chance, Answers(factor=factor), Pauses(20.0, 0.3))
        found = (at for at, comparison in rollout if max(one.value for one in comparison.each) >= limit)
        assert next(found) <= within_s
