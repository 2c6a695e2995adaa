"""What clients got from a replica (evidence class E3): failed requests, judged against its peers and its own past.

Intuition: an error that every replica shows is the dependency's, the release's or the clients' fault; an error that one
shows more often than the others is its own. So q0, the share a healthy replica would show, is the largest of what the
peers show now (last second), what they showed lately (10 s), and what this one showed in the long run (10 min), and
never below a floor. The present second matters: when all replicas start to fail together, the peers' counters rise in
the same reading as the replica's own. What they remember of the healthy second before hides how bad they are, so a
failure counts only while the replica stands out from the healthiest of them now.

Hard cases: few requests (the likelihood takes care of that: one failure of one is worth 6 nats, not a conviction), a
single peer with a single error (delays by about a second), no peers (own past and the floor decide, until there are
some: then it begins anew), peers that nobody asks now (the verdict waits until somebody does: one bad request that is
tried three times here is no comparison).
"""

import math
from dataclasses import dataclass, replace

from perdure.detect import cusum, peers
from perdure.detect.peers import Peers, Tally
from perdure.model.evidence import EvidenceClass, Served
from perdure.model.traffic import Counters
from perdure.model.verdict import Sign, Verdict

FLOOR = 0.002
"""q0 is never lower: a healthy replica may fail two requests in a thousand."""
CEILING = 0.99
SHARE_STANDS_OUT = 3.0
"""A failure speaks against a replica only while it fails this many times the share of its healthiest peer. Without it,
when three replicas at 20 requests/s each began to answer nothing but errors, one was convicted before the others in 37
of 40 simulated runs; with it in 9."""
COUNT_STANDS_OUT = 2.05
"""And only while it failed this many times as often. Of a request that fails everywhere, one of two replicas gets twice
as many of the three tries as the other, which is nobody's fault."""
SPANS_S = (1.0, 10.0, 600.0)
"""The time constants over which requests and failures are remembered, exponentially."""
DELAY_S = 60.0
"""What happens now enters the long run after two waits of this length on average, or a slow illness would become the
replica's own past before it is found. Two, for of one wait a third is over after 25 s, of two a fifteenth."""

FORGET_S = 60.0
"""The time constant with which suspicion fades."""
APART_MIN = math.log(500.0)
"""Of 500 causes that all replicas share, at most one may look like the fault of a single one, whichever: ten failures
on one of two and none on the other, seven on one of three, six on one of four, five on one of five.
"""
CHANCE = 7.0
"""So many failures are one such cause, for where clients fail often, bad requests come together often."""
PART_PRIOR = 5.0
PART_MIN = 0.8
"""A replica gets at least this part of the share of requests that it got in the last ten seconds."""
NONE = Tally()
SHARE_REQUESTS_MIN = 10.0
"""Requests in the last 10 s from which on a failing share is told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The evidence of traffic about one replica: scores, and its tallies over `SPANS_S`."""

    scores: cusum.Scores = cusum.NOTHING
    tallies: tuple[Tally, Tally, Tally] = (NONE, NONE, NONE)
    waiting: tuple[Tally, Tally] = (NONE, NONE)
    """What has not entered the long run yet: in its first wait, which is the last minute, and in its second."""
    at: float | None = None
    requests: int = 0
    failures: int = 0
    """Totals since the scores were last nothing, for the sentence."""
    failing_since_at: float | None = None
    """The reading in which the present suspicion began."""
    compared: bool = True
    """Whether a peer was asked since then, or there is none: without it nobody knows whose fault it is."""
    alone: bool = False
    """The present suspicion was gathered while there was no peer."""
    apart: float = math.inf
    """How much likelier it is that the failures of the last minute are this replica's own than that they fall on all in
    proportion to their requests and one of the replicas looks like that by chance, in nats; infinity without peers.
    """
    expected_share: float | None = None
    """q0 at the last comparison; None when there was none since the last suspicion."""
    part: float = 0.0
    """Which share of the requests fell on this replica when it failed, on average over its failures of a minute; 0: it
    has not failed.
    """


def tried(replica: str, at: float, before: Counters, after: Counters) -> Served:
    """What clients got between two readings of HAProxy's counters; every failed try counts once.

    A try that failed and was repeated is a retry, a redispatch, or both, and a broken answer of it is a response error,
    too; a broken answer that was not repeated is two response errors (measured with HAProxy 2.8).
    """
    broken = after.response_errors - before.response_errors - (after.retries - before.retries)
    failures = (
        after.connect_errors
        - before.connect_errors
        + (after.responses_5xx - before.responses_5xx)
        + (after.repeated - before.repeated)
        + max(0, broken + 1) // 2
    )
    requests = max(0, after.requests - before.requests)
    return Served(replica, at, max(requests, failures), max(0, failures))


