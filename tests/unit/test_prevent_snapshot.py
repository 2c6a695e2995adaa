"""When snapshots are taken, which are kept, which one is proven: tables, and laws over any history."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.control import moments
from perdure.model.snapshot import Keeping, Kept, Manifest, Pin, Proof, StateKind
from perdure.prevent import snapshot
from perdure.prevent.snapshot import Attempt

NOW = 1_000_000.0
DAY_S = 86_400.0
KEEPING = Keeping(StateKind.SQLITE, keep=3, drill_every_s=DAY_S)


def taken(number: int, age_s: float | None = None, data_epoch: int = 1) -> Kept:
    """A snapshot that nobody relies on; by default each one is a minute younger than the one before."""
    at = NOW - (age_s if age_s is not None else 6000.0 - 60.0 * number)
    manifest = Manifest(
        f"s-{number:04d}", "notes", "notes/1", StateKind.SQLITE, None, 1, data_epoch, at, 0.1, 1, 1, f"{number}"
    )
    return Kept(manifest)


def like(kept: Kept, digest: str) -> Kept:
    """The same with this content."""
    return replace(kept, manifest=replace(kept.manifest, digest=digest))


def proven(kept: Kept, age_s: float, problem: str = "") -> Kept:
    """The same, proven so long ago."""
    return replace(kept, proof=Proof(NOW - age_s, 1.0, problem))


def ids(*numbers: int) -> list[str]:
    return [f"s-{number:04d}" for number in numbers]


@pytest.mark.parametrize(
    ("last", "every_s", "at"),
    [
        (None, 60.0, float("-inf")),
        (Attempt(100.0, None), 60.0, None),
        (Attempt(100.0, 101.0), 60.0, 160.0),
        (Attempt(100.0, 129.0), 60.0, 160.0),
        (Attempt(100.0, 150.0), 60.0, 200.0),  # as long a rest as it took
        (Attempt(100.0, 101.0, failures=1), 60.0, 106.0),
        (Attempt(100.0, 101.0, failures=2), 60.0, 111.0),
        (Attempt(100.0, 101.0, failures=50), 60.0, 401.0),
        (Attempt(100.0, 101.0, failures=1), 1.0, 102.0),
        (Attempt(100.0, 200.0, failures=1), 60.0, 300.0),
        (Attempt(100.0, 101.0, failures=1), 3600.0, 106.0),
    ],
)
def test_the_next_snapshot_is_due_after_its_time_after_a_rest_or_after_a_back_off(
    last: Attempt | None, every_s: float, at: float | None
) -> None:
    assert snapshot.due(last, every_s, jitter=0.5) == at


@given(
    st.floats(0.0, 1e6), st.floats(0.0, 1e5), st.integers(0, 100), st.floats(1.0, 1e5),
    st.floats(0.0, 1.0, exclude_max=True),
)  # fmt: skip
def test_snapshots_never_overlap_and_never_take_more_than_half_of_the_time(
    began_at: float, took_s: float, failures: int, every_s: float, jitter: float
) -> None:
    ended_at = began_at + took_s
    at = snapshot.due(Attempt(began_at, ended_at, failures), every_s, jitter)
    assert at is not None
    assert at >= ended_at
    assert at - began_at >= 2 * (ended_at - began_at) - 1e-6
    # Nor is one put off for longer than its time, a back-off, or its rest.
    assert at <= max(began_at + every_s, ended_at + 1.25 * snapshot.RETRY_S_MAX, ended_at + took_s) + 1e-6


@pytest.mark.parametrize(
    ("kept", "in_use", "may_go"),
    [
        ([], (), ids()),
        ([taken(n) for n in (1, 2, 3)], (), ids()),
        ([taken(n) for n in (1, 2, 3, 4, 5)], (), ids(1, 2)),
        ([taken(n) for n in (5, 3, 1, 2, 4)], (), ids(1, 2)),
        ([taken(n) for n in (1, 2, 3, 4, 5)], ids(1), ids(2)),
        ([taken(n) for n in (1, 2, 3, 4, 5)], ids(5), ids(1)),
        ([replace(taken(1), pin=Pin(None, "kept")), *(taken(n) for n in (2, 3, 4, 5))], (), ids(2)),
        ([replace(taken(1), pin=Pin(NOW + 1.0, "safety")), *(taken(n) for n in (2, 3, 4, 5))], (), ids(2)),
        ([replace(taken(1), pin=Pin(NOW, "safety")), *(taken(n) for n in (2, 3, 4, 5))], (), ids(1, 2)),
        ([replace(taken(1), marks=("good",)), *(taken(n) for n in (2, 3, 4, 5))], (), ids(2)),
        ([proven(taken(1), 50.0), *(taken(n) for n in (2, 3, 4, 5))], (), ids(2)),
        ([proven(taken(1), 50.0, "damaged"), *(taken(n) for n in (2, 3, 4, 5))], (), ids(1, 2)),
        ([proven(taken(1), 50.0), proven(taken(2), 40.0), *(taken(n) for n in (3, 4, 5, 6))], (), ids(1, 3)),
        # The newest that is proven, and the one that was proven last.
        ([proven(taken(1), 30.0), proven(taken(2), 40.0), *(taken(n) for n in (3, 4, 5, 6))], (), ids(3)),
    ],
)
def test_what_may_go_is_the_oldest_of_what_nobody_relies_on(
    kept: list[Kept], in_use: tuple[str, ...], may_go: list[str]
) -> None:
    assert snapshot.surplus(kept, KEEPING, in_use, NOW) == may_go


def test_the_newest_snapshot_stays_although_the_clock_was_set_back_before_it_was_taken() -> None:
    kept = [taken(n, age_s=100.0 - n) for n in range(1, 9)] + [taken(9, age_s=90_000.0)]
    assert snapshot.surplus(kept, KEEPING, (), NOW) == ids(1, 2, 3, 4, 5)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_what_is_left_of_a_time_in_which_nothing_changed_still_has_the_state_of_each_moment(digests: str) -> None:
    kept = [like(taken(n), digest) for n, digest in enumerate(digests, 1)]
    keeping = replace(KEEPING, keep=100)
    gone = set(snapshot.surplus(kept, keeping, (), NOW))
    left = [one for one in kept if one.manifest.id not in gone]
    changes = sum(one != other for one, other in pairwise(digests)) + 1
    assert len(left) <= 2 * changes
    for one in kept:
        found = moments.find(left, datetime.fromtimestamp(one.manifest.taken_at, UTC).isoformat(), NOW, "notes")
        assert found.manifest.digest == one.manifest.digest


proofs = st.none() | st.builds(
    Proof, st.floats(NOW - 3 * DAY_S, NOW + DAY_S), st.just(1.0), st.sampled_from(["", "damaged"])
)
pins = st.none() | st.builds(Pin, st.none() | st.floats(NOW - DAY_S, NOW + DAY_S), st.just("kept"))


@st.composite
def histories(draw: st.DrawFn) -> list[Kept]:
    """Any snapshots, with any that is known of them."""
    numbers = draw(st.lists(st.integers(1, 60), unique=True, max_size=15))
    return [
        replace(
            taken(number, draw(st.floats(0.0, 3 * DAY_S)), draw(st.integers(1, 3))),
            pin=draw(pins),
            proof=draw(proofs),
            marks=draw(st.sampled_from([(), ("good",)])),
        )
        for number in numbers
    ]


@given(histories(), st.integers(1, 10), st.sets(st.integers(1, 60), max_size=3))
def test_nothing_that_somebody_relies_on_may_go_and_nothing_else_is_kept_for_ever(
    kept: list[Kept], keep: int, used: set[int]
) -> None:
    keeping = replace(KEEPING, keep=keep)
    in_use = ids(*used)
    gone = set(snapshot.surplus(kept, keeping, in_use, NOW))
    left = [one for one in kept if one.manifest.id not in gone]
    for one in kept:
        pinned = one.pin is not None and (one.pin.until is None or one.pin.until > NOW)
        if pinned or one.marks or one.manifest.id in in_use:
            assert one in left
    if kept:
        assert max(kept, key=lambda one: one.manifest.taken_at).manifest.taken_at == max(
            one.manifest.taken_at for one in left
        )
        assert max(one.manifest.id for one in kept) == max(one.manifest.id for one in left)
    sound = [one for one in kept if one.proof is not None and not one.proof.problem]
    assert not sound or any(one in left for one in sound)
    # It settles: deciding again lets nothing more go, and at most the two newest are kept beside `keep`.
    assert snapshot.surplus(left, keeping, in_use, NOW) == []
    ordinary = [one for one in left if not (one.marks or one.pin or one.proof or one.manifest.id in in_use)]
    assert len(ordinary) <= keep + 2


@pytest.mark.parametrize(
    ("kept", "chosen"),
    [
        ([], None),
        ([taken(1)], "s-0001"),
        ([taken(1), taken(2)], "s-0002"),
        ([proven(taken(1), 100.0), taken(2)], None),
        ([proven(taken(1), 0.95 * DAY_S), taken(2)], "s-0002"),
        ([proven(taken(1), 0.89 * DAY_S), taken(2)], None),
        ([proven(taken(1), 2 * DAY_S)], "s-0001"),
        # A new history needs a proof of its own.
        ([proven(taken(1), 100.0), taken(2, data_epoch=2)], "s-0002"),
        ([taken(1), proven(taken(2, data_epoch=2), 100.0)], None),
        # A failed proof: others are tried, an hour apart.
        ([taken(1), taken(2), proven(taken(3), 100.0, "damaged")], None),
        ([taken(1), taken(2), proven(taken(3), 3700.0, "damaged")], "s-0002"),
        ([taken(1), proven(taken(2), 3700.0), proven(taken(3), 7300.0, "damaged")], None),
        ([proven(taken(1), 3700.0, "damaged")], "s-0001"),
        ([proven(taken(1), 2 * DAY_S), proven(taken(2), DAY_S, "damaged")], "s-0001"),
        # A proof from the future: the clock was set back.
        ([proven(taken(1), -DAY_S), taken(2)], "s-0002"),
    ],
)
def test_the_newest_snapshot_is_proven_before_the_last_proof_is_too_old(kept: list[Kept], chosen: str | None) -> None:
    assert snapshot.drill(kept, KEEPING, NOW) == chosen


@given(histories())
def test_a_sound_proof_of_what_is_to_be_proven_is_enough_for_a_day(kept: list[Kept]) -> None:
    chosen = snapshot.drill(kept, KEEPING, NOW)
    after = [proven(one, 0.0) if one.manifest.id == chosen else one for one in kept]
    if chosen is not None:
        assert snapshot.drill(after, KEEPING, NOW) is None
        assert snapshot.drill(after, KEEPING, NOW + 0.89 * DAY_S) is None or any(
            one.proof and one.proof.at > NOW for one in kept
        )
    if kept:
        newest_proof = max((one.proof.at for one in after if one.proof), default=NOW)
        assert snapshot.drill(after, KEEPING, max(NOW, newest_proof) + DAY_S) is not None


def sized(kept: Kept, size_bytes: int) -> Kept:
    return replace(kept, manifest=replace(kept.manifest, size_bytes=size_bytes))


@pytest.mark.parametrize(
    ("proven_bytes", "newest_bytes", "due"),
    [
        (0, 200_000, False),  # both small
        (0, 300_000, True),
        (1_000_000, 4_000_000, False),
        (1_000_000, 4_000_001, True),
        (1_000_000, 0, False),
    ],
)
def test_a_proof_of_a_state_that_was_far_smaller_is_not_enough(proven_bytes: int, newest_bytes: int, due: bool) -> None:
    kept = [proven(sized(taken(1), proven_bytes), 60.0), sized(taken(2), newest_bytes)]
    assert (snapshot.drill(kept, KEEPING, NOW) == "s-0002") is due
    assert snapshot.drill([kept[0], proven(kept[1], 1.0)], KEEPING, NOW) is None
    assert snapshot.drill([kept[0], proven(kept[1], 1.0, "it is damaged")], KEEPING, NOW) is None
