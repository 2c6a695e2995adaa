"""When a snapshot is taken, which are kept, and which one is proven: a copy that nobody ever restored is only a hope.

Three questions, each a function. `due`: snapshots never overlap, and one that takes long is followed by a rest as long
as itself, so that copying never takes more than half of the time. `surplus`: the newest are kept, beside those that
somebody relies on: pinned, marked, in use, and the last one that is known to restore; those of a time in which nothing
changed are not counted, so that `keep` is a number of changes. `drill`: the newest snapshot is
restored aside before the last proof is too old, or of a state that was far smaller: the first one is often empty. A
history that was begun by going back needs a proof of its own, and after a failed one others are tried, an hour apart,
until one is known that restores.

Hard case: wall clocks step. What was taken last is known by its number, too, and a proof from the future is none.
Rejected: keeping hourly, daily and weekly ones; a marker says better what somebody may want to go back to.
Neighbours: `control` asks, `ports.keeper` does it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from perdure.model import backoff
from perdure.model.snapshot import Keeping, Kept

ASIDE = "what a slot held that was not the owner's"
"""Why such a snapshot is pinned: it is in no line with the others."""
RETRY_S = 5.0
RETRY_S_MAX = 300.0
DRILL_MARGIN = 0.9
"""Of the time after which there must be a proof: a restore takes a while, and so does a daemon that was down."""
DRILL_RETRIES = 24
"""A failed proof is followed by the next one after this part of the same time: an hour of a day."""

GROWN = 4
"""A proof says little of a state that has so many times the size, nor does the time that it took."""
GROWN_BYTES_MIN = 65_536
"""Smaller ones count as this."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time that a snapshot was taken, in seconds of the monotonic clock."""

    began_at: float
    ended_at: float | None
    """None: it is still being taken."""
    failures: int = 0
    """In a row, up to this one; 0: it succeeded."""


def due(last: Attempt | None, every_s: float, jitter: float) -> float | None:
    """From when on the next snapshot is to be taken (monotonic); None while one is being taken. `jitter`: see
    `model.backoff`."""
    if last is None:
        return float("-inf")
    if last.ended_at is None:
        return None
    rested_at = last.ended_at + (last.ended_at - last.began_at)
    if last.failures == 0:
        return max(last.began_at + every_s, rested_at)
    delay_s = backoff.delay_s(last.failures, min(RETRY_S, every_s), RETRY_S_MAX, jitter)
    return max(last.ended_at + delay_s, rested_at)


def surplus(kept: Sequence[Kept], keeping: Keeping, in_use: Collection[str], now: float) -> list[str]:
    """Ids of the snapshots that may go, the oldest first: all but the newest `keep` of those that nobody relies on, and
    those of a time in which nothing changed. `in_use`: ids that are being restored, compared or applied, and those that
    a replica was brought to. `now`: Unix time."""
    relied_on = {*in_use, *_last_proven(kept)}
    unchanged = _unchanged(kept) - newest(kept)
    ordinary = [
        one.manifest.id
        for one in sorted(kept, key=_age)
        if one.manifest.id not in relied_on and not one.marks and not pinned(one, now)
    ]
    differing = [id_ for id_ in ordinary if id_ not in unchanged]
    spare = {*differing[: max(0, len(differing) - keeping.keep)], *unchanged} - newest(kept)
    return [id_ for id_ in ordinary if id_ in spare]


def _unchanged(kept: Sequence[Kept]) -> set[str]:
    """Those that hold what the one before and the one after hold, too: whatever moment somebody goes back to, one of
    these has its state as well."""
    ordered = [one.manifest for one in sorted(kept, key=_age)]
    threes = zip(ordered, ordered[1:], ordered[2:], strict=False)
    return {one.id for before, one, after in threes if before.digest == one.digest == after.digest}


def aside(kept: Kept) -> bool:
    """Whether it is of a slot that was not the owner's when it was taken."""
    return kept.pin is not None and kept.pin.why == ASIDE


def newest(kept: Sequence[Kept]) -> set[str]:
    """The newest snapshot: one, or two when the clock was set back meanwhile."""
    if not kept:
        return set()
    by_time = max(kept, key=_age)
    by_number = max(kept, key=lambda one: number(one.manifest.id))
    return {by_time.manifest.id, by_number.manifest.id}


def pinned(one: Kept, now: float) -> bool:
    """Whether it is kept because of a pin. `now`: Unix time."""
    return one.pin is not None and (one.pin.until is None or one.pin.until > now)


def drill(kept: Sequence[Kept], keeping: Keeping, now: float) -> str | None:
    """The snapshot that should be proven now; None: none yet. `now`: Unix time."""
    if not kept:
        return None
    data_epoch = max(one.manifest.data_epoch for one in kept)
    history = sorted((one for one in kept if one.manifest.data_epoch == data_epoch), key=_age, reverse=True)
    proofs = [one.proof for one in history if one.proof is not None and one.proof.at <= now]
    proven_at = max((proof.at for proof in proofs if not proof.problem), default=None)
    failed_at = max((proof.at for proof in proofs if proof.problem), default=None)
    if proven_at is not None and now < proven_at + DRILL_MARGIN * keeping.drill_every_s and not _outgrown(history):
        return None
    if failed_at is not None and now < failed_at + keeping.drill_every_s / DRILL_RETRIES:
        return None
    untried = [one for one in history if one.proof is None]
    sound = [one for one in history if one.proof is not None and not one.proof.problem]
    return [*untried, *sound, *history][0].manifest.id


def _outgrown(history: Sequence[Kept]) -> bool:
    """Whether the newest is far larger than all that are known to restore. `history`: the newest first."""
    proven = (one.manifest.size_bytes for one in history if one.proof is not None and not one.proof.problem)
    return history[0].manifest.size_bytes > GROWN * max(GROWN_BYTES_MIN, *proven, 0)


def _last_proven(kept: Sequence[Kept]) -> set[str]:
    """Of those that are known to restore the newest, and the one that was proven last."""
    proven = [(one.proof.at, one) for one in kept if one.proof is not None and not one.proof.problem]
    if not proven:
        return set()
    last = max(proven, key=lambda pair: (pair[0], _age(pair[1])))[1]
    return {last.manifest.id, max((one for _, one in proven), key=_age).manifest.id}


def _age(one: Kept) -> tuple[float, int]:
    """Sorts the oldest first."""
    return one.manifest.taken_at, number(one.manifest.id)


def number(snapshot: str) -> int:
    """193 of `s-0193`: those that were taken later have higher ones."""
    return int(snapshot.removeprefix("s-"))
