"""Whether `perdure retry` tries again, and when: repeats in time, for any command.

A plain function of what happened so far. A try is given no more time than the deadline leaves, and no try begins
after the deadline; so the whole run is bounded by the deadline. Rejected: to begin a last try that cannot end in
time. `retry_run` acts on it.
"""

from dataclasses import dataclass

from perdure.model import backoff

TIMED_OUT_CODE = 124
CANNOT_RUN_CODES = frozenset({126, 127})


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user allows. `attempts` counts the first try, and None means no limit but the deadline."""

    attempts: int | None = 3
    deadline_s: float | None = None
    timeout_s: float | None = None
    backoff_s: float = 0.2
    backoff_s_max: float = 10.0
    only_on: frozenset[int] | None = None
    """Exit codes that are worth another try; None means all but 0."""
    never_on: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert self.attempts is None or self.attempts >= 1
        assert self.backoff_s <= self.backoff_s_max


@dataclass(frozen=True, slots=True)
class Tried:
    """The tries so far: how many, the last one's exit code, whether it could start, seconds since the first began."""

    attempts: int
    code: int
    elapsed_s: float
    started: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """Try again after `delay_s`, or stop (None); the sentence says why."""

    delay_s: float | None
    sentence: str


def decide(tried: Tried, policy: Policy, jitter: float) -> Decision:
    """Judge the last try; `jitter` is a uniform random number in [0, 1)."""
    if tried.code == 0:
        return Decision(None, "it succeeded")
    if not tried.started:
        return Decision(None, "the command cannot be run at all")
    if tried.code in policy.never_on or (policy.only_on is not None and tried.code not in policy.only_on):
        return Decision(None, f"exit code {tried.code} is not to be retried")
    if policy.attempts is not None and tried.attempts >= policy.attempts:
        return Decision(None, "that was the last try")
    delay_s = backoff.delay_s(tried.attempts, policy.backoff_s, policy.backoff_s_max, jitter)
    if policy.deadline_s is not None and tried.elapsed_s + delay_s >= policy.deadline_s:
        return Decision(None, "the deadline leaves no time for another try")
    return Decision(delay_s, f"next try in {delay_s:.2f} s")


def try_timeout_s(elapsed_s: float, policy: Policy) -> float | None:
    """How long a try that begins now may take; None means for ever."""
    left_s = None if policy.deadline_s is None else max(policy.deadline_s - elapsed_s, 0.0)
    limits = [limit for limit in (policy.timeout_s, left_s) if limit is not None]
    return min(limits, default=None)


def is_surely_last(attempt: int, policy: Policy) -> bool:
    """Whether nothing can follow this try (counted from 1), so that its output may be shown as it comes."""
    return policy.attempts is not None and attempt >= policy.attempts


def codes(text: str) -> frozenset[int]:
    """Read exit codes such as `1,75,100-110`; ValueError for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = int(first), int(last if dash else first)
        if not 0 < low <= high <= 255:
            raise ValueError(f"not exit codes: {part!r}")
        found.update(range(low, high + 1))
    return frozenset(found)
