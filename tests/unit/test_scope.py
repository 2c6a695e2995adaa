"""Whose fault it is: a sign that half of the replicas show is shared."""

import pytest

from perdure.detect import scope
from perdure.model.check import Check, CheckKind
from perdure.model.verdict import DEFINITIVE, Sign

HANG, STATUS = Sign.HANG, Sign.STATUS


@pytest.mark.parametrize(
    ("signs", "replicas", "shared"),
    [
        ([], 0, set()),
        ([None, None, None], 3, set()),
        ([HANG, None, None], 3, set()),
        ([HANG, HANG, None], 3, {HANG}),
        ([HANG, HANG, None, None], 4, {HANG}),
        ([HANG, HANG, None, None, None], 5, set()),
        ([HANG], 1, set()),  # one of one: nobody shares it
        ([HANG, None], 2, set()),
        ([HANG, HANG], 2, {HANG}),
        ([HANG, STATUS], 2, set()),
        ([HANG, HANG, STATUS, STATUS], 4, {HANG, STATUS}),
        ([HANG, HANG], 4, {HANG}),  # two live of four wanted ones
        ([HANG, HANG], 5, set()),
    ],
)
def test_a_sign_is_shared_by_two_and_by_half_of_the_replicas(
    signs: list[Sign | None], replicas: int, shared: set[Sign]
) -> None:
    assert scope.shared_signs(signs, replicas) == shared


@pytest.mark.parametrize("sign", sorted(DEFINITIVE))
def test_a_definitive_sign_is_never_shared(sign: Sign) -> None:
    assert scope.shared_signs([sign] * 5, 5) == frozenset()


@pytest.mark.parametrize(
    ("shares", "replicas", "together"),
    [
        ([0.2, 0.2, 0.2], 3, True),
        ([0.2, 0.2, None], 3, True),
        ([0.2, 0.0, 0.0], 3, False),
        ([0.05, 0.05, 0.05], 3, False),
        ([0.5], 1, False),  # one of one shares it with nobody
        ([0.5, 0.5], 5, False),
    ],
)
def test_half_of_the_replicas_that_fail_requests_fail_together(
    shares: list[float | None], replicas: int, together: bool
) -> None:
    assert scope.failing_together(shares, replicas) is together


BAD, WELL = scope.Asked(0.9, 100.0, 20.0), scope.Asked(0.0, 0.0, 20.0)


@pytest.mark.parametrize(
    ("asked", "culprits"),
    [
        ([BAD, BAD, WELL], {0, 1}),
        ([BAD, WELL, BAD, WELL, WELL], {0, 2}),
        ([BAD, WELL, WELL], {0}),
        ([BAD, WELL], {0}),  # the last but one, when others were isolated before
        ([BAD, BAD, BAD], set()),
        ([BAD, BAD], set()),
        ([], set()),
        ([BAD, BAD, scope.Asked(0.0, 0.0, 0.0)], set()),  # nobody asked the third one
        ([scope.Asked(0.3, 3.0, 20.0), scope.Asked(0.2, 2.0, 20.0), WELL], set()),  # five failures are chance
        ([BAD, BAD, scope.Asked(0.2, 20.0, 20.0)], set()),  # the third one fails as well
        # Bad requests fail on each replica that they are tried on; the third one gets the good ones, too.
        ([BAD, BAD, scope.Asked(0.1, 100.0, 1000.0)], set()),
    ],
)
def test_some_fail_alone_when_the_others_are_asked_as_much_and_do_not(
    asked: list[scope.Asked], culprits: set[int]
) -> None:
    assert scope.culprits(asked) == culprits


def test_while_nobody_is_heard_nothing_says_that_a_common_cause_is_over() -> None:
    before = {Sign.CONTENT: 100.0}
    assert scope.remembered(before, frozenset(), (), 110.0) == {}
    assert scope.remembered(before, frozenset(), (), 110.0, heard=False) == {Sign.CONTENT: 110.0}


@pytest.mark.parametrize(
    ("sign", "after_s", "interval_s", "kept"),
    [
        (Sign.STATUS, 2.9, 1.0, True),
        (Sign.STATUS, 3.1, 1.0, False),
        (Sign.CONTENT, 9.0, 10.0, True),
        (Sign.REFUSED, 1.0, 1.0, True),
        (Sign.HANG, 0.1, 1.0, False),
        (Sign.REQUESTS, 0.1, 1.0, False),
    ],
)
def test_a_cause_that_ended_for_some_is_remembered_until_all_were_asked(
    sign: Sign, after_s: float, interval_s: float, kept: bool
) -> None:
    checks = [Check(CheckKind.TCP, interval_s=interval_s)]
    shared_at = scope.remembered({}, frozenset({sign}), checks, 100.0)
    assert shared_at == {sign: 100.0}
    assert scope.remembered(shared_at, frozenset(), checks, 100.0 + after_s) == (shared_at if kept else {})


def test_what_was_shared_in_the_turn_before_stays_so_until_half_of_that_share_fails() -> None:
    near = [0.12, 0.09, 0.06]
    assert not scope.failing_together(near, 3)
    assert scope.failing_together(near, 3, already=True)
    assert not scope.failing_together([0.12, 0.04, 0.04], 3, already=True)
    assert not scope.failing_together([0.12], 1, already=True), "one alone shares it with nobody"