def count(seen: Seen, served: Served) -> Seen:
    """Enter one reading into the tallies; call it for every replica of the service before `observe`."""
    elapsed_s = served.at - seen.at if seen.at is not None else 0.0
    shown, lately, past = seen.tallies
    first, second = seen.waiting
    left, late = _faded(first, elapsed_s / DELAY_S), _faded(second, elapsed_s / DELAY_S)
    old = _faded(past, elapsed_s / SPANS_S[2])
    tallies = (
        _decayed(shown, elapsed_s / SPANS_S[0], served),
        _decayed(lately, elapsed_s / SPANS_S[1], served),
        Tally(old.requests + second.requests - late.requests, old.failures + second.failures - late.failures),
    )
    scores = seen.scores
    if any(scores):
        kept = math.exp(-elapsed_s / FORGET_S)
        scores = tuple(score * kept for score in scores)
    # Written out, for this is done for every replica, endpoint and question each second, and `replace` is slow.
    return Seen(
        scores,
        tallies,
        (
            Tally(left.requests + served.requests, left.failures + served.failures),
            Tally(late.requests + first.requests - left.requests, late.failures + first.failures - left.failures),
        ),
        served.at,
        seen.requests,
        seen.failures,
        seen.failing_since_at,
        seen.compared,
        seen.alone,
        seen.apart,
        seen.expected_share,
        seen.part,
    )


def summary(seen: Seen, now: float) -> Peers:
    """What a replica is to its peers at `now`: faded, for it may not have been asked in this reading."""
    if seen.at is None or now - seen.at > SPANS_S[1]:
        return peers.UNASKED
    idle_s = now - seen.at
    shown, lately = (
        _faded(tally, idle_s / span_s) for tally, span_s in zip(seen.tallies[:2], SPANS_S[:2], strict=True)
    )
    minute = _faded(seen.waiting[0], idle_s / DELAY_S)
    return peers.of_one(shown, lately, minute, seen.tallies[2].failures, seen.at)


def observe(seen: Seen, served: Served, others: Peers, floor: float = FLOOR) -> Seen:
    """Add one reading to the scores, against the tallies of its peers, which hold the same reading already; `floor` is
    the least q0.

    A peer that was not asked lately (10 s), being drained or just started, is no comparison; with no other one the
    reading is no evidence.
    """
    if others.number and seen.alone:
        seen = Seen(tallies=seen.tallies, waiting=seen.waiting, at=seen.at, part=seen.part)
    if others.number and not others.asked:
        return replace(seen, compared=False)
    good = served.requests - served.failures
    bad = served.failures if _stands_out(seen, others) else 0
    expected = healthy_share(seen, others, floor)
    scores = cusum.observe(seen.scores, bad, good, expected)
    part = fell(seen, served.failures, others)
    if not any(scores):
        return Seen(scores, seen.tallies, seen.waiting, seen.at, part=part)
    since_at = seen.failing_since_at if seen.failing_since_at is not None else served.at
    return Seen(
        scores,
        seen.tallies,
        seen.waiting,
        seen.at,
        seen.requests + served.requests,
        seen.failures + served.failures,
        since_at,
        compared=not others.number or others.asked_at >= since_at,
        alone=not others.number,
        apart=apart(seen, others, part) if others.number else math.inf,
        expected_share=expected,
        part=part,
    )


def strength(seen: Seen, now: float | None) -> float:
    """The suspicion in nats at `now`: without requests it fades, for nothing new is learned. None: at the last ones."""
    idle_s = max(0.0, now - seen.at) if seen.at is not None and now is not None else 0.0
    return cusum.strongest(seen.scores) * math.exp(-idle_s / FORGET_S)


def failing_share(seen: Seen, now: float) -> float | None:
    """Which share of its requests the replica failed lately (10 s); None when too few were asked to say."""
    lately = seen.tallies[1]
    if seen.at is None or now - seen.at > SPANS_S[1] or lately.requests < SHARE_REQUESTS_MIN:
        return None
    return lately.failures / lately.requests


def healthy_share(seen: Seen, others: Peers, floor: float = FLOOR) -> float:
    """q0: the worst of the peers now, the peers lately, and this replica's own long run; between floor and ceiling."""
    past = seen.tallies[2].share if seen.tallies[2].requests >= 1 / floor else 0.0
    return min(CEILING, max(floor, others.now.share, others.lately.share, past))


