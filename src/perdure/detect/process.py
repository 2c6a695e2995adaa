"""What the kernel and the declared limits say of a replica (evidence class E1): definitive, no time-out, no statistics.

A process in state T (stopped) or t (traced) runs no instruction; how long it has been so is all there is to judge,
since a pause of two seconds must be forgiven. What counts is how long it was *seen* so, from the first look to the
last, so that a late look is not taken for a long stop. Memory above the limit must be seen twice, because a peak is
no leak. An exit is not judged here: it is a fact, and `control.turn` takes the replica out at once.
"""

from dataclasses import dataclass, replace

from perdure.detect.probe import PAUSE_TOLERATED_S
from perdure.model.evidence import EvidenceClass, Sighted
from perdure.model.verdict import Sign, Verdict

STOPPED_LETTERS = frozenset("Tt")
STOPPED_CONVICTS_S = PAUSE_TOLERATED_S
MEMORY_SIGHTS = 2


@dataclass(frozen=True, slots=True)
class Kernel:
    """Since when the process has been stopped (None: it is not) and when it was last seen so, and how often in a row it
    held too much memory.
    """

    stopped_since_at: float | None = None
    stopped_seen_at: float | None = None
    memory_bytes: int | None = None
    memory_over: int = 0
    forgiven_s: float = 0.0
    """For how long it was stopped in all, each time for less than convicts."""


def observe(kernel: Kernel, sighted: Sighted, memory_limit_bytes: int | None) -> Kernel:
    """Add one look at the process."""
    stopped = sighted.letter in STOPPED_LETTERS
    since_at = kernel.stopped_since_at if kernel.stopped_since_at is not None else sighted.at
    resumed_s = sighted.at - since_at if kernel.stopped_since_at is not None and not stopped else 0.0
    seen = replace(
        kernel,
        stopped_since_at=since_at if stopped else None,
        stopped_seen_at=sighted.at if stopped else None,
        forgiven_s=kernel.forgiven_s + resumed_s,
    )
    if sighted.group_memory_bytes is None or memory_limit_bytes is None:
        return seen
    over = kernel.memory_over + 1 if sighted.group_memory_bytes > memory_limit_bytes else 0
    return replace(seen, memory_bytes=sighted.group_memory_bytes, memory_over=over)


def judge(kernel: Kernel, memory_limit_bytes: int | None) -> Verdict | None:
    """Convict a process that is stopped for too long, or a group that is over its memory limit."""
    if stopped_s(kernel) >= STOPPED_CONVICTS_S:
        return Verdict(
            EvidenceClass.PROCESS,
            Sign.STOPPED,
            f"its process has been stopped (state T) for {stopped_s(kernel):.1f} s",
            facts={"stopped_s": round(stopped_s(kernel), 3)},
        )
    if memory_limit_bytes is not None and kernel.memory_over >= MEMORY_SIGHTS:
        held_mb, limit_mb = (kernel.memory_bytes or 0) / 1e6, memory_limit_bytes / 1e6
        return Verdict(
            EvidenceClass.LIMIT,
            Sign.MEMORY,
            f"its processes hold {held_mb:.0f} MB of memory, {limit_mb:.0f} MB are allowed",
            facts={"memory_bytes": kernel.memory_bytes, "limit_bytes": memory_limit_bytes},
        )
    return None


def stopped_s(kernel: Kernel) -> float:
    """For how long the process was seen to be stopped; 0 while it runs."""
    if kernel.stopped_since_at is None or kernel.stopped_seen_at is None:
        return 0.0
    return max(0.0, kernel.stopped_seen_at - kernel.stopped_since_at)
