"""What clients got from a replica by endpoint (evidence class E3), from a sample of HAProxy's log.

For each endpoint three questions are asked of every request: did it fail (5xx, or no answer), was it refused (4xx), did
it take long (`times` says from when on)? Each is judged as `traffic` judges all requests together: against the same
endpoint of the peers and against the replica's own past, so what all replicas share convicts nobody. Only in
comparison: without a peer that is asked, nothing here convicts. Slow answers are also counted over all endpoints, each
measured by its own limit: a replica of which one request in twenty takes long shows too few of them at any one.

The requests of one second share their circumstances: one pause makes all of them slow, one client with a bug makes all
of its own fail. So they count as at most a few bad observations, and proportionally fewer good ones (`thinned`);
what convicts must last for several seconds. The tallies that peers are compared by count everything.

Hard cases: a sample (each failed request is logged, of the good ones one stands for several; of refusals and times
only the lines count), many endpoints (the limit grows by the logarithm of the number of comparisons), a replica that
has just started (its caches are cold: slow answers do not count for half a minute).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perdure.detect import cusum, peers, times, traffic
from perdure.model.evidence import EvidenceClass, Served
from perdure.model.verdict import Failing, Sign, Verdict

SLOT_S = 1.0
"""Requests of so long a time are one look."""
WARM_UP_S = 30.0
FAILING_REQUESTS_MIN = 10.0
"""Requests in the last 10 s from which on the share of an endpoint is told."""


UNUSUAL = 3.0
"""Refusals and slow answers are told only from this many times their share in the long run on."""
SHARE_TOLD = {Sign.REQUESTS: 0.1, Sign.REFUSALS: 0.3, Sign.SLOW: 0.3}
"""From which share on a sign counts as one that replicas may have in common."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One question: which class and sign it is evidence of, how many bad answers of a second count, and the least
    q0.
    """

    evidence: EvidenceClass
    sign: Sign
    bad_max: int
    floor: float
    words: str
    """What the replica did to a request, in the past tense."""


ERRORS = Kind(EvidenceClass.TRAFFIC, Sign.REQUESTS, 4, traffic.FLOOR, "failed")
REFUSALS = Kind(EvidenceClass.REFUSALS, Sign.REFUSALS, 2, 0.01, "answered with 4xx")
SLOWNESS = Kind(EvidenceClass.TIMES, Sign.SLOW, 1, 0.01, "answered slowly")
KINDS = (ERRORS, REFUSALS, SLOWNESS)
NO_STATUSES = (0,) * len(KINDS)


@dataclass(frozen=True, slots=True)
class Batch:
    """The requests of one replica to one endpoint within about a second."""

    replica: str
    requests: int
    """How many there were, the sample scaled up."""
    failed: int
    blamed: int
    """Of those, the ones that were tried on this replica alone; what was tried again failed on several."""
    lines: int
    """Lines of the sample that tell of an answer below 500."""
    refused: int
    taken: Mapping[int, int]
    """Bucket of `times` -> answers."""
    statuses: tuple[int, ...] = NO_STATUSES
    """The most frequent status of those that were bad, for each of `KINDS`; 0 when there are none."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The evidence about one replica at one endpoint, in the order of `KINDS`."""

    seen: tuple[traffic.Seen, ...] = (traffic.Seen(),) * len(KINDS)
    taken: times.Times = field(default_factory=times.Times)
    limit_ms: float | None = None
    """From which time on an answer counted as slow lately."""
    statuses: tuple[int, ...] = NO_STATUSES
    """The latest of `Batch.statuses`."""

    def status(self, kind: Kind) -> int:
        """The status that its bad answers to one question had lately; 0 when there is none."""
        return self.statuses[KINDS.index(kind)]


