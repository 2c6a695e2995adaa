"""Which ends the kernel's count of those that it killed for memory explains."""

import pytest

from perdure.detect import oom

LOOKS = {0.0: 7, 2.0: 7, 4.0: 8, 6.0: 8}
"""Somebody was killed between the second look and the third."""


@pytest.mark.parametrize(
    ("at", "count", "explains"),
    [
        (2.5, 7, False),
        (2.5, 8, True),  # the kernel has counted it, and nobody has looked since
        (4.1, 8, True),  # a look has seen it just before the end was
        (5.9, 8, True),
        (6.1, 8, False),
        (400_000.0, 8, False),
        (6.1, 9, True),
    ],
)
def test_an_end_is_explained_by_what_was_counted_just_before(at: float, count: int, explains: bool) -> None:
    kills = oom.Kills()
    for looked_at, counted in LOOKS.items():
        if looked_at < at:
            kills = oom.observe(kills, counted, looked_at)
    assert oom.just_now(oom.observe(kills, count, at), at) is explains


def test_all_that_end_in_that_moment_are_explained_and_what_was_counted_before_the_first_look_explains_nobody() -> None:
    first = oom.observe(oom.Kills(), 7, 0.0)
    assert not oom.just_now(first, 0.0)
    both = oom.observe(first, 9, 1.0)
    assert oom.just_now(both, 1.0)
    assert oom.just_now(oom.observe(both, 9, 1.5), 1.5)
