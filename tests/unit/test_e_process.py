"""The formula of the comparison: by hand, fair in the mean, and how often it blames an innocent release."""

import collections
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.recover import e_process
from perdure.recover.e_process import NOTHING, NULL_RATIO, RATIOS

ALPHA = 0.001
SHARES = st.floats(0.01, 0.99)
PLAN = ((0.05, 6), (0.25, 6), (0.5, 12), (0.9, 60))
"""Share of the new release, and failures of both: 50 requests/s of which 0.2 % fail, for 1, 1, 2 and 10 minutes."""


@pytest.mark.parametrize(
    ("ratio", "w", "probability"),
    [(1.0, 0.05, 0.05), (1.2, 0.05, 0.0594059), (30.0, 0.05, 0.6122449), (3.0, 0.5, 0.75), (2.0, 0.9, 0.9473684)],
)
def test_a_failure_belongs_to_the_new_release_by_its_share_and_its_ratio(
    ratio: float, w: float, probability: float
) -> None:
    assert e_process.belongs(ratio, w) == pytest.approx(probability, abs=1e-7)


@pytest.mark.parametrize(
    ("position", "of_new", "of_old"),
    [(0, 1.1, 0.88), (1, 1.2222222, 0.7333333), (2, 1.375, 0.55), (4, 1.6666667, 0.2), (5, 1.7741935, 0.0709677)],
)
def test_at_an_even_share_a_failure_multiplies_as_computed_by_hand(position: int, of_new: float, of_old: float) -> None:
    assert e_process.factors(RATIOS[position], 0.5) == pytest.approx((of_new, of_old), abs=1e-6)


@pytest.mark.parametrize(
    ("failures", "value"),
    [("", 1.0), ("n", 1.4443100), ("o", 0.4668280), ("nn", 2.1423496), ("no", 0.6066626), ("on", 0.6066626)],
)
def test_e_is_the_mean_of_the_six_products(failures: str, value: float) -> None:
    e = NOTHING
    for one in failures:
        e = e_process.observe(e, 0.5, one == "n")
    assert math.exp(e_process.value(e)) == pytest.approx(value, abs=1e-6)


def test_four_failures_of_a_release_with_a_twentieth_of_the_requests_are_proof() -> None:
    each = list(itertools.accumulate(range(4), lambda e, _: e_process.observe(e, 0.05, True), initial=NOTHING))
    assert [math.exp(e_process.value(e)) for e in each[1:]] == pytest.approx([4.1247, 26.927, 225.24, 2100.8], rel=1e-4)
    assert e_process.value(each[3]) < e_process.limit(ALPHA) <= e_process.value(each[4])


@given(SHARES, st.floats(0.0, NULL_RATIO))
def test_as_long_as_the_new_release_is_not_to_blame_no_product_grows_in_the_mean(w: float, truth: float) -> None:
    of_new = e_process.belongs(truth, w)
    for ratio in RATIOS:
        new, old = e_process.factors(ratio, w)
        assert of_new * new + (1.0 - of_new) * old <= 1.0 + 1e-12


@given(SHARES)
def test_at_the_worst_innocent_ratio_every_product_keeps_its_mean(w: float) -> None:
    of_new = e_process.belongs(NULL_RATIO, w)
    for ratio in RATIOS:
        new, old = e_process.factors(ratio, w)
        assert of_new * new + (1.0 - of_new) * old == pytest.approx(1.0)


@given(SHARES)
def test_a_factor_is_the_ratio_of_the_probabilities(w: float) -> None:
    for ratio in RATIOS:
        p, p0 = e_process.belongs(ratio, w), e_process.belongs(NULL_RATIO, w)
        assert e_process.factors(ratio, w) == pytest.approx((p / p0, (1.0 - p) / (1.0 - p0)))


