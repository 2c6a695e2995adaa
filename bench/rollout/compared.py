"""The rows of the rollout bench: what the trials show, and the rivals' rules on streams with the same rates."""

import random
from collections.abc import Iterator, Sequence

from bench import tally
from bench.rollout import rivals as rules
from bench.rollout.cases import BACKGROUND, Case
from bench.rollout.trial import Trial

STREAM_S = 3_600.0


def row(case: Case, trials: Sequence[Trial]) -> tuple[str, ...]:
    """One case."""
    wanted = ("rolled back",) if case.bad else ("watching", "done")
    right = sum(one.phase in wanted for one in trials)
    return (
        case.name,
        f"{right} of {len(trials)}",
        _figures([one.failed for one in trials], 0),
        _figures([one.verdict_s for one in trials if one.verdict_s is not None], 1),
        _figures([one.off_s for one in trials if one.off_s is not None], 2),
        _figures([one.gone_s for one in trials if one.gone_s is not None], 1),
    )


def rivals(case: Case, streams: int) -> list[tuple[str, ...]]:
    """The documented rules of others for a release that fails this share of its requests."""
    assert case.share is not None
    rows = []
    for name, play in (("Flagger", rules.flagger), ("Argo Rollouts", rules.argo)):
        found = [play(_stream(seed, case.rate, case.share)) for seed in range(streams)]
        back = [one for one in found if one.rolled_back_at is not None]
        rows.append(
            (
                f"{name}: {case.name}",
                f"{len(back)} of {len(found)}",
                _figures([float(one.failed_new) for one in found], 0),
                _figures([one.rolled_back_at for one in back if one.rolled_back_at is not None], 0),
                "",
                "",
            )
        )
    return rows


def _stream(seed: int, rate: float, share: float) -> Iterator[rules.Request]:
    rng = random.Random(f"rollout {seed}")
    for number in range(int(rate * STREAM_S)):
        yield rules.Request(number / rate, rng.random(), rng.random() < share, rng.random() < BACKGROUND)


def _figures(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{tally.quantile(ordered, 0.5):,.{digits}f} / {ordered[-1]:,.{digits}f}"