ALL = "all endpoints"
"""The name under which slow answers are kept whatever their endpoint."""
FLOOR_OF_ALL = 0.002
"""So low q0 may be there, for there are more answers to learn it from."""
GOOD_PER_SLOW_OF_ALL = 4
"""There a slow answer stands beside at least so many good ones. Whoever is slow at everything is found at the
endpoints, and what one pause of a replica makes slow (disturbance B5) stays below the limit in the three seconds that
it may touch.
"""
Looks = tuple[Served, ...]
"""One look for each of `KINDS`."""
Endpoints = Mapping[str, Endpoint]
"""What is known of one replica: endpoint -> evidence."""
NOTHING: Endpoints = {}


def limit(rate: float, endpoints: int) -> float:
    """What a score must reach, in nats, so that all comparisons of a replica together alarm falsely at `rate` a
    second.
    """
    return cusum.threshold(rate / (len(KINDS) * max(1, endpoints)), 1.0 / SLOT_S)


def count(before: Endpoint, batch: Batch, at: float, peers_ms: Sequence[float], warm: bool) -> tuple[Endpoint, Looks]:
    """Enter a batch into the tallies; call it for every replica before `compare`. `peers_ms` are the quantiles of the
    peers at this endpoint.
    """
    limit_ms = times.limit_ms(peers_ms)
    slow = times.slow(batch.taken, limit_ms) if limit_ms is not None and warm else 0
    answers = sum(batch.taken.values()) if limit_ms is not None and warm else 0
    looks = (
        Served(batch.replica, at, batch.requests, batch.failed),
        Served(batch.replica, at, batch.lines, batch.refused),
        Served(batch.replica, at, answers, slow),
    )
    seen = tuple(traffic.count(one, look) for one, look in zip(before.seen, looks, strict=True))
    looks = (Served(batch.replica, at, batch.requests, batch.blamed), *looks[1:])
    taken = times.observe(before.taken, batch.taken, at)
    statuses = tuple(new or old for new, old in zip(batch.statuses, before.statuses, strict=True))
    return Endpoint(seen, taken, limit_ms, statuses), looks


def count_slow(before: Endpoint, look: Served) -> tuple[Endpoint, Looks]:
    """Enter the answers of a replica at all its endpoints, of which `look.failures` were slow; as `count`."""
    nothing = Served(look.replica, look.at, 0, 0)
    *others, seen = before.seen
    return Endpoint((*others, traffic.count(seen, look))), (nothing, nothing, look)


def compare(
    name: str, mine: Mapping[str, tuple[Endpoint, Looks]], absent: Mapping[str, Endpoint], now: float
) -> dict[str, Endpoint]:
    """Judge the replicas that were asked at the endpoint `name` (`mine`: replica -> counted evidence) against each
    other and against those that were not asked in this second (`absent`).
    """
    known = {name: endpoint for name, (endpoint, _) in mine.items()} | dict(absent)
    found = {name: endpoint for name, (endpoint, _) in mine.items()}
    for index, kind in enumerate(KINDS):
        if not any(looks[index].failures or any(one.seen[index].scores) for one, looks in mine.values()):
            continue
        summaries = [traffic.summary(endpoint.seen[index], now) for endpoint in known.values()]
        for replica, others in zip(known, peers.leave_one_out(summaries), strict=True):
            if replica not in mine or not others.number:
                continue
            look = mine[replica][1][index]
            before = found[replica].seen[index]
            if look.failures or any(before.scores):
                after = traffic.observe(before, thinned(look, kind.bad_max, name), others, floor(kind, name))
                seen = (*found[replica].seen[:index], after, *found[replica].seen[index + 1 :])
                found[replica] = replace(found[replica], seen=seen)
    return found


def thinned(look: Served, bad_max: int, name: str) -> Served:
    """The same share of failures with at most `bad_max` of them; over all endpoints one in five at most."""
    bad, good = look.failures, look.requests - look.failures
    if bad > bad_max:
        bad, good = bad_max, round(good * bad_max / bad)
    if name == ALL:
        good = max(good, GOOD_PER_SLOW_OF_ALL * bad)
    return Served(look.replica, look.at, bad + good, bad)


