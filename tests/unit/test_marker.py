"""Which snapshot gets a marker by itself, and which such markers go: a table, and laws over any history."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_prevent_snapshot import NOW, histories, proven, taken

from perdure.model.snapshot import Kept
from perdure.prevent import marker
from perdure.prevent.marker import AUTOMATIC_MAX, SETTLED_S, Marking

NEWEST = taken(9, age_s=60.0)


def marked(number: int, *names: str) -> Kept:
    return replace(taken(number), marks=names)


def healthy(hour: int) -> str:
    return f"healthy-20261125-{hour:02d}00"


OURS = [marked(number, healthy(number)) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("kept", "settled_s", "expected"),
    [
        ([NEWEST], SETTLED_S - 1.0, Marking()),
        ([NEWEST], SETTLED_S, Marking("s-0009")),
        ([taken(9, age_s=SETTLED_S + 1.0)], SETTLED_S, Marking()),
        ([taken(9, age_s=SETTLED_S + 1.0)], SETTLED_S + 2.0, Marking("s-0009")),
        ([taken(9, age_s=-5.0)], SETTLED_S, Marking("s-0009")),
        ([*OURS[:2], NEWEST], SETTLED_S, Marking("s-0009")),
        ([*OURS, NEWEST], SETTLED_S, Marking("s-0009", (healthy(1),))),
        ([*OURS[::-1], marked(4, healthy(4)), NEWEST], SETTLED_S, Marking("s-0009", (healthy(1), healthy(2)))),
        # Names of people stay, whatever they look like.
        ([*OURS[:2], marked(3, "healthy-before", "healthy-20261125-0900-mine"), NEWEST], SETTLED_S, Marking("s-0009")),
        # Damage: none is known to be good; and a proof that failed before the last one counts no more.
        ([proven(taken(8), 50.0, "damaged"), NEWEST], SETTLED_S, Marking()),
        ([proven(taken(7), 90.0, "damaged"), proven(taken(8), 50.0), NEWEST], SETTLED_S, Marking("s-0009")),
        ([proven(taken(8, data_epoch=0), 50.0, "damaged"), NEWEST], SETTLED_S, Marking("s-0009")),
    ],
)  # fmt: skip
def test_the_newest_snapshot_of_a_settled_hour_is_marked_and_the_oldest_markers_go(
    kept: list[Kept], settled_s: float, expected: Marking
) -> None:
    newest = next(one for one in kept if one.manifest.id == "s-0009")
    assert marker.decide(kept, newest.manifest, settled_s, NOW) == expected


def test_without_a_snapshot_nothing_is_marked_and_nothing_forgotten() -> None:
    assert marker.decide([*OURS, marked(4, healthy(4))], None, 10 * SETTLED_S, NOW) == Marking()


@given(histories(), st.lists(st.integers(0, 23), unique=True, max_size=8), st.floats(0.0, 1e6))
def test_at_most_a_few_are_left_the_newest_is_one_of_them_and_those_of_people_stay(
    kept: list[Kept], hours: list[int], settled_s: float
) -> None:
    kept = [
        replace(one, marks=(*one.marks, *(healthy(hour) for hour in hours[number::2]))) if number < 2 else one
        for number, one in enumerate(kept)
    ]
    newest = max((one.manifest for one in kept), key=lambda one: one.id, default=None)
    marking = marker.decide(kept, newest, settled_s, NOW)
    if marking.add is None:
        assert marking.forget == ()
        return
    assert newest is not None and marking.add == newest.id and settled_s >= SETTLED_S
    assert all(marker.automatic(name) for name in marking.forget)
    left = {name for one in kept for name in one.marks if one.manifest.id != newest.id} - set(marking.forget)
    assert sum(marker.automatic(name) for name in left) <= AUTOMATIC_MAX - 1
    if marking.forget:
        assert sum(marker.automatic(name) for name in left) == AUTOMATIC_MAX - 1