def fell(seen: Seen, failures: int, others: Peers) -> float:
    """`Seen.part` after a reading with so many failures. How often requests fall on a replica is told by the last
    second: in a minute, one that has just started got fewer than its peers, most of them before anything failed. But a
    few requests say little, so `PART_PRIOR` of them are thought to fall as in the last ten seconds, and there as in the
    last minute. And less when lines stand for several: so it is hardly less than in the last ten seconds, and, for a
    peer that has just started was spared what failed before, than in the last minute.
    """
    mine = seen.waiting[0]
    if mine.failures <= 0.0 or (seen.part and not failures):
        return seen.part
    minute, lately = _part(mine, others.minute), _part(seen.tallies[1], others.lately)
    shown = _part(seen.tallies[0], others.now, _part(seen.tallies[1], others.lately, minute))
    now = min(0.99, max(0.01, shown, PART_MIN * max(lately, minute)))
    weight = min(1.0, failures / mine.failures) if seen.part else 1.0
    return seen.part + weight * (now - seen.part)


def apart(seen: Seen, others: Peers, part: float) -> float:
    """The log-likelihood ratio, in nats, of "my share of the failures is what it is" against "failures fall on me as
    often as requests do"; 0 when they fall on me less often. Less the logarithm of how many opportunities chance had:
    each of the replicas could be the one, at each cause of failures in the long run.

    The first bad requests of a client may all reach the same replica: of two replicas, one gets the first three in a
    quarter of the cases. Which requests fail is then the client's doing, and only where they fail speaks against a
    replica (a binomial likelihood ratio, the G-test's half). They are those of the last minute, or few requests of
    which many fail would never be enough; `part` is how often requests fell on it when they did.
    """
    mine, theirs = seen.waiting[0], others.minute
    failures = mine.failures + theirs.failures
    if mine.failures <= 0.0:
        return 0.0
    found = mine.failures / failures
    if found <= part:
        return 0.0
    elsewhere = theirs.failures / failures  # not 1 - found: what is left of an old failure is below a rounding error
    rest = theirs.failures * math.log(elsewhere / (1.0 - part)) if elsewhere > 0.0 else 0.0
    chances = (others.number + 1) * (1.0 + (seen.tallies[2].failures + others.past_failures) / CHANCE)
    return max(0.0, mine.failures * math.log(found / part) + rest - math.log(chances))


def _part(mine: Tally, theirs: Tally, prior: float | None = None) -> float:
    """The share of requests that fall on this replica; `prior`: what it is thought to be."""
    thought = PART_PRIOR if prior is not None else 0.0
    requests = mine.requests + theirs.requests + thought
    return (mine.requests + thought * (prior or 0.0)) / requests if requests > 0.0 else 0.0


def convincing(seen: Seen, endpoints: int = 1) -> bool:
    """Whether a peer was asked since the suspicion began, and the failures are this replica's own, if they were looked
    for at so many endpoints.
    """
    return seen.compared and seen.apart >= APART_MIN + math.log(endpoints)


def judge(seen: Seen, limit: float, alone: bool = False, now: float | None = None) -> Verdict | None:
    """Convict when the suspicion reaches `limit` nats; the number of requests is in the likelihood. `alone`: it has no
    peer that serves. `now`: see `strength`.
    """
    score = strength(seen, now)
    if score < limit or not convincing(seen) or (seen.alone and not alone):
        return None
    return Verdict(
        EvidenceClass.TRAFFIC,
        Sign.REQUESTS,
        f"failed {seen.failures} of its last {seen.requests} requests, more than its peers and its own past explain",
        score=score,
        threshold=limit,
        facts={"requests": seen.requests, "failures": seen.failures},
    )


def _stands_out(seen: Seen, others: Peers) -> bool:
    """Whether this replica fails clearly more than its healthiest peer: a larger share of its requests now, for the
    memory of a healthy second hides the same of both; and more of them lately, for a busy replica that gets hardly
    anything but repeats of bad requests fails most of the few that it gets.
    """
    lowest_share = others.lowest_share if others.lowest_share < peers.INFINITY else 0.0
    fewest = others.fewest_failures if others.asked else 0.0
    now, lately, _ = seen.tallies
    return now.share > SHARE_STANDS_OUT * lowest_share and lately.failures > COUNT_STANDS_OUT * fewest


def _decayed(tally: Tally, spans: float, served: Served) -> Tally:
    kept = math.exp(-spans)
    return Tally(tally.requests * kept + served.requests, tally.failures * kept + served.failures)


def _faded(tally: Tally, spans: float) -> Tally:
    kept = math.exp(-spans)
    return Tally(tally.requests * kept, tally.failures * kept) if spans else tally