@given(SHARES, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_part_of_a_failure_counts_as_the_mean_of_what_it_may_have_been(w: float, part: float, rest: float) -> None:
    new, old = part, (1.0 - part) * rest
    e = e_process.weigh(NOTHING, w, new, old)
    for log, ratio in zip(e.logs, RATIOS, strict=True):
        of_new, of_old = e_process.factors(ratio, w)
        assert math.exp(log) == pytest.approx(new * of_new + old * of_old + (1.0 - new - old))


@pytest.mark.parametrize("w", [0.0, 1.0])
def test_a_share_of_nothing_or_all_makes_no_single_failure_proof(w: float) -> None:
    for new in (True, False):
        assert e_process.value(e_process.observe(NOTHING, w, new)) < math.log(30.0)


def test_thousands_of_failures_do_not_overflow() -> None:
    e = NOTHING
    for _ in range(5_000):
        e = e_process.observe(e, 0.05, True)
    assert 5_000 < e_process.value(e) < math.inf


@pytest.mark.parametrize(("truth", "least", "most"), [(1.0, 1e-5, 2e-4), (NULL_RATIO, 1e-4, ALPHA)])
def test_the_exact_probability_to_blame_an_innocent_release_is_as_promised(
    truth: float, least: float, most: float
) -> None:
    assert least < probability_of_blame(truth) <= most


def probability_of_blame(truth: float) -> float:
    """P(E ever reaches 1/alpha) over the whole plan, exactly: E depends only on how many failures of each step were the
    new release's, so the probabilities of these numbers are followed from failure to failure.
    """
    blamed = 0.0
    states = {(1.0,) * len(RATIOS): 1.0}  # products at the begin of the step -> probability
    for share, failures in PLAN:
        of_new, factors = e_process.belongs(truth, share), [e_process.factors(ratio, share) for ratio in RATIOS]
        ended: dict[tuple[float, ...], float] = {}
        for begun, probability in states.items():
            counts = {0: probability}
            for seen in range(1, failures + 1):
                after: dict[int, float] = collections.defaultdict(float)
                for count, part in counts.items():
                    after[count + 1] += part * of_new
                    after[count] += part * (1.0 - of_new)
                reached = {count: sum(_products(begun, factors, count, seen)) / 6 >= 1 / ALPHA for count in after}
                blamed += sum(part for count, part in after.items() if reached[count])
                counts = {count: part for count, part in after.items() if not reached[count]}
            ended |= {_products(begun, factors, count, failures): part for count, part in counts.items() if part > 1e-9}
        states = ended
    return blamed


def _products(begun: tuple[float, ...], factors: list[tuple[float, float]], count: int, seen: int) -> tuple[float, ...]:
    return tuple(
        product * of_new**count * of_old ** (seen - count)
        for product, (of_new, of_old) in zip(begun, factors, strict=True)
    )


def test_twenty_thousand_rollouts_of_innocent_releases_blame_no_more_than_promised() -> None:
    """The worst innocent ratio; failures of each step are a Poisson number. The bound is the 99.9 % quantile of the
    binomial for alpha: 35 of 20,000.
    """
    chance, blamed = random.Random(42), 0
    steps = [
        (failures, e_process.belongs(NULL_RATIO, share), [e_process.factors(ratio, share) for ratio in RATIOS])
        for share, failures in PLAN
    ]
    for _ in range(20_000):
        blamed += _is_blamed(chance, steps)
    assert 0 < blamed <= 35


def _is_blamed(chance: random.Random, steps: list[tuple[int, float, list[tuple[float, float]]]]) -> bool:
    products, limit = [1.0] * len(RATIOS), len(RATIOS) / ALPHA
    for failures, of_new, factors in steps:
        by_new, by_old = [new for new, _ in factors], [old for _, old in factors]
        number = round(chance.gauss(failures, math.sqrt(failures)))
        for _ in range(number):
            factor = by_new if chance.random() < of_new else by_old
            products = [product * more for product, more in zip(products, factor, strict=True)]
            if sum(products) >= limit:
                return True
    return False
