"""What came of the requests of a load: samples, counts and quantiles, as values that tests and reports read.

`load` fills a `Tally` while it runs; a `Result` is its summary, and travels as JSON between processes.
"""

import dataclasses
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

OK = "ok"
FAILURES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished request. `due_at` is the monotonic instant at which it was to be sent; latency counts from it."""

    number: int
    due_at: float
    latency_s: float
    outcome: str
    kind: int
    """Index of its kind in the mix of the plan."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request and why; the first 1,000 are kept."""

    number: int
    due_at: float
    latency_s: float
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True)
class Result:
    """Counts and quantiles of a load. Quantiles are over all finished requests, failed ones too."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    unfinished: int = 0
    resent: int = 0
    """Sent once more because the connection closed without any response byte; in `sent` the request counts once."""
    resent_fresh: int = 0
    """Those of `resent` whose first connection was new: browsers resend only on connections that were used before."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0
    late_s_max: float = 0.0
    """The longest that the generator itself was behind its schedule: large values make the others doubtful."""
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    failures: tuple[Failure, ...] = ()

    def sentence(self) -> str:
        """One line for a person: `0 of 15,000 requests failed`, and why where some did."""
        reasons = ", ".join(f"{count} {name}" for name, count in self.outcomes.items() if name != OK)
        resent = f", {self.resent} sent once more" if self.resent else ""
        return (
            f"{self.failed:,} of {self.sent:,} requests failed{f' ({reasons})' if reasons else ''}{resent}; "
            f"p50 {self.p50_s * 1e3:.2f} ms, p99 {self.p99_s * 1e3:.2f} ms, max {self.max_s * 1e3:.0f} ms"
        )

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json` can write and `from_json` can read."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Result":
        """The inverse of `to_json`; other keys are left aside."""
        names = {f.name for f in dataclasses.fields(cls)}
        known = {key: item for key, item in value.items() if key in names}
        known["failures"] = tuple(Failure(**failure) for failure in known.get("failures", ()))
        return cls(**known)


class Tally:
    """Collects samples in little memory (some 30 bytes each)."""

    def __init__(self) -> None:
        self.sent = 0
        self.resent = 0
        self.resent_fresh = 0
        self.late_s_max = 0.0
        self.outcomes: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self._numbers = array("q")
        self._due_at = array("d")
        self._latency_s = array("d")
        self._outcome = array("H")
        self._kind = array("H")
        self._names: dict[str, int] = {}

    def add(self, sample: Sample, detail: str = "") -> None:
        """Note a finished request."""
        self.outcomes[sample.outcome] += 1
        self._numbers.append(sample.number)
        self._due_at.append(sample.due_at)
        self._latency_s.append(sample.latency_s)
        self._outcome.append(self._names.setdefault(sample.outcome, len(self._names)))
        self._kind.append(sample.kind)
        if sample.outcome != OK and len(self.failures) < FAILURES_KEPT:
            self.failures.append(Failure(sample.number, sample.due_at, sample.latency_s, sample.outcome, detail))

    def samples(self) -> Iterator[Sample]:
        """All finished requests, in the order in which they finished."""
        names = list(self._names)
        columns = zip(self._numbers, self._due_at, self._latency_s, self._outcome, self._kind, strict=True)
        for number, due_at, latency_s, outcome, kind in columns:
            yield Sample(number, due_at, latency_s, names[outcome], kind)

    def summary(self, elapsed_s: float, cpu_s: float) -> Result:
        """What is known now."""
        finished = len(self._numbers)
        ordered = sorted(self._latency_s)
        return Result(
            sent=self.sent,
            ok=self.outcomes[OK],
            failed=finished - self.outcomes[OK],
            unfinished=self.sent - finished,
            resent=self.resent,
            resent_fresh=self.resent_fresh,
            outcomes=dict(sorted(self.outcomes.items())),
            p50_s=quantile(ordered, 0.5),
            p99_s=quantile(ordered, 0.99),
            max_s=ordered[-1] if ordered else 0.0,
            late_s_max=self.late_s_max,
            elapsed_s=elapsed_s,
            cpu_s=cpu_s,
            failures=tuple(self.failures),
        )


def summarize(samples: Iterable[Sample]) -> Result:
    """The result of some samples alone, such as those of one trial; what belongs to no request (resent, late) is 0."""
    tally = Tally()
    for sample in samples:
        tally.sent += 1
        tally.add(sample)
    return tally.summary(0.0, 0.0)


def quantile(ordered: list[float], share: float) -> float:
    """The nearest-rank quantile of sorted values; 0 for none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * share - 1e-9) - 1)]
