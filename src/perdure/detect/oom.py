"""Whether the kernel has killed for memory just now: a replica that ended by SIGKILL then may have been its choice.

The kernel only counts such kills, of the whole host, since it started. So the count is looked at every two seconds, and
when somebody ends by SIGKILL: what was counted before the last look says nothing of that end. All that end within the
next two seconds may have been chosen, for the kernel may choose several at once, and who holds much needs some time to
let go of it. Rejected: its log names who was chosen, but on many hosts root alone may read it.
"""

import math
from dataclasses import dataclass

JUST_NOW_S = 2.0


@dataclass(frozen=True, slots=True)
class Kills:
    """The count at the last look, None before the first one; and when it was last seen to have grown."""

    count: int | None = None
    grew_at: float = -math.inf


def observe(before: Kills, count: int, at: float) -> Kills:
    """Add one look."""
    grew = before.count is not None and count > before.count
    return Kills(count, at if grew else before.grew_at)


def just_now(kills: Kills, at: float) -> bool:
    """Whether what ends at this instant may have been killed for memory."""
    return at - kills.grew_at < JUST_NOW_S
