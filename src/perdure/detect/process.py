"""What the kernel and the declared limits say of a replica (evidence class E1): definitive, no time-out, no statistics.

A process in state T (stopped) or t (traced) runs no instruction, and one in state D (uninterruptible sleep: a disk or a
network file system that does not answer) not even a signal handler. How long it has been so is all there is to judge,
since a pause of two seconds must be forgiven. What counts is how long it was *seen* so, from the first look to the
last, so that a late look is not taken for a long stop. State D convicts one replica alone: when half of them wait, it
is the disk (`scope`). Memory above the limit must be seen twice, because a peak is no leak. An exit is not judged here:
it is a fact, and `control.turn` takes the replica out at once.
"""

from dataclasses import dataclass, replace

from perdure.detect.probe import PAUSE_TOLERATED_S
from perdure.model.evidence import EvidenceClass, Sighted
from perdure.model.verdict import Sign, Verdict

STOPPED_LETTERS = frozenset("Tt")
BLOCKED_LETTER = "D"
BLOCKED_CONVICTS_S = 5.0
"""At every look of five seconds: a busy disk lets a process go on in between."""
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
    blocked_since_at: float | None = None
    blocked_seen_at: float | None = None
    """The same for one that waits inside the kernel, where no signal reaches it."""
    forgiven_s: float = 0.0
    """For how long it was stopped in all, each time for less than convicts."""


def observe(kernel: Kernel, sighted: Sighted, memory_limit_bytes: int | None) -> Kernel:
    """Add one look at the process."""
    stopped, blocked = sighted.letter in STOPPED_LETTERS, sighted.letter == BLOCKED_LETTER
    since_at = _since(kernel.stopped_since_at, sighted)
    resumed_s = sighted.at - since_at if kernel.stopped_since_at is not None and not stopped else 0.0
    seen = replace(
        kernel,
        stopped_since_at=since_at if stopped else None,
        stopped_seen_at=sighted.at if stopped else None,
        forgiven_s=kernel.forgiven_s + resumed_s,
        blocked_since_at=_since(kernel.blocked_since_at, sighted) if blocked else None,
        blocked_seen_at=sighted.at if blocked else None,
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
    if blocked_s(kernel) >= BLOCKED_CONVICTS_S:
        return Verdict(
            EvidenceClass.PROCESS,
            Sign.BLOCKED,
            f"its process has waited inside the kernel (state D) for {blocked_s(kernel):.1f} s",
            facts={"blocked_s": round(blocked_s(kernel), 3)},
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


def blocked_s(kernel: Kernel) -> float:
    """For how long the process was seen to wait inside the kernel; 0 while it does not."""
    if kernel.blocked_since_at is None or kernel.blocked_seen_at is None:
        return 0.0
    return max(0.0, kernel.blocked_seen_at - kernel.blocked_since_at)


def shifted(kernel: Kernel, pause_s: float) -> Kernel:
    """The same when the monitor itself did not look for `pause_s`."""
    stopped_at, blocked_at = kernel.stopped_since_at, kernel.blocked_since_at
    return replace(
        kernel,
        stopped_since_at=stopped_at + pause_s if stopped_at is not None else None,
        blocked_since_at=blocked_at + pause_s if blocked_at is not None else None,
    )


def _since(before: float | None, sighted: Sighted) -> float:
    return before if before is not None else sighted.at
