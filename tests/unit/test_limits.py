"""What a replica holds of what is limited: its backlog and its descriptors."""

from collections.abc import Sequence

import pytest

from perdure.detect import limits
from perdure.detect.limits import Holdings
from perdure.model.evidence import Held
from perdure.model.verdict import Sign


def seen(*looks: tuple[float, int, int, int, int]) -> Holdings:
    holdings = Holdings()
    for at, backlog, backlog_max, descriptors, descriptors_max in looks:
        holdings = limits.observe(holdings, Held("web/1#1", at, backlog, backlog_max, descriptors, descriptors_max))
    return holdings


def backlog(*waiting: int, every_s: float = 0.25) -> Sequence[tuple[float, int, int, int, int]]:
    return [(10.0 + number * every_s, count, 8, 0, 0) for number, count in enumerate(waiting)]


@pytest.mark.parametrize(
    ("waiting", "sign"),
    [
        ([9] * 10, Sign.BACKLOG),  # full for 2.25 s
        ([8] * 10, Sign.BACKLOG),  # as many as may
        ([9] * 9, None),  # for two seconds: a pause
        ([9] * 5 + [7] + [9] * 9, None),  # some were accepted meanwhile
        ([7] * 40, None),
        ([], None),
    ],
)
def test_a_backlog_that_stays_full_for_longer_than_a_pause_convicts(waiting: list[int], sign: Sign | None) -> None:
    verdict = limits.judge(seen(*backlog(*waiting)))
    assert (verdict.sign if verdict is not None else None) is sign


@pytest.mark.parametrize(
    ("held", "limit", "convicts"),
    [(1004, 1024, True), (1003, 1024, False), (18, 20, True), (17, 20, False), (100, 0, False)],
)
def test_descriptors_that_are_nearly_all_open_in_two_looks_convict(held: int, limit: int, convicts: bool) -> None:
    once, twice = seen((1.0, 0, 1, held, limit)), seen((1.0, 0, 1, held, limit), (3.0, 0, 1, held, limit))
    assert limits.judge(once) is None
    verdict = limits.judge(twice)
    assert (verdict is not None) is convicts
    if verdict is not None:
        assert verdict.sign is Sign.DESCRIPTORS and f"{held} of {limit}" in verdict.sentence


def test_a_look_that_knows_only_one_of_them_leaves_the_other_as_it_was() -> None:
    holdings = seen((1.0, 9, 8, 500, 1024), (1.25, 9, 8, 0, 0), (1.5, 0, 0, 501, 1024))
    assert holdings.last == Held("web/1#1", 1.5, 9, 8, 501, 1024)
    assert limits.backlog_full_s(holdings) == pytest.approx(0.5)


def test_a_pause_of_the_monitor_makes_no_backlog_full_for_long() -> None:
    holdings = limits.shifted(seen(*backlog(9, 9)), 10.0)
    later = limits.observe(holdings, Held("web/1#1", 20.5, 9, 8))
    assert limits.backlog_full_s(later) == pytest.approx(0.5)