def each(endpoints: Endpoints) -> Iterator[tuple[Kind, str, traffic.Seen]]:
    """Every question at every endpoint with its evidence."""
    for name, endpoint in endpoints.items():
        for kind, seen in zip(KINDS, endpoint.seen, strict=True):
            if name != ALL or kind is SLOWNESS:
                yield kind, name, seen


def floor(kind: Kind, name: str) -> float:
    """The least q0 of a question at an endpoint."""
    return FLOOR_OF_ALL if name == ALL else kind.floor


def judge(endpoints: Endpoints, limit: float, now: float | None = None) -> Verdict | None:
    """Convict when the suspicion at some endpoint reaches `limit` nats and was compared with that of a peer; `now`: see
    `traffic.strength`.
    """
    worst: Verdict | None = None
    for kind, name, seen in each(endpoints):
        score, own = traffic.strength(seen, now), traffic.convincing(seen, len(endpoints))
        if score >= limit and own and not seen.alone and (worst is None or score > worst.score):
            worst = replace(_verdict(kind, name, endpoints[name], seen, limit), score=score)
    return worst


def failing(endpoints: Endpoints, now: float) -> tuple[Failing, ...]:
    """Where the replica shows a sign in a good part of its requests, which for refusals and slow answers must also be
    three times as much as in the long run; for what many replicas have in common.
    """
    found: list[Failing] = []
    for kind, name, seen in each(endpoints):
        lately, long_run = seen.tallies[1], seen.tallies[2]
        if seen.at is None or now - seen.at > traffic.SPANS_S[1] or lately.requests < FAILING_REQUESTS_MIN:
            continue
        unusual = kind is ERRORS or lately.share > UNUSUAL * long_run.share
        if lately.share >= SHARE_TOLD[kind.sign] and unusual:
            found.append(Failing(kind.sign, name, lately.share, endpoints[name].status(kind)))
    return tuple(found)


def without_scores(endpoints: Endpoints) -> dict[str, Endpoint]:
    """The same with all suspicion taken back: no requests reach an isolated replica."""
    return {
        name: replace(endpoint, seen=tuple(replace(seen, scores=cusum.NOTHING) for seen in endpoint.seen))
        for name, endpoint in endpoints.items()
    }


def on_trial(endpoints: Endpoints, kind: EvidenceClass, where: str, held: float, now: float) -> dict[str, Endpoint]:
    """What is known of a replica that gets requests again: its long run, and `held` nats where it was convicted."""
    return {
        name: replace(
            endpoint,
            seen=tuple(
                traffic.Seen(
                    (held,) * len(cusum.GRID) if name == where and question.evidence is kind else cusum.NOTHING,
                    (peers.Tally(), peers.Tally(), seen.tallies[2]),
                    at=now,
                )
                for question, seen in zip(KINDS, endpoint.seen, strict=True)
            ),
        )
        for name, endpoint in endpoints.items()
    }


def _verdict(kind: Kind, name: str, endpoint: Endpoint, seen: traffic.Seen, limit: float) -> Verdict:
    how = f" (over {endpoint.limit_ms:.0f} ms)" if kind is SLOWNESS and endpoint.limit_ms is not None else ""
    status = endpoint.status(kind)
    if status:
        how = f" (mostly {status})"
    share = seen.tallies[1].share
    return Verdict(
        kind.evidence,
        kind.sign,
        f"{kind.words}{how} {share:.0%} of the requests to {name} in the last 10 s, much more than its peers",
        endpoint=name,
        threshold=limit,
        facts={"share": round(share, 3), "status": status},
    )


def pooled(each: Sequence[Endpoints]) -> times.Times:
    """The response times of several replicas at all their endpoints."""
    return times.merged(endpoint.taken for endpoints in each for endpoint in endpoints.values())
