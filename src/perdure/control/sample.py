"""The sample of HAProxy's log becomes evidence by endpoint: gathered for a second, then judged for a whole service.

`observe` hands each reading in. What a line means is in `detect.sampled`, which endpoint it belongs to in
`detect.endpoints`; here is only the gathering: replicas by port, endpoints by path, batches by second.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perdure.control.world import ServiceState, SlotState
from perdure.detect import deadly, endpoints, sampled, times
from perdure.model.evidence import Served
from perdure.model.traffic import Answered

NOT_FOUND = 404
PEERS_MANY = 8
QUICK_MS = 500
"""A path that is answered more slowly is not asked to find out whether a replica answers at all."""
COMMON_KEPT = 100
PATHS_KNOWN = 10_000
"""Paths whose group is remembered; then the memory begins anew."""


@dataclass(slots=True)
class Cell:
    """What is gathered about one replica at one endpoint."""

    requests: int = 0
    failed: int = 0
    blamed: int = 0
    lines: int = 0
    refused: int = 0
    taken: Counter[int] = field(default_factory=Counter)
    failed_with: Counter[int] = field(default_factory=Counter)
    """Status -> how many of the failed ones had it."""
    refused_with: Counter[int] = field(default_factory=Counter)

    def add(self, answered: Answered) -> None:
        """Add a line."""
        status = answered.status
        if status >= 500:
            self.requests += 1
            self.failed += 1
            self.blamed += answered.tries == 1
            self.failed_with[status] += 1
            return
        self.requests += answered.stands_for
        self.lines += 1
        if status >= 400:
            self.refused += 1
            self.refused_with[status] += 1
        elif answered.response_ms is not None:
            self.taken[times.bucket(answered.response_ms)] += 1

    def batch(self, replica: str) -> sampled.Batch:
        """What was gathered, as evidence."""
        statuses = _commonest(self.failed_with), _commonest(self.refused_with), 0
        return sampled.Batch(
            replica, self.requests, self.failed, self.blamed, self.lines, self.refused, self.taken, statuses
        )


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A request of Perdure's own that counts as one of a client's, at an endpoint of its own."""

    endpoint: str
    good: bool
    """It was answered as expected."""
    status: int
    """0: there was no HTTP answer."""
    taken_ms: int


@dataclass(slots=True)
class Gathered:
    """One service's lines of the present second: endpoint -> slot -> what it did."""

    since_at: float
    cells: dict[str, dict[int, Cell]] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)
    """Groups that have evidence of their own, and when they were last seen."""
    work: dict[str, deadly.Load] = field(default_factory=dict)
    """Group -> what it was asked in the present second, whoever was asked."""
    common: Counter[str] = field(default_factory=Counter)
    """Paths that clients GET, that are answered well and soon -> how often."""


