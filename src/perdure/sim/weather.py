"""The weather of a simulated day: what a service is like, how many requests come when, and what disturbs it.

Everything here is drawn from one seed and then only read. The ranges are those of small teams' services: 0.2 to 50
requests a second for each replica, ten times as many at the best hour as at the worst, endpoints with response times
and popularities of their own, clients that come in bursts and whose bad requests come in runs. A `Spell` is a
disturbance of the catalogue; nothing of it is the fault of a replica. Neighbours: `crowd` makes requests of it, `days`
lets a day pass.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from random import Random

NAME = "web"
"""The one service of a day."""
DAY_S = 86_400.0
WORDS = ("orders", "search", "pay", "items", "users", "export")
REFUSALS = (400, 401, 404, 422)
FAILURES = (500, 500, 503, 504)
PEAK_TO_TROUGH = 10.0
SLOWEST_S = 1.5
"""99 % of the answers come sooner, at any endpoint."""
Z_99 = 2.326


class Kind(StrEnum):
    """What a spell is; the numbers are those of the catalogue of disturbances."""

    MONITOR = "B1"  # the monitor itself does not run, for up to 10 s
    PAUSE = "B5"  # one replica does not run, for 1 to 2 s
    LOAD = "B6"  # five times the requests, and everything is slower
    BAD = "B10"  # clients send requests that every replica answers with the same error
    SINGLE = "B11"  # one error, to a client or to the monitor
    QUIET = "B12"  # hardly a request for hours, and of those many fail
    SLOW = "B14"  # everything takes 1.5 times as long
    DEPENDENCY = "dependency"  # what the replicas depend on is slow, at one endpoint or at all
    CROWD = "crowd"  # five times the requests, for some minutes


@dataclass(frozen=True, slots=True)
class Spell:
    """One disturbance; `strength` and `choice` (in [0, 1)) mean what its kind says."""

    kind: Kind
    at: float
    until_at: float
    number: int = 0
    """The slot that it befalls; 0: all."""
    strength: float = 1.0
    choice: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """One endpoint: where it is, how often it is asked, and its log-normal response times."""

    path: str
    method: str
    popularity: float
    """Share of the requests."""
    median_s: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Climate:
    """What a service is like all day; rates are requests a second, shares are of requests."""

    replicas: int
    peak_rate: float
    """For each replica, at the best hour."""
    steepness: float
    best_at: float
    """The second of the day with the most requests."""
    burstiness: float
    """Shape of the gamma distribution of the rate around its mean; small is bursty."""
    visit_requests: float
    """Requests that one client sends at once, on average."""
    places: tuple[Place, ...]
    refused_share: float
    failed_share: float
    refused_run: float
    failed_run: float
    """Requests that one client sends one after the other and that are all refused, or all fail, on average."""
    speeds: tuple[float, ...]
    """How much longer than its peers each replica takes: no two machines or caches are quite alike."""
    probe_s: float
    """Median time of an answer to the monitor."""
    beat_every_s: float | None
    memory_bytes: int | None

    def rate(self, at: float) -> float:
        """Requests a second for the whole service at this instant, on average."""
        wave = math.pow(0.5 + 0.5 * math.cos((at - self.best_at) / DAY_S * math.tau), self.steepness)
        return self.replicas * self.peak_rate * (1.0 + (PEAK_TO_TROUGH - 1.0) * wave) / PEAK_TO_TROUGH


@dataclass(frozen=True, slots=True)
class Weather:
    """One day of one service."""

    seed: int
    climate: Climate
    spells: tuple[Spell, ...]


def drawn(seed: int, length_s: float = DAY_S) -> Weather:
    """The day of a seed."""
    random = Random(seed)
    made = climate(random)
    return Weather(seed, made, spells(random, made.replicas, length_s))


def climate(random: Random) -> Climate:
    """What a service is like."""
    replicas = random.randint(2, 6)
    return Climate(
        replicas,
        peak_rate=log_uniform(random, 2.0, 50.0),
        steepness=random.uniform(1.0, 5.0),
        best_at=random.uniform(0.0, DAY_S),
        burstiness=log_uniform(random, 1.0, 20.0),
        visit_requests=random.uniform(1.0, 4.0),
        places=_places(random),
        refused_share=random.uniform(0.0, 0.03),
        failed_share=random.uniform(0.0, 0.002),
        refused_run=random.uniform(1.0, 8.0),
        failed_run=random.uniform(1.0, 2.5),
        speeds=tuple(random.uniform(0.9, 1.15) for _ in range(replicas)),
        probe_s=log_uniform(random, 0.001, 0.02),
        beat_every_s=random.choice((1.0, 5.0, 10.0)) if random.random() < 0.25 else None,
        memory_bytes=512_000_000 if random.random() < 0.25 else None,
    )


def _places(random: Random) -> tuple[Place, ...]:
    count = random.randint(2, 6)
    weights = [1.0 / (rank + 1.0) ** random.uniform(0.8, 2.0) for rank in range(count)]
    return tuple(_place(random, rank, weight / sum(weights)) for rank, weight in enumerate(weights))


def _place(random: Random, rank: int, popularity: float) -> Place:
    sigma = random.uniform(0.3, 1.2)
    median_s = log_uniform(random, 0.003, min(0.3, SLOWEST_S / math.exp(Z_99 * sigma)))
    return Place(f"/{WORDS[rank]}", "GET" if random.random() < 0.7 else "POST", popularity, median_s, sigma)


def spells(random: Random, replicas: int, length_s: float) -> tuple[Spell, ...]:
    """What disturbs a service of so many replicas within `length_s`, in order of their beginnings."""
    found: list[Spell] = []

    def add(kind: Kind, a_day: float, lasts_s: tuple[float, float], strength: tuple[float, float] = (1.0, 1.0)) -> None:
        at = random.expovariate(a_day / DAY_S)
        while at < length_s:
            until_at = min(length_s, at + log_uniform(random, *lasts_s))
            number = random.randint(1, replicas)
            found.append(Spell(kind, at, until_at, number, log_uniform(random, *strength), random.random()))
            at += random.expovariate(a_day / DAY_S)

    add(Kind.MONITOR, 4.0, (0.15, 10.0))
    add(Kind.PAUSE, 3.0 * replicas, (1.0, 2.0))
    add(Kind.LOAD, 2.0, (20.0, 300.0), (1.5, 5.0))
    add(Kind.BAD, 5.0, (1.0, 120.0), (0.2, 20.0))
    add(Kind.SINGLE, 8.0, (0.1, 0.1))
    add(Kind.QUIET, 0.7, (1800.0, 10_800.0), (20.0, 300.0))
    add(Kind.SLOW, 2.0, (300.0, 1200.0), (1.5, 1.5))
    add(Kind.DEPENDENCY, 3.0, (10.0, 300.0), (3.0, 20.0))
    add(Kind.CROWD, 2.0, (120.0, 600.0), (3.0, 8.0))
    return tuple(sorted(found, key=lambda spell: spell.at))


def log_uniform(random: Random, low: float, high: float) -> float:
    """A number between the two, as likely in each doubling."""
    return low * math.pow(high / low, random.random())
