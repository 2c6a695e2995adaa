"""The comparison of two releases: which failures count, with which share, what both show, and how soon it tells."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from bench.rollout import canaries
from hypothesis import given
from hypothesis import strategies as st

from perdure.recover import blame, compare, e_process, observed, surge, usual
from perdure.recover.blame import Kind
from perdure.recover.compare import Comparison
from perdure.recover.observed import Failed, Observed
from perdure.recover.usual import Frozen, History

BEGAN_AT = 1_000.0


def reading(at_s: float, new: int = 0, old: int = 0, failures: Sequence[Failed] = (), share: float = 0.05) -> Observed:
    return Observed(BEGAN_AT + at_s, new, old, failures, (), share)


def begun(share: float = 0.05) -> Comparison:
    """After the reading in which the new release got its share."""
    return compare.observe(compare.begin(Frozen(), BEGAN_AT), reading(0.0, share=share))


def fed(comparison: Comparison, *readings: Observed) -> Comparison:
    for one in readings:
        comparison = compare.observe(comparison, one)
    return comparison


def failed(of_new: int, of_old: int = 0) -> list[Failed]:
    """So many failures, each of another client."""
    return [Failed(True, f"n{number}") for number in range(of_new)] + [
        Failed(False, f"o{number}") for number in range(of_old)
    ]


def evidence(comparison: Comparison) -> float:
    return e_process.value(comparison.failures.process)


def test_a_failure_is_judged_by_the_share_that_was_known_before_it() -> None:
    """Not by one that counts the failed request itself, or others of its reading."""
    after = fed(begun(), reading(0.1, 1, 0, [Failed(True, "a")]))
    assert after.failures.process == e_process.observe(e_process.NOTHING, 0.05, True)
    again = fed(after, reading(1.1, 0, 50, [Failed(False, "b")]))
    kept = math.exp(-0.1)
    w = (1.0 * kept + 0.05 * 20) / (1.0 * kept + 20)
    assert again.failures.process.logs == pytest.approx(e_process.observe(after.failures.process, w, False).logs)


def test_the_share_is_the_intended_one_from_the_first_request_after_a_change() -> None:
    comparison = fed(begun(), *(reading(number / 10, 0, 100) for number in range(1, 100)))
    assert compare.share(comparison) < 0.005
    assert compare.share(fed(comparison, reading(10.0, 30, 70, share=0.25))) == pytest.approx(0.25)


def test_the_share_follows_what_the_balancer_does_and_forgets_with_a_time_constant_of_ten_seconds() -> None:
    comparison = fed(begun(0.5), reading(0.1, 0, 980, share=0.5))
    assert compare.share(comparison) == pytest.approx(0.01)
    later = fed(comparison, reading(10.1, 0, 0, share=0.5))
    assert compare.share(later) == pytest.approx(10 / (980 * math.exp(-1.0) + 20))


def test_requests_of_the_reading_in_which_the_share_changed_count_for_neither() -> None:
    changed = fed(begun(), reading(1.0, 500, 0, failed(3), share=0.25))
    assert compare.share(changed) == pytest.approx(0.25)
    assert evidence(changed) == 0.0
    assert (changed.total.new.requests, changed.total.new.failures) == (500, 3)


def test_a_failure_whose_request_came_before_the_change_does_not_count() -> None:
    recalled = fed(begun(1.0), reading(60.0, 500, 0, share=0.5))
    late = [Failed(True, f"c{number}", waited_s=30.0) for number in range(20)]
    assert evidence(fed(recalled, reading(70.0, 250, 250, late, share=0.5))) == 0.0
    soon = [one._replace(waited_s=9.0) for one in late]
    assert evidence(fed(recalled, reading(70.0, 250, 250, soon, share=0.5))) > 3.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_is_compared_while_one_of_the_releases_is_to_get_no_requests(share: float) -> None:
    assert evidence(fed(begun(share), reading(0.1, 10, 10, failed(10, 10), share))) == 0.0


def test_of_the_failures_of_a_client_in_a_second_only_the_first_counts_whichever_release_it_was() -> None:
    same = [Failed(False, "a"), Failed(True, "a"), Failed(True, "a"), Failed(True, "b")]
    comparison = fed(begun(), reading(0.1, 3, 1, same), reading(0.9, 1, 0, [Failed(True, "a")]))
    assert (comparison.total.new.failures, comparison.total.new.counted) == (4, 1)
    assert (comparison.total.old.failures, comparison.total.old.counted) == (1, 1)
    assert fed(comparison, reading(1.0, 1, 0, [Failed(True, "a")])).total.new.counted == 2


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans(), st.integers(0, 3)), max_size=60))
def test_at_most_one_failure_counts_for_each_client_and_second(stream: list[tuple[float, bool, int]]) -> None:
    clients, counted = observed.NOBODY, []
    for at_s, new, client in sorted(stream):
        clients, first = observed.first_of_second(clients, BEGAN_AT + at_s, [Failed(new, str(client))])
        counted += [(int(BEGAN_AT + at_s), one) for one in first]
    expected: dict[tuple[int, str], bool] = {}
    for at_s, new, client in sorted(stream):
        expected.setdefault((int(BEGAN_AT + at_s), str(client)), new)
    assert [((second, one.client), one.new) for second, one in counted] == list(expected.items())


def test_what_is_remembered_of_clients_is_bounded() -> None:
    flood = [Failed(number % 20 == 0, str(number)) for number in range(10_000)]
    comparison = fed(begun(), reading(0.1, 500, 9_500, flood))
    assert len(comparison.clients.seen) == observed.CLIENTS_MAX
    assert comparison.total.old.failures + comparison.total.new.failures == 10_000


def test_failures_that_fall_on_both_as_requests_do_say_nothing() -> None:
    """A dependency is gone: everything fails on either, with many clients."""
    chance, comparison, highest = random.Random(3), begun(), 0.0
    for tenth in range(1, 1_200):
        new = [chance.random() < 0.05 for _ in range(5)]
        failures = [Failed(mine, str(chance.randrange(10_000))) for mine in new]
        comparison = fed(comparison, reading(tenth / 10, sum(new), 5 - sum(new), failures))
        highest = max(highest, evidence(comparison))
    assert highest < 3.0
    assert blame.judge(comparison) is None
    assert compare.common_mode(comparison).startswith("both releases fail: 100% of the requests to the old one")


def test_that_both_fail_is_told_within_moments_and_taken_back_soon_after() -> None:
    comparison = fed(begun(), *(reading(number / 10, 1, 4) for number in range(1, 300)))
    assert compare.common_mode(comparison) == ""
    bad = [reading(30 + number / 10, 1, 4, [Failed(False, str(number)), Failed(True, "n")]) for number in range(5)]
    assert compare.common_mode(fed(comparison, *bad[:2])) == ""
    comparison = fed(comparison, *bad)
    assert compare.common_mode(comparison)
    worse = fed(comparison, *(reading(31 + number / 10, 1, 4, failed(1, 4)) for number in range(300)))
    after = [reading(61 + number / 10, 1, 4) for number in range(600)]
    assert compare.common_mode(fed(worse, *after[:50]))
    assert compare.common_mode(fed(worse, *after)) == ""


def test_with_few_requests_a_hold_ends_when_the_last_failures_are_a_minute_ago() -> None:
    """The sums alone would need two minutes of five requests a second to fall."""
    bad = [reading(number, 1, 4, failed(1, 4)) for number in range(1, 30)]
    good = [reading(30 + number, 1, 4) for number in range(75)]
    comparison = fed(begun(), *bad, *good[:10])
    assert compare.common_mode(comparison)
    comparison = fed(comparison, *good[10:])
    assert surge.lasts(comparison.old_surge)
    assert compare.common_mode(comparison) == ""


def test_an_old_release_that_fails_alone_is_no_reason_to_hold() -> None:
    failing = [reading(number / 10, 1, 4, [Failed(False, str(number))]) for number in range(1, 200)]
    assert compare.common_mode(fed(begun(), *failing)) == ""
    assert compare.common_mode(fed(begun(), *failing[:6])), "six requests of the new one say nothing about it"


def test_what_the_old_release_always_showed_is_no_reason_to_hold() -> None:
    shaky = usual.freeze(_history(1_000, 100))
    assert shaky.failing == pytest.approx(0.1, abs=0.001)
    comparison = replace(begun(), frozen=shaky)
    failing = [reading(n / 10, 1, 4, [Failed(n % 9 == 0, str(n))] if n % 2 else []) for n in range(1, 600)]
    assert compare.common_mode(fed(comparison, *failing)) == ""


@pytest.mark.parametrize(
    ("requests", "failures", "share"), [(0, 0, 0.1), (500, 0, 0.0038), (10_000, 0, 0.002), (10_000, 100, 0.0102)]
)
def test_of_few_requests_the_usual_share_is_rather_thought_too_high(requests: int, failures: int, share: float) -> None:
    assert usual.freeze(_history(requests, failures)).failing == pytest.approx(share, rel=0.02)


def _history(requests: int, failures: int) -> History:
    each = [Failed(False, str(number)) for number in range(failures)]
    return usual.gather(History(), Observed(BEGAN_AT, 0, requests, each))


def test_requests_and_failures_are_counted_since_the_attempt_and_since_the_step_began() -> None:
    comparison = fed(begun(), reading(0.1, 2, 40, failed(1, 2)))
    comparison = fed(compare.next_step(comparison), reading(0.2, 3, 50, failed(2)))
    assert (comparison.total.new.requests, comparison.total.new.failures) == (5, 3)
    assert (comparison.total.old.requests, comparison.total.old.failures) == (90, 2)
    assert (comparison.step.new.requests, comparison.step.new.failures) == (3, 2)
    assert comparison.step.new.share == pytest.approx(2 / 3)
    assert evidence(comparison) > 0.0
    assert comparison.asked_at == BEGAN_AT + 0.2


def test_the_verdict_tells_its_numbers() -> None:
    comparison = fed(begun(), reading(1.0, 20, 380, [Failed(False, "x")]))
    comparison = fed(comparison, *(reading(2.0 + number, 2, 38, failed(1)) for number in range(5)))
    found = blame.judge(comparison, "web@6")
    assert found is not None
    assert found.kind is Kind.FAILURES
    assert found.sentence == "fails 5 of 30 requests, web@6 1 of 570: 1 : 8,840 that chance did this"
    assert found.burst_s == pytest.approx(4.0)
    numbers = dict(found.numbers)
    assert (numbers["requests"], numbers["failures"]) == (30, 5)
    assert numbers["e-value"] == pytest.approx(math.exp(found.evidence), abs=0.1)


def test_three_failures_of_a_new_release_are_not_yet_proof() -> None:
    comparison = fed(begun(), *(reading(1.0 + number, 2, 38, failed(1)) for number in range(3)))
    assert blame.judge(comparison) is None


def test_overwhelming_evidence_is_told_as_such() -> None:
    found = blame.judge(fed(begun(), reading(1.0, 20, 380, failed(20))))
    assert found is not None and "less than 1 : 1,000,000 that chance" in found.sentence


def test_a_burst_is_measured_from_when_something_began_to_speak_against_the_release() -> None:
    """A failure as they happen, long before, is no part of it."""
    comparison = fed(begun(0.5), reading(1.0, 25, 25, failed(1), 0.5))
    comparison = fed(comparison, *(reading(5.0 + 10 * number, 25, 25, failed(0, 1), 0.5) for number in range(8)))
    assert evidence(comparison) < 0.0
    comparison = fed(comparison, *(reading(100.0 + number, 25, 25, failed(6), 0.5) for number in range(8)))
    found = blame.judge(comparison)
    assert found is not None and found.burst_s < 8.0


def test_innocent_releases_are_blamed_no_more_often_than_promised_with_a_share_that_is_estimated() -> None:
    """The worst innocent ratio; the bound is the 99.9 % quantile of the binomial for alpha."""
    chance = random.Random(17)
    blamed = sum(canaries.failures_only(chance, e_process.NULL_RATIO, failures_per_s=0.1) is None for _ in range(2_000))
    assert blamed < 9


def test_clients_that_repeat_until_a_request_has_failed_on_both_releases_blame_nobody() -> None:
    """Each bad request is tried until both releases have failed it, as a retry elsewhere does."""
    chance, blamed = random.Random(5), 0
    for _ in range(100):
        comparison = begun()
        for second in range(1, 60):
            new = [True, False] if chance.random() < 0.05 else [False, True]
            tries = [Failed(mine, str(second)) for mine in new]
            comparison = fed(comparison, reading(float(second), 3, 48, tries))
            if blame.judge(comparison):
                blamed += 1
                break
    assert blamed <= 1


@pytest.mark.parametrize(
    ("failing", "median_max", "worst_max"), [(1.0, 15, 25), (0.2, 15, 25), (0.05, 25, 40), (0.02, 50, 80)]
)
def test_a_bad_release_costs_no_more_failed_requests_than_the_design_aims_at(
    failing: float, median_max: int, worst_max: int
) -> None:
    """Both attempts, 50 requests/s, 0.2 % failing anyway."""
    chance = random.Random(11)
    costs = [canaries.until_given_up(chance, failing) for _ in range(40)]
    assert 8 <= statistics.median(costs) <= median_max
    assert max(costs) <= worst_max