@dataclass(slots=True)
class Sampler:
    """Gathers lines by service; `take` returns whether the evidence about a service changed."""

    _gathered: dict[str, Gathered] = field(default_factory=dict)
    _groups: dict[tuple[str, str], str] = field(default_factory=dict)

    def take(self, service: ServiceState, lines: Sequence[Answered], now: float) -> bool:
        """Add the lines of one reading of a service; each second, turn them into evidence."""
        gathered = self._gathered.get(service.name)
        if gathered is None:
            if not lines:
                return False
            gathered = self._gathered[service.name] = Gathered(now)
        if lines:
            self._gather(service, gathered, lines, now)
        if now - gathered.since_at < sampled.SLOT_S or not gathered.cells:
            return False
        cells, gathered.cells, gathered.since_at = gathered.cells, {}, now
        service.deaths = replace(service.deaths, loads=deadly.asked(service.deaths.loads, gathered.work, now))
        gathered.work = {}
        slow: dict[int, Served] = {}
        for name, by_slot in cells.items():
            for number, look in _judge(service, name, by_slot, now).items():
                so_far = slow.get(number, Served(look.replica, now, 0, 0))
                requests, failures = so_far.requests + look.requests, so_far.failures + look.failures
                slow[number] = Served(look.replica, now, requests, failures)
        _judge_slow(service, slow, now)
        _drop_forgotten(service, gathered)
        if len(gathered.common) > COMMON_KEPT:
            gathered.common = Counter(dict(gathered.common.most_common(COMMON_KEPT // 2)))
        return True

    def tried(self, service: ServiceState, slot: SlotState, synthetic: Synthetic) -> None:
        """Add a synthetic request to a replica; its endpoint is admitted whatever else is known."""
        endpoint, gathered = synthetic.endpoint, self._gathered.get(service.name)
        if gathered is None:
            gathered = self._gathered[service.name] = Gathered(service.backend_at)
        gathered.known[endpoint] = service.backend_at
        cell = gathered.cells.setdefault(endpoint, {}).setdefault(slot.slot.number, Cell())
        cell.requests += 1
        if synthetic.good:
            cell.lines += 1
            cell.taken[times.bucket(synthetic.taken_ms)] += 1
            return
        cell.failed += 1
        cell.blamed += 1
        if synthetic.status >= 400:
            cell.failed_with[synthetic.status] += 1

    def commonest(self, service: str) -> str | None:
        """The path that clients ask most, of those that are answered well and soon; None when nobody knows."""
        gathered = self._gathered.get(service)
        found = gathered.common.most_common(1) if gathered is not None else []
        return found[0][0] if found else None

    def keep(self, services: Collection[str]) -> None:
        """Forget services that are no longer declared."""
        if len(self._gathered) > len(services):
            self._gathered = {name: one for name, one in self._gathered.items() if name in services}

    def forget(self) -> None:
        """Let go of what was gathered: it spans a pause of the monitor itself."""
        for gathered in self._gathered.values():
            gathered.cells.clear()
            gathered.work.clear()

    def _gather(self, service: ServiceState, gathered: Gathered, lines: Sequence[Answered], now: float) -> None:
        by_port = {slot.replica.port: number for number, slot in service.slots.items() if slot.replica and slot.serves}
        prefixes = service.desired.service.endpoints
        for line in lines:
            group = self._group(service.name, line.path, prefixes)
            _note_work(service, gathered, group, line, now)
            number = by_port.get(line.port)
            if number is None:
                continue
            if group not in gathered.known or gathered.known[group] < gathered.since_at:
                seen = () if line.status == NOT_FOUND and group not in prefixes else (group,)
                gathered.known = endpoints.admitted(gathered.known, seen, now)
                if group not in gathered.known:
                    group = endpoints.OTHER
            if line.method == "GET" and line.status < 300 and (line.response_ms or 0) < QUICK_MS:
                gathered.common[line.path] += line.stands_for
            gathered.cells.setdefault(group, {}).setdefault(number, Cell()).add(line)

    def _group(self, service: str, path: str, prefixes: Sequence[str]) -> str:
        key = service, path
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= PATHS_KNOWN:
                self._groups.clear()
            group = self._groups[key] = endpoints.declared(path, prefixes) or endpoints.group(path)
        return group


def _commonest(statuses: Counter[int]) -> int:
    return max(statuses, key=statuses.__getitem__, default=0)


def _note_work(service: ServiceState, gathered: Gathered, group: str, line: Answered, now: float) -> None:
    """What replicas that end by themselves may have died of."""
    if line.status >= 500 and line.response_ms is None:
        service.deaths = deadly.broke(service.deaths, deadly.Broken(now, group, line.tries))
    load = gathered.work.get(group, deadly.Load())
    answered = line.stands_for if line.response_ms is not None else 0
    busy_s = answered * (line.response_ms or 0) / 1000.0
    requests = line.stands_for if line.status < 500 else 1
    gathered.work[group] = deadly.Load(load.requests + requests, load.answered + answered, load.busy_s + busy_s, now)


def _judge(service: ServiceState, name: str, by_slot: dict[int, Cell], now: float) -> dict[int, Served]:
    """Judge all replicas at one endpoint; returns for each slot how many answers there were, and how many slow ones."""
    serving = {number: slot for number, slot in service.slots.items() if slot.serves}
    known = {number: slot.belief.endpoints.get(name, sampled.Endpoint()) for number, slot in serving.items()}
    quantiles = {number: ms for number, one in known.items() if (ms := times.quantile_ms(one.taken)) is not None}
    mine: dict[str, tuple[sampled.Endpoint, sampled.Looks]] = {}
    looks: dict[int, Served] = {}
    for number, cell in by_slot.items():
        slot = serving.get(number)
        if slot is None or slot.replica is None:
            continue
        peers_ms = _others(quantiles, number)
        warm = slot.ready_at is not None and now - slot.ready_at >= sampled.WARM_UP_S
        batch = cell.batch(slot.replica.name)
        mine[slot.replica.name] = sampled.count(known[number], batch, now, peers_ms, warm)
        looks[number] = mine[slot.replica.name][1][-1]
    _compare(service, name, mine, now)
    return looks


def _judge_slow(service: ServiceState, by_slot: Mapping[int, Served], now: float) -> None:
    """Judge how many answers of each replica were slow for their endpoint, over all endpoints."""
    mine: dict[str, tuple[sampled.Endpoint, sampled.Looks]] = {}
    for number, look in by_slot.items():
        before = service.slots[number].belief.endpoints.get(sampled.ALL, sampled.Endpoint())
        if look.requests or before.seen[-1].at is not None:
            mine[look.replica] = sampled.count_slow(before, look)
    _compare(service, sampled.ALL, mine, now)


def _compare(
    service: ServiceState, name: str, mine: Mapping[str, tuple[sampled.Endpoint, sampled.Looks]], now: float
) -> None:
    """Compare the replicas that were asked, and those that were not, and keep what comes of it."""
    serving = {slot.replica.name: slot for slot in service.slots.values() if slot.serves and slot.replica is not None}
    absent = {
        replica: slot.belief.endpoints.get(name, sampled.Endpoint())
        for replica, slot in serving.items()
        if replica not in mine
    }
    for replica, endpoint in sampled.compare(name, mine, absent, now).items():
        slot = serving[replica]
        slot.belief = replace(slot.belief, endpoints={**slot.belief.endpoints, name: endpoint})


def _others(quantiles: Mapping[int, float], number: int) -> Sequence[float]:
    """What the others show; of many the median is the same with and without one of them."""
    if len(quantiles) > PEERS_MANY:
        return [statistics.median_low(quantiles.values())]
    return [ms for other, ms in quantiles.items() if other != number]


def _drop_forgotten(service: ServiceState, gathered: Gathered) -> None:
    """Endpoints that were not seen for long cost memory, and raise the limit of the others."""
    kept = gathered.known.keys() | {endpoints.OTHER, sampled.ALL}
    for slot in service.slots.values():
        if slot.belief.endpoints.keys() - kept:
            known = {name: one for name, one in slot.belief.endpoints.items() if name in kept}
            slot.belief = replace(slot.belief, endpoints=known)
