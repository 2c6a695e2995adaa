"""Markers that Perdure sets by itself: the newest snapshot of a service that has been healthy for a while gets a name.

A marker names a point to go back to, and is kept as long as it has its name. People mark what they know of (before an
import, a migration); nobody marks the ordinary afternoon before the fault, which is what is wanted afterwards.

Intuition: an hour without a suspicion, a restart or a takeover is long enough to have seen what fails soon after a
start: back-offs have ended, caches are full, a leak or a poisoned queue has shown. It is short enough that a healthy
day has many. The next hour begins with the marker, so there is at most one an hour, whatever clocks do. Only the newest
few are kept: each one keeps a whole snapshot from being removed.

Hard cases: the snapshot must be of that hour, else it says nothing about it (`every` may be a day), and when the last
proof failed, none is known to be good. After going back,
markers of the history that was left count with the others, and are forgotten in the same order. Damage that no check
sees outlives all of them; that is what `perdure mark` and a larger `keep` are for.
Rejected: telling by the name's time which marker is the oldest: wall clocks step, numbers of snapshots only grow.
Neighbours: `control.markers` asks and does it, `snapshot` keeps what is marked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.model.snapshot import Kept, Manifest
from perdure.prevent import snapshot

SETTLED_S = 3600.0
"""So long must all have been well."""
AUTOMATIC_MAX = 3
_NAME = re.compile(r"healthy-\d{8}-\d{4}")


@dataclass(frozen=True, slots=True)
class Marking:
    """What is to change: the snapshot that gets a marker, and the names of those that go."""

    add: str | None = None
    forget: tuple[str, ...] = ()


def decide(kept: Sequence[Kept], newest: Manifest | None, settled_s: float, now: float) -> Marking:
    """What to mark. `newest`: of the present history; `settled_s`: for how long all has been well, and nothing was
    marked; `now`: Unix time."""
    if newest is None or settled_s < SETTLED_S or newest.taken_at < now - settled_s or _fails(kept, newest):
        return Marking()
    ours = [
        name
        for one in sorted(kept, key=lambda one: snapshot.number(one.manifest.id))
        for name in one.marks
        if automatic(name) and one.manifest.id != newest.id
    ]
    return Marking(newest.id, tuple(ours[: max(0, len(ours) + 1 - AUTOMATIC_MAX)]))


def automatic(name: str) -> bool:
    """Whether a marker has a name of the form that only Perdure gives: `healthy-20261125-1405`."""
    return _NAME.fullmatch(name) is not None


def _fails(kept: Sequence[Kept], newest: Manifest) -> bool:
    """Whether the last proof of its history failed: then this one may not restore either."""
    proofs = [one.proof for one in kept if one.proof is not None and one.manifest.data_epoch == newest.data_epoch]
    return bool(proofs) and bool(max(proofs, key=lambda proof: proof.at).problem)
