"""The requests of a simulated day, and what HAProxy would show of them: counters, what is in flight, and its log.

There are no processes and no connections here: each request is one draw of its endpoint, its replica (least
connections, ties by chance), its response time and its status, and so costs a few microseconds. What is kept of
HAProxy's behaviour is what evidence is made of: a status of 503 or 504 is tried on up to three replicas if the method
allows it, every failed request is logged, and of the others a sample. Left out: HAProxy's own checks, weights, and
connection errors, which healthy replicas do not have. Neighbours: `weather` says what comes, `days` reads.
"""

import heapq
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from perdure.adapters.balancer import sample as log_sample
from perdure.model.traffic import Admin, Answered, Backend, Counters, Server
from perdure.sim.weather import FAILURES, REFUSALS, Kind, Spell, Weather

BURST_S = 5.0
"""For so long the rate stays at what was drawn around its mean."""
VISIT_GAP_S = 0.05
RUN_GAP_S = 0.5
"""Mean pauses between the requests of a visit, and between the bad ones of a client."""
LOAD = 5.0
TRIES_MAX = 3
RETRIED = frozenset({502, 503, 504})
TAKES_S_MAX = 25.0
LONG_S = 0.9
"""A request that takes longer makes the monitor ask, and is worth looking at while it lasts."""
CALM_AFTER_S = 1.0
LOGGED_IN_PAUSE = 10
"""Datagrams of the log that the kernel keeps while nobody takes them."""

Arrival = tuple[float, int, int, int]
"""When, at which endpoint, with which status it will be answered, and on how many tries that is so; then it is 200."""
EVERY_TRY = 99


@dataclass(slots=True)
class Tap:
    """One server of HAProxy: its totals, and whether it gets requests."""

    port: int = 0
    open: bool = False
    sessions: int = 0
    requests: int = 0
    responses: int = 0
    responses_5xx: int = 0
    retries: int = 0
    paused_until_at: float = 0.0
    shown: Server | None = None
    """What was read of it last, while nothing has changed."""


@dataclass(frozen=True, slots=True)
class Ill:
    """What is wrong with one replica, in a check that the simulation can convict at all."""

    number: int
    error_share: float = 0.0
    slowness: float = 1.0
    place: int | None = None
    """It errs at this endpoint alone."""


