"""When somebody is told of a disk."""

import pytest

from perdure.detect import space
from perdure.model.evidence import Space

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Space(50 * GB, 100 * GB), ""),
        (Space(2 * GB, 100 * GB), "the disk of /srv is full: 2.0% (2,000 MB) left"),
        (Space(0, 100 * GB), "is full: 0.0% (0 MB) left"),
        (Space(50 * GB, 100 * GB, 10, 1000), "has no inodes left: 10 of 1,000"),
        (Space(50 * GB, 100 * GB, 500, 1000), ""),
        (Space(50 * GB, 100 * GB, 0, 0), ""),  # it does not count them
        (Space(0, 0), ""),  # a file system that has no size at all, as /proc
    ],
)
def test_a_disk_with_hardly_anything_left_is_told(seen: Space, told: str) -> None:
    found = space.sentence(space.observe(space.Filled(), seen, 10.0), "/srv")
    assert told in found
    assert bool(found) is bool(told)


def growing(rate_bytes_s: float, used: float, seconds: int = 300) -> space.Filled:
    filled = space.Filled()
    for at in range(0, seconds + 1, 10):
        filled = space.observe(filled, Space(round(10 * GB - used - rate_bytes_s * at), 10 * GB), float(at))
    return filled


def test_a_disk_that_fills_up_steadily_is_told_an_hour_before() -> None:
    assert "will be full in 3 min: " in space.sentence(growing(5_000_000, 7.5 * GB), "/srv")
    assert space.sentence(growing(5_000_000, 3 * GB), "/srv") == "", "there is much room still"
    assert space.sentence(growing(0, 9 * GB), "/srv") == "", "it does not grow"


def test_nothing_is_told_of_a_disk_that_nobody_has_seen() -> None:
    assert space.sentence(space.Filled(), "/srv") == ""
