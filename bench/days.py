"""How often is a replica isolated that has nothing wrong? A thousand simulated days of a replica, and some ill ones.

Each chunk is one day of one service with its own seed, so a run is exactly repeatable and splits over processes. What
is real in it and what is drawn says `perdure.sim.days`. That the simulation can convict at all is shown beside it: the
same world with one replica that is really ill, and how long it takes to isolate that one.
"""

import gc
import math
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from bench.report import Report, progress
from perdure.sim import days, weather
from perdure.sim.days import AILMENTS, Outcome, Trial
from perdure.sim.sky import CALM, LINGERS_S
from perdure.sim.weather import Kind

AIM_PER_1000 = 1.0
"""False isolations in 1,000 replica-days, at most."""
CONFIDENCE = 0.95
FIRST_SEED = 1
TOLD_FROM_DAYS = 1.0
"""From fewer replica-days no rate is told."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is simulated; `trials` for each ailment."""

    replica_days: float = 1000.0
    trials: int = 20
    processes: int = 2


QUICK = Extent(20.0, 3)


@dataclass(frozen=True, slots=True)
class Row:
    """What happened under one disturbance."""

    during: str
    replica_days: float
    isolated: int
    restarted: int


def run(extent: Extent) -> Report:
    """Simulate; the rate is reported, and a miss of the aim is marked."""
    seeds = _seeds(extent.replica_days)
    work = [(seed, "") for seed in seeds]
    work += [(seed, ailment) for ailment in AILMENTS for seed in range(FIRST_SEED, FIRST_SEED + extent.trials)]
    outcomes: list[Outcome] = []
    trials: list[Trial] = []
    with multiprocessing.Pool(extent.processes, gc.set_threshold, (50_000, 20, 20)) as pool:
        for number, one in enumerate(pool.imap(_played, work), 1):
            if isinstance(one, Outcome):
                outcomes.append(one)
            else:
                trials.append(one)
            progress("days: chunk", number, len(work))
    return _report(outcomes, trials)


def _seeds(replica_days: float) -> list[int]:
    """As many days as it takes; the number of replicas is the seed's."""
    seeds: list[int] = []
    while replica_days > 0.0:
        seeds.append(FIRST_SEED + len(seeds))
        replica_days -= weather.drawn(seeds[-1]).climate.replicas
    return seeds


def _played(chunk: tuple[int, str]) -> Outcome | Trial:
    seed, ailment = chunk
    if ailment:
        return days.tried(seed, ailment)
    return replace(days.played(weather.drawn(seed)), lines=())


def upper_bound(events: int, confidence: float = CONFIDENCE) -> float:
    """The largest mean of a Poisson distribution that shows so few events with probability 1 - `confidence` (exact,
    one-sided).
    """
    low, high = 0.0, 10.0 + 3.0 * events
    while high - low > 1e-9:
        mean = (low + high) / 2.0
        chance = sum(math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1)) for n in range(events + 1))
        low, high = (mean, high) if chance > 1.0 - confidence else (low, mean)
    return high


def _report(outcomes: Sequence[Outcome], trials: Sequence[Trial]) -> Report:
    rows = list(_rows(outcomes))
    false = [(outcome.seed, found) for outcome in outcomes for found in outcome.found if found.wrong]
    cpu_s = sum(outcome.cpu_s for outcome in outcomes)
    lasted_s = sum(outcome.replicas * outcome.length_s for outcome in outcomes)
    requests = sum(outcome.requests for outcome in outcomes)
    suspected = sum(outcome.suspected for outcome in outcomes) / max(rows[0].replica_days, 1e-9)
    return Report(
        "days",
        "False isolations of healthy replicas in simulated days",
        ("disturbance in force", "replica-days", "false isolations", "per 1,000", "at most (95 %)", "false restarts"),
        tuple(_cells(row) for row in rows),
        (
            f"aim: at most {AIM_PER_1000:g} in 1,000 replica-days: {verdict(rows[0])}.",
            "at most: exact upper bound of a Poisson rate, one-sided. A disturbance counts for 30 s after its end.",
            f"{requests:,} requests; {cpu_s:,.0f} s of CPU, {cpu_s / lasted_s * 1e6:.0f} us for a replica-second;"
            f" {suspected:.0f} suspicions (R03) a replica-day, which change nothing.",
            *(_powered(ailment, [one for one in trials if one.ailment == ailment]) for ailment in AILMENTS),
        ),
        {
            "rows": [asdict(row) for row in rows],
            "false": [{"seed": seed, **asdict(found)} for seed, found in false],
            "trials": [asdict(trial) for trial in trials],
            "days": [
                {"seed": one.seed, "replicas": one.replicas, "requests": one.requests, "digest": one.digest}
                for one in outcomes
            ],
            "cpu_s": cpu_s,
        },
    )


def _rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    every = [found for outcome in outcomes for found in outcome.found if found.wrong]
    for name in ("all", CALM, *(kind.value for kind in Kind)):
        found = [one for one in every if name == "all" or name in one.during.split("+")]
        isolated = sum(one.rule == "R01" for one in found)
        yield Row(name, sum(_lasted(one, name) for one in outcomes), isolated, len(found) - isolated)


def _lasted(outcome: Outcome, name: str) -> float:
    """For how many replica-days something was in force on a day."""
    spells = weather.drawn(outcome.seed).spells
    if name == "all":
        return outcome.replica_days
    chosen = [spell for spell in spells if name in (CALM, spell.kind.value)]
    covered_s = until_at = 0.0
    for spell in chosen:
        end_at = min(outcome.length_s, spell.until_at + LINGERS_S)
        covered_s += max(0.0, end_at - max(spell.at, until_at))
        until_at = max(until_at, end_at)
    share = covered_s / outcome.length_s
    return outcome.replica_days * (1.0 - share if name == CALM else share)


def _cells(row: Row) -> tuple[str, ...]:
    exposed = f"{row.replica_days:,.2f}"
    if row.replica_days < TOLD_FROM_DAYS:
        return (row.during, exposed, str(row.isolated), "-", "-", str(row.restarted))
    per_1000 = 1000.0 / row.replica_days
    rate, bound = row.isolated * per_1000, upper_bound(row.isolated) * per_1000
    return (row.during, exposed, str(row.isolated), f"{rate:,.1f}", f"{bound:,.1f}", str(row.restarted))


def verdict(row: Row) -> str:
    """Whether the aim is met, in words."""
    if row.isolated * 1000.0 > AIM_PER_1000 * row.replica_days:
        return "MISSED"
    sure = upper_bound(row.isolated) * 1000.0 <= AIM_PER_1000 * row.replica_days
    return "met" if sure else "met, but these are too few days to be sure of it"


def _powered(ailment: str, trials: Sequence[Trial]) -> str:
    known = [trial.isolated_s for trial in trials if trial.isolated_s is not None]
    how = f", after {statistics.median(known):.1f} s, at most {max(known):.1f} s" if known else ""
    return f"one replica ill ({ailment}): isolated in {len(known)} of {len(trials)}{how}."