@dataclass(slots=True)
class Crowd:
    """All requests of one service; `advance` lets them pass."""

    name: str
    weather: Weather
    random: Random
    taps: list[Tap]
    ill: Ill | None = None
    in_force: list[Spell] = field(default_factory=list)
    lines: list[Answered] = field(default_factory=list)
    eventful_until_at: float = 0.0
    """Up to here something fails, or just failed, that must be read closely."""
    long_until_at: float = 0.0
    """Up to here a request is open that takes long."""
    probe_slowness: float = 1.0
    """How much longer the monitor's questions take; a health check does not ask the dependency."""
    sent: int = 0
    _arrivals: list[Arrival] = field(default_factory=list)
    """Those of the present second, the next one last."""
    _runs: list[Arrival] = field(default_factory=list)
    """Bad requests that will follow from clients that have sent one."""
    _flights: list[tuple[float, int, int, float, int, int, int, int]] = field(default_factory=list)
    """Heap: end, number, tap, start, endpoint, status, tries left that fail, tries so far."""
    _number: int = 0
    _second: int = 0
    _burst: float = 1.0
    _rate: int = 0
    """Requests in the last second, as HAProxy counts them to thin its log."""
    _slowness: tuple[float, ...] = ()
    _popularity: list[float] = field(default_factory=list)
    _now: float = 0.0

    def __post_init__(self) -> None:
        self._popularity = list(accumulate(place.popularity for place in self.weather.climate.places))
        self.changed()

    def advance(self, until_at: float) -> None:
        """Let all requests come and go that do so up to an instant."""
        flights = self._flights
        while True:
            while self._arrivals:
                at = self._arrivals[-1][0]
                if at > until_at:
                    break
                while flights and flights[0][0] <= at:
                    self._land()
                arrival = self._arrivals.pop()
                self._send(arrival, arrival[0], 0, None)
            while flights and flights[0][0] <= min(until_at, self._second):
                self._land()
            if self._arrivals or self._second > until_at:
                break
            self._draw()
        self._now = until_at

    def changed(self) -> None:
        """A spell began or ended: how slow is each endpoint now? Of several causes the strongest counts."""
        factors = [1.0] * len(self.weather.climate.places)
        self.probe_slowness = 1.0
        for spell in self.in_force:
            if spell.kind in (Kind.LOAD, Kind.SLOW):
                factors = [max(factor, spell.strength) for factor in factors]
                self.probe_slowness = max(self.probe_slowness, spell.strength)
            elif spell.kind is Kind.DEPENDENCY:
                chosen = int(spell.choice * 2.0 * len(factors))  # in half of the cases all endpoints wait for it
                waits = [chosen in (place, *range(len(factors), 2 * len(factors))) for place in range(len(factors))]
                pairs = zip(factors, waits, strict=True)
                factors = [max(factor, spell.strength) if one else factor for factor, one in pairs]
        self._slowness = tuple(factors)

    def pause(self, index: int, at: float, until_at: float) -> None:
        """A replica does not run: what is in flight there comes so much later."""
        self.advance(at)
        self.taps[index].paused_until_at = until_at
        late_s = until_at - at
        self._flights = [
            (flight[0] + late_s, *flight[1:]) if flight[2] == index else flight for flight in self._flights
        ]
        heapq.heapify(self._flights)
        self._eventful(until_at)

    def lose(self, index: int) -> None:
        """The replica is another one: what was in flight is lost, and the counters go on."""
        self._flights = [flight for flight in self._flights if flight[2] != index]
        heapq.heapify(self._flights)
        self.taps[index].sessions, self.taps[index].shown = 0, None

    def takes_s(self, place: int, index: int) -> float:
        """How long a replica takes to answer at an endpoint; drawn anew at each call."""
        where = self.weather.climate.places[place]
        taken_s = where.median_s * math.exp(where.sigma * self.random.gauss(0.0, 1.0))
        taken_s *= self.weather.climate.speeds[index] * self._slowness[place]
        if self.ill is not None and self.ill.number == index + 1:
            taken_s *= self.ill.slowness
        return min(TAKES_S_MAX, taken_s)

    def shown(self) -> Backend:
        """What a reading of HAProxy shows."""
        return Backend(self.name, tuple(tap.shown or self._show(number) for number, tap in enumerate(self.taps)))

    def taken(self) -> tuple[Answered, ...]:
        """The lines of the log since the last call."""
        lines, self.lines = tuple(self.lines), []
        return lines

    @property
    def open(self) -> bool:
        """Whether anything is in flight, or about to come within this second."""
        return bool(self._flights or self._arrivals)

    def _show(self, index: int) -> Server:
        tap = self.taps[index]
        counters = Counters(
            tap.requests, 0, 0, tap.responses_5xx, tap.retries, tap.retries, tap.responses
        )  # a repeated try goes to another server, so it counts as a redispatch, too
        admin = Admin.READY if tap.open else Admin.DRAIN
        tap.shown = Server(f"s{index + 1}", tap.port, admin, True, tap.sessions, 0, counters)
        return tap.shown

    def _draw(self) -> None:
        """Draw everybody who comes in the next second."""
        begin, random, climate = self._second, self.random, self.weather.climate
        self._second += 1
        if begin % BURST_S == 0:
            self._burst = random.gammavariate(climate.burstiness, 1.0 / climate.burstiness)
        rate, bad = self._wanted(begin)
        arrivals: list[Arrival] = []
        gap_s = climate.visit_requests / rate
        at = begin + random.expovariate(1.0) * gap_s
        while at < self._second:
            self._visit(at, bad, arrivals)
            at += random.expovariate(1.0) * gap_s
        for spell in self.in_force:
            if spell.kind is Kind.BAD:
                self._bad_requests(spell, arrivals)
        if self._runs:
            arrivals += [run for run in self._runs if run[0] < self._second]
            self._runs = [run for run in self._runs if run[0] >= self._second]
        if any(arrival[2] >= 500 for arrival in arrivals):
            self._eventful(self._second)
        self._rate = len(arrivals)
        self.sent += len(arrivals)
        arrivals.sort(reverse=True)
        self._arrivals = arrivals

    def _wanted(self, at: float) -> tuple[float, float]:
        """Requests a second, and which share of the visits fails for reasons of the client."""
        climate, crowded = self.weather.climate, 1.0
        rate, bad = climate.rate(at) * self._burst, climate.failed_share * climate.visit_requests
        for spell in self.in_force:
            if spell.kind is Kind.LOAD:
                crowded = max(crowded, LOAD)
            elif spell.kind is Kind.CROWD:
                crowded = max(crowded, spell.strength)
            elif spell.kind is Kind.QUIET:
                rate, bad = 1.0 / spell.strength, 0.3
        return max(rate * crowded, 1e-4), bad

    def _visit(self, at: float, bad: float, arrivals: list[Arrival]) -> None:
        """One client comes, and sends a few requests; some of them badly, and then in a run."""
        random, climate = self.random, self.weather.climate
        chance, failing = random.random(), bad / climate.failed_run
        if chance < failing:
            self._run(at, random.choice(FAILURES), climate.failed_run, arrivals)
            return
        if chance < failing + climate.refused_share * climate.visit_requests / climate.refused_run:
            self._run(at, random.choice(REFUSALS), climate.refused_run, arrivals)
            return
        for _ in range(several(random, climate.visit_requests)):
            place = bisect_right(self._popularity, random.random())
            arrivals.append((at, min(place, len(self._popularity) - 1), 200, 0))
            at += random.expovariate(1.0) * VISIT_GAP_S

    def _run(self, at: float, status: int, mean: float, arrivals: list[Arrival]) -> None:
        """A client sends bad requests to one endpoint, one after the other; a third of the errors pass when tried
        again."""
        random = self.random
        place = random.randrange(len(self._popularity))
        fails = 1 if status in RETRIED and random.random() < 0.33 else EVERY_TRY
        for _ in range(several(random, mean)):
            (arrivals if at < self._second else self._runs).append((at, place, status, fails))
            at += random.expovariate(1.0) * RUN_GAP_S

    def _bad_requests(self, spell: Spell, arrivals: list[Arrival]) -> None:
        """Requests of a broken client: all to one endpoint, all with the same answer, whoever answers."""
        random = self.random
        statuses = FAILURES + REFUSALS
        status = statuses[int(spell.choice * len(statuses))]
        place = int(spell.choice * 7919.0) % len(self._popularity)
        at = max(self._second - 1.0, spell.at) + random.expovariate(spell.strength)
        while at < min(self._second, spell.until_at):
            arrivals.append((at, place, status, EVERY_TRY))
            at += random.expovariate(spell.strength)

    def single(self, at: float) -> None:
        """One request of a client fails."""
        self._runs.append((at + 1.0, 0, 500, EVERY_TRY))

    def _eventful(self, until_at: float) -> None:
        self.eventful_until_at = max(self.eventful_until_at, until_at)

    def _choose(self, avoid: int | None) -> int | None:
        """The open server with the fewest requests; of several a random one."""
        taps, best, least = self.taps, None, 1 << 30
        count = len(taps)
        first = int(self.random.random() * count)
        for step in range(count):
            index = first + step if first + step < count else first + step - count
            tap = taps[index]
            if tap.open and tap.sessions < least and index != avoid:
                best, least = index, tap.sessions
        return best if best is not None or avoid is None or not taps[avoid].open else avoid

    def _send(self, arrival: Arrival, at: float, tries: int, avoid: int | None) -> None:
        _, place, status, fails = arrival
        index = self._choose(avoid)
        if index is None:
            return
        tap = self.taps[index]
        ill = self.ill
        if ill is not None and ill.number == index + 1 and status < 400:
            here = ill.place == place if ill.place is not None else self.random.random() < ill.error_share
            status, fails = (500, EVERY_TRY) if here else (status, fails)
        end_at = max(at, tap.paused_until_at) + self.takes_s(place, index)
        if status >= 500:
            self._eventful(end_at + CALM_AFTER_S)
        elif end_at - at > LONG_S:
            self.long_until_at = max(self.long_until_at, end_at)
        tap.sessions += 1
        tap.requests += 1
        tap.shown = None
        self._number += 1
        heapq.heappush(self._flights, (end_at, self._number, index, at, place, status, fails, tries + 1))

    def _land(self) -> None:
        """A replica has answered: the client gets it, or it is tried again."""
        at, _, index, start_at, place, status, fails, tries = heapq.heappop(self._flights)
        tap = self.taps[index]
        tap.sessions -= 1
        tap.responses += 1
        tap.shown = None
        where = self.weather.climate.places[place]
        if status in RETRIED and tries < TRIES_MAX and where.method == "GET":
            tap.retries += 1
            status = status if fails > tries else 200
            self._send((at, place, status, fails), at, tries, index)
            return
        if status >= 500:
            tap.responses_5xx += 1
        stands_for = log_sample.stands_for(self._rate, log_sample.all_logged_below(len(self.taps), 1))
        if status < 500 and stands_for > 1 and self.random.random() * stands_for >= 1.0:
            return
        taken_ms = round((at - start_at) * 1000.0)
        self.lines.append(Answered(self.name, tap.port, where.method, where.path, status, taken_ms, tries, stands_for))


def several(random: Random, mean: float) -> int:
    """At least one, geometrically many, so many on average."""
    if mean <= 1.0:
        return 1
    return 1 + int(math.log(1.0 - random.random()) / math.log(1.0 - 1.0 / mean))
