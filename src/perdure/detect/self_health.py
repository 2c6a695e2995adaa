"""Evidence about the monitor itself (class E0): could it see at all?

A monitor that was stopped (SIGSTOP, a frozen VM, no CPU) finds all deadlines passed when it wakes up, and condemns
everybody. So it notes an instant ten times a second; a gap between two notes is a pause of its own. Twice a second it
asks itself over the same loopback as it asks the replicas: a late answer is a pause as well, though the clock went on.
Observations that span a pause are void, and every open silence is shifted by its length. There is no blind window
afterwards: the next observation counts again.

A question that the daemon cannot ask, for it has no descriptor left, is no pause: there is no answer to be late, and
what else is seen (HAProxy's log, the kernel, heartbeats) counts as ever.
"""

import math
from dataclasses import dataclass

TICK_S = 0.1
PAUSE_S = 0.3
"""A gap this long between two notes is a pause: three ticks."""
ECHO_EVERY_S = 0.5
ECHO_TIMEOUT_S = 1.0
KEPT = 8
ASKS_AGAIN_S = 10.0
"""Whoever has no descriptors gets one now and then: only after so long without a failure it can ask again."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The monitor did not run from `start_at` to `end_at`."""

    start_at: float
    end_at: float

    @property
    def length_s(self) -> float:
        """How long it lasted."""
        return self.end_at - self.start_at


@dataclass(frozen=True, slots=True)
class Wakefulness:
    """When the monitor last noted that it runs, and its latest pauses, oldest first."""

    noted_at: float
    pauses: tuple[Pause, ...] = ()


@dataclass(frozen=True, slots=True)
class Hindrance:
    """That the monitor cannot ask, for the daemon lacks what it takes (descriptors, memory, processes)."""

    lasts: bool = False
    last_at: float = -math.inf
    """When a question could not be asked last."""


def hindered(at: float) -> Hindrance:
    """A question could not be asked."""
    return Hindrance(lasts=True, last_at=at)


def asks_again(hindrance: Hindrance, now: float, every_s: float) -> bool:
    """Whether a hindrance is over; `every_s` is the longest interval between two questions of one kind."""
    return hindrance.lasts and now - hindrance.last_at >= max(ASKS_AGAIN_S, 2.0 * every_s)


def note(awake: Wakefulness, now: float) -> tuple[Wakefulness, Pause | None]:
    """Note that the monitor runs at `now`; returns the pause that this ends, if there was one."""
    if now - awake.noted_at < PAUSE_S:
        return Wakefulness(now, awake.pauses), None
    pause = Pause(awake.noted_at, now)
    return Wakefulness(now, (*awake.pauses[-(KEPT - 1) :], pause)), pause


def note_echo(awake: Wakefulness, asked_at: float, answered_at: float, heard: bool) -> tuple[Wakefulness, Pause | None]:
    """Note what came of asking oneself; a late answer, or none, is a pause, unless one is known for that time."""
    if (heard and answered_at - asked_at < PAUSE_S) or spans_pause(awake, asked_at, answered_at):
        return awake, None
    pause = Pause(asked_at, answered_at)
    return Wakefulness(awake.noted_at, (*awake.pauses[-(KEPT - 1) :], pause)), pause


def spans_pause(awake: Wakefulness, start_at: float, end_at: float) -> bool:
    """Whether an observation made between the two instants overlaps a pause, and so is void."""
    return any(pause.start_at < end_at and start_at < pause.end_at for pause in awake.pauses)
