"""Rollouts of good and bad releases on real processes: what they cost clients, and how soon they are over.

Each trial deploys a release that fails in a known way beside a healthy one under a steady load with a background of
errors, and follows it to its end. A bad one should be rolled back, a good one should get everything without a failed
request. The documented rules of Argo Rollouts and Flagger are played on streams with the same rates (`rivals`).
"""

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.processes import BenchError
from bench.report import Report, progress
from bench.rollout import cases, compared, innocent, trial
from bench.rollout.trial import Trial


@dataclass(frozen=True, slots=True)
class Extent:
    """Trials of each case, how many run at once, streams for the rivals, and innocent rollouts that are simulated."""

    trials: int = 20
    stages: int = 2
    streams: int = 100
    innocent: int = 20_000


QUICK = Extent(1, 2, 5, 200)


def run(extent: Extent, directory: Path, only: Sequence[str] = ()) -> Report:
    """All cases and what is simulated, or what is named in full or in part; then the rivals."""
    named = {word for word in only if any(word == case.name for case in cases.CASES)}
    chosen = [
        case
        for case in cases.CASES
        if not only or case.name in named or any(word in case.name for word in only if word not in named)
    ]
    work = [(case, number) for number in range(extent.trials) for case in chosen]
    trials: list[Trial] = []
    errors: list[str] = []

    def one(job: tuple[cases.Case, int]) -> Trial | str:
        case, number = job
        try:
            return asyncio.run(trial.make(case, directory / f"{cases.CASES.index(case)}-{number}"))
        except BenchError as error:
            return f"{case.name}: {error}"

    with ThreadPoolExecutor(extent.stages) as stages:
        for number, found in enumerate(stages.map(one, work), 1):
            if isinstance(found, str):
                errors.append(found)
            else:
                trials.append(found)
            progress("rollout", number, len(work))
    rows = [compared.row(case, [one for one in trials if one.case == case.name]) for case in chosen]
    for case in chosen:
        if case.share is not None:
            rows += compared.rivals(case, extent.streams)
    innocents = [kind for kind in innocent.KINDS if not only or any(word in kind.name for word in only)]
    rows += innocent.rows(innocents, extent.innocent, extent.stages)
    return Report(
        "rollout",
        "Rollouts: what a release costs until it is thrown out",
        ("release", "as it should", "failed requests", "verdict after, s", "traffic off, s", "all of it gone, s"),
        tuple(rows),
        (
            "Median / max. Failed requests: what clients got, without the background of 0.2 %; of a bad release from"
            " its first request on, of all attempts.",
            "Verdict: from the first request that the new release got; the other two from the verdict on.",
            "Flagger, Argo Rollouts: the rules of their documented examples, simulated at the same rates; failed"
            " requests are those of the new release.",
        ),
        {"trials": [asdict(one) for one in trials], "at": time.strftime("%Y-%m-%d")},
        tuple(errors),
    )


def limited(extent: Extent, trials: int | None, stages: int) -> Extent:
    """The same with another number of trials, and so many at once."""
    return dataclasses.replace(extent, trials=extent.trials if trials is None else trials, stages=stages)
