"""Adding the evidence up: from single observations to a belief about a replica, and from the belief to a verdict.

A `Belief` holds what each class of evidence says so far. `observe` adds one observation; `judge` convicts when one
class is definitive, or one passes the limit and was confirmed, or two classes pass half of it each. Classes are
independent ways of knowing, so two halves are worth a whole; the same cause seen twice in one class is not.

Neighbours: `cusum` holds the arithmetic, `process`, `probe`, `heartbeat`, `traffic`, `sampled` and `stall` one kind of
evidence each; `confirm` asks whether a stall is the replica's own; `recover.isolate` acts on the verdict.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from perdure.detect import (
    confirm,
    cusum,
    digest,
    forecast,
    heartbeat,
    limits,
    probe,
    process,
    sampled,
    stall,
    traffic,
    vantage,
)
from perdure.model.check import CONFIRMING
from perdure.model.evidence import Beat, EvidenceClass, Held, Outcome, Probed, Sighted
from perdure.model.service import Service
from perdure.model.standing import Filling
from perdure.model.verdict import Sign, Verdict

LOOKS_PER_S_TRAFFIC = 10.0
LOOKS_PER_S_HEARTBEAT = 1.0
HALF = 0.5
"""Two classes that pass this share of their limits convict together; one alone makes a replica suspected."""

_SIGN_OF = {
    EvidenceClass.PROBE: Sign.STATUS,
    EvidenceClass.HEARTBEAT: Sign.SILENT,
    EvidenceClass.TRAFFIC: Sign.REQUESTS,
    EvidenceClass.REFUSALS: Sign.REFUSALS,
    EvidenceClass.TIMES: Sign.SLOW,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the service tolerates, as limits in nats for each class."""

    service: Service
    probe_limits: Mapping[str, float]
    heartbeat_limit: float
    traffic_limit: float


@dataclass(frozen=True, slots=True)
class Belief:
    """All evidence about one replica, by class; `asked` maps the label of a check to its evidence."""

    kernel: process.Kernel = field(default_factory=process.Kernel)
    asked: Mapping[str, probe.Asked] = field(default_factory=dict)
    told: heartbeat.Told = field(default_factory=heartbeat.Told)
    seen: traffic.Seen = field(default_factory=traffic.Seen)
    endpoints: sampled.Endpoints = field(default_factory=dict)
    stalled: stall.Stall = field(default_factory=stall.Stall)
    answers: vantage.Answers = field(default_factory=vantage.Answers)
    holdings: limits.Holdings = field(default_factory=limits.Holdings)
    memory: forecast.Trend = field(default_factory=forecast.Trend)
    descriptors: forecast.Trend = field(default_factory=forecast.Trend)
    compared: digest.Compared = field(default_factory=digest.Compared)


@dataclass(frozen=True, slots=True)
class Peered:
    """What must be known of the other replicas to judge one of them."""

    alone: bool = False
    """No other replica of the service serves."""
    in_flight: stall.Others = field(default_factory=stall.Others)
    """Asked for only when the replica seems to be stalled."""
    silence_counts: bool = True
    """Whether silence to the monitor says anything: not when it may be the monitor's own path (`vantage`)."""


class Suspicion(NamedTuple):
    """How strongly one class, at one endpoint, speaks against the replica; both numbers in nats."""

    evidence: EvidenceClass
    endpoint: str
    score: float
    limit: float
    expected_share: float | None = None
    """q0, what a healthy replica would show; None where nothing is counted."""
    own: bool = True
    """Whether it may be this replica's own fault: what peers share is no half of a verdict either."""

    @property
    def bad_to_convict(self) -> int | None:
        """How many bad observations in a row reach the limit now; None where nothing is counted. They convict unless
        peers show too much of the same (`traffic.apart`).
        """
        if self.expected_share is None:
            return None
        return max(1, math.ceil((self.limit - self.score) / -math.log(self.expected_share)))

    @property
    def share(self) -> float:
        """1.0 means that the limit is reached."""
        return self.score / self.limit if self.limit > 0.0 else 0.0


def policy(service: Service) -> Policy:
    """Limits from the false alarms that the service tolerates and how often each class looks."""
    rate = service.false_alarms_per_s
    return Policy(
        service,
        {check.label: cusum.threshold(rate, 1.0 / check.interval_s) for check in service.asked},
        cusum.threshold(rate, LOOKS_PER_S_HEARTBEAT),
        cusum.threshold(rate, LOOKS_PER_S_TRAFFIC),
    )


def observe(belief: Belief, evidence: Probed | Sighted | Held | Beat, rules: Policy) -> Belief:
    """Add one observation; what clients got is added by `traffic`, since it needs the peers."""
    match evidence:
        case Probed():
            before = belief.asked.get(evidence.check, probe.Asked(evidence.check))
            return replace(belief, asked={**belief.asked, evidence.check: probe.observe(before, evidence)})
        case Sighted():
            kernel = process.observe(belief.kernel, evidence, rules.service.limits.memory_bytes)
            if evidence.group_memory_bytes is not None:
                belief = replace(
                    belief, memory=forecast.observe(belief.memory, evidence.at, evidence.group_memory_bytes)
                )
            return belief if kernel == belief.kernel else replace(belief, kernel=kernel)
        case Held():
            if evidence.descriptors_max:
                trend = forecast.observe(belief.descriptors, evidence.at, evidence.descriptors)
                belief = replace(belief, descriptors=trend)
            return replace(belief, holdings=limits.observe(belief.holdings, evidence))
        case Beat():
            return replace(belief, told=heartbeat.observe(belief.told, evidence.at))


def judge(
    belief: Belief, now: float, rules: Policy, others: Peered = Peered(), *, convicted: bool = False
) -> Verdict | None:
    """The verdict, if the evidence carries one: definitive evidence first, then the strongest class. That data differ
    comes last, for no restart repairs it, and it would hide what one does. `convicted`: it is isolated, so what its
    last requests said does not fade; it gets none that could say anything else.
    """
    definitive = process.judge(belief.kernel, rules.service.limits.memory_bytes)
    if definitive is not None:
        return definitive
    asked = _asked(belief, now, rules, others.silence_counts)
    limited = limits.judge(belief.holdings)
    if limited is not None and not (limited.sign is Sign.BACKLOG and _answers_nobody(belief, asked)):
        return limited
    if asked is not None:
        return asked
    confirmed = _confirmed(belief, now, rules) if others.silence_counts else None
    if confirmed is not None:
        return confirmed
    every = rules.service.heartbeat
    heard = every if others.silence_counts else None
    silent = heartbeat.judge(belief.told, now, heard.every_s, rules.heartbeat_limit) if heard else None
    if silent is not None:
        return silent
    stalled = None
    if not confirm.answers(belief.asked, belief.stalled.seen_at):
        stalled = stall.judge(belief.stalled, others.in_flight, rules.traffic_limit)
    faded_at = None if convicted else now
    limit = sampled.limit(rules.service.false_alarms_per_s, len(belief.endpoints))
    return (
        stalled
        or sampled.judge(belief.endpoints, limit, faded_at)
        or traffic.judge(belief.seen, rules.traffic_limit, others.alone, faded_at)
        or _two_halves(belief, now, rules, others.silence_counts)
        or (digest.judge(belief.compared, rules.service.digest.label) if rules.service.digest is not None else None)
    )


def _asked(belief: Belief, now: float, rules: Policy, silence_counts: bool) -> Verdict | None:
    """The verdict of the first declared check that convicts."""
    for asked, limit in _declared(belief, rules):
        verdict = probe.judge(asked, now, limit)
        if verdict is not None and not _same_cause(belief, verdict) and (silence_counts or not _hangs(verdict)):
            return verdict
    return None


def _answers_nobody(belief: Belief, verdict: Verdict | None) -> bool:
    """Whether the monitor gets no answer, and clients have got none since. Only that tells a hang, which a restart
    repairs at once, from overload: both fill a backlog, and it may be that of all replicas.
    """
    if verdict is None or not _hangs(verdict):
        return False
    since_at = belief.asked[verdict.endpoint].unanswered_since_at
    return since_at is not None and not vantage.answers_since(belief.answers, since_at)


def _confirmed(belief: Belief, now: float, rules: Policy) -> Verdict | None:
    """Requests of clients are overdue, and so is the answer to what the monitor asked in their place."""
    if not stall.overdue(belief.stalled):
        return None
    for label, asked in belief.asked.items():
        verdict = probe.judge(asked, now, rules.traffic_limit) if label.startswith(CONFIRMING) else None
        if verdict is not None and verdict.sign is Sign.HANG and not _same_cause(belief, verdict):
            return replace(verdict, evidence=EvidenceClass.STALL, sign=Sign.STALLED)
    return None


def _hangs(verdict: Verdict) -> bool:
    return verdict.sign is Sign.HANG


def _same_cause(belief: Belief, verdict: Verdict) -> bool:
    """Silence of a process that the kernel keeps from running is no second cause: `process` judges how long it is."""
    return _hangs(verdict) and belief.kernel.stopped_since_at is not None


def suspicions(belief: Belief, now: float, rules: Policy, *, scored: bool = False) -> tuple[Suspicion, ...]:
    """Every class and endpoint with its score and limit, for `explain` and for the state SUSPECT; `scored` leaves out
    endpoints at which nothing speaks against the replica.
    """
    found = [
        Suspicion(EvidenceClass.PROBE, asked.check, cusum.strongest(asked.scores), limit, probe.HEALTHY_SHARE)
        for asked, limit in _declared(belief, rules)
    ]
    every = rules.service.heartbeat
    if every is not None:
        told = heartbeat.score(belief.told, now, every.every_s)
        found.append(Suspicion(EvidenceClass.HEARTBEAT, "", told, rules.heartbeat_limit))
    strength, expected = traffic.strength(belief.seen, now), belief.seen.expected_share or traffic.FLOOR
    own = traffic.convincing(belief.seen)
    found.append(Suspicion(EvidenceClass.TRAFFIC, "", strength, rules.traffic_limit, expected, own))
    if belief.endpoints:
        limit = sampled.limit(rules.service.false_alarms_per_s, len(belief.endpoints))
        for kind, name, seen in sampled.each(belief.endpoints):
            if scored and not any(seen.scores):
                continue
            expected = seen.expected_share or sampled.floor(kind, name)
            strength, own = traffic.strength(seen, now), traffic.convincing(seen, len(belief.endpoints))
            found.append(Suspicion(kind.evidence, name, strength, limit, expected, own))
    if rules.service.digest is not None:
        label, apart = rules.service.digest.label, float(belief.compared.apart)
        found.append(Suspicion(EvidenceClass.DIGEST, label, apart, float(digest.ROUNDS)))
    if stall.overdue(belief.stalled):
        known = sampled.pooled([belief.endpoints])
        found.append(Suspicion(EvidenceClass.STALL, "", stall.score(belief.stalled, known), rules.traffic_limit))
    if belief.holdings.last is not None:
        full_s = limits.backlog_full_s(belief.holdings)
        found.append(Suspicion(EvidenceClass.LIMIT, "", full_s, probe.PAUSE_TOLERATED_S))
    stopped_s, blocked_s = process.stopped_s(belief.kernel), process.blocked_s(belief.kernel)
    if blocked_s > stopped_s:
        found.append(Suspicion(EvidenceClass.PROCESS, "", blocked_s, process.BLOCKED_CONVICTS_S))
    else:
        found.append(Suspicion(EvidenceClass.PROCESS, "", stopped_s, process.STOPPED_CONVICTS_S))
    return tuple(found)


def suspected(belief: Belief, now: float, rules: Policy) -> bool:
    """Whether any class passed half of its limit: another one that does so, too, would convict."""
    if belief.kernel.stopped_since_at is not None:
        return True
    return any(suspicion.share >= HALF for suspicion in suspicions(belief, now, rules, scored=True))


def filling(belief: Belief, rules: Policy) -> Filling | None:
    """What will be full first: memory, against the declared limit, or descriptors."""
    found: list[Filling] = []
    limit, last = rules.service.limits.memory_bytes, belief.holdings.last
    memory_s = forecast.full_in_s(belief.memory, limit) if limit is not None else None
    if memory_s is not None and limit is not None:
        held = belief.memory.points[-1][1]
        found.append(Filling(memory_s, f"{held / 1e6:.0f} of {limit / 1e6:.0f} MB of memory, full in {memory_s:.0f} s"))
    full_s = forecast.full_in_s(belief.descriptors, last.descriptors_max) if last is not None else None
    if full_s is not None and last is not None:
        words = f"{last.descriptors} of {last.descriptors_max} descriptors, full in {full_s:.0f} s"
        found.append(Filling(full_s, words))
    return min(found, key=lambda one: one.full_in_s, default=None)


def hint(belief: Belief, now: float, rules: Policy) -> Sign | None:
    """What the last bad answer to any check looked like, or that what clients ask most is not answered soon; None when
    all were answered well, or not at all.
    """
    hints = (probe.hint(asked) for asked, _ in _declared(belief, rules))
    found = next((sign for sign in hints if sign is not None), None)
    return Sign.STALLED if found is None and confirm.late(belief.asked, now) else found


def silent(belief: Belief, rules: Policy) -> bool:
    """Whether a check that was asked last got no answer."""
    return any(asked.unanswered_since_at is not None for asked, _ in _declared(belief, rules))


def good_at(belief: Belief, rules: Policy) -> float | None:
    """When the replica last proved to be well, by all checks that were ever answered well: the oldest of the last good
    answers. None before the first one.
    """
    goods = (asked.last_good_at for asked, _ in _declared(belief, rules))
    return min((at for at in goods if at is not None), default=None)


def clock_ahead_s(belief: Belief, rules: Policy) -> float | None:
    """By how many seconds the replica's clock is wrong, by any check that tells."""
    found = (probe.clock_ahead_s(asked) for asked, _ in _declared(belief, rules))
    return next((off for off in found if off is not None), None)


def look_again_at(belief: Belief, now: float, rules: Policy) -> float:
    """The earliest instant after `now` at which time alone, with no new observation, can complete a verdict."""
    instants = [probe.silence_convicts_at(asked) for asked, _ in _declared(belief, rules)]
    if rules.service.heartbeat is not None:
        every_s = rules.service.heartbeat.every_s
        instants.append(heartbeat.convicts_at(belief.told, every_s, rules.heartbeat_limit))
    return min((at for at in instants if at > now), default=float("inf"))


def started(belief: Belief) -> Belief:
    """The belief about a replica that has just become ready: what it did not answer while it started is forgotten."""
    asked = {
        label: replace(one, scores=cusum.NOTHING, recent=(), misses=0, unanswered_since_at=None)
        for label, one in belief.asked.items()
    }
    return replace(belief, asked=asked)


def shifted(belief: Belief, pause_s: float) -> Belief:
    """The belief after a pause of the monitor itself: nobody looked for `pause_s`, so no silence counts for that
    time.
    """
    kernel = process.shifted(belief.kernel, pause_s)
    asked = {
        label: replace(one, unanswered_since_at=one.unanswered_since_at + pause_s)
        if one.unanswered_since_at is not None
        else one
        for label, one in belief.asked.items()
    }
    holdings = limits.shifted(belief.holdings, pause_s)
    told, stalled = heartbeat.shifted(belief.told, pause_s), stall.shifted(belief.stalled, pause_s)
    return replace(belief, kernel=kernel, holdings=holdings, asked=asked, told=told, stalled=stalled)


def _declared(belief: Belief, rules: Policy) -> Iterator[tuple[probe.Asked, float]]:
    """The evidence of each check that is still declared, with its limit; a reload may have taken the others away."""
    for label, limit in rules.probe_limits.items():
        asked = belief.asked.get(label)
        if asked is not None:
            yield asked, limit


def _two_halves(belief: Belief, now: float, rules: Policy, silence_counts: bool) -> Verdict | None:
    halves: dict[EvidenceClass, Suspicion] = {}
    for suspicion in suspicions(belief, now, rules, scored=True):
        known = halves.get(suspicion.evidence)
        if suspicion.own and suspicion.share > HALF and (known is None or suspicion.share > known.share):
            halves[suspicion.evidence] = suspicion
    for judged_apart in (EvidenceClass.PROCESS, EvidenceClass.LIMIT, EvidenceClass.STALL, EvidenceClass.DIGEST):
        halves.pop(judged_apart, None)
    if not silence_counts:
        halves.pop(EvidenceClass.HEARTBEAT, None)
    asked = belief.asked[halves[EvidenceClass.PROBE].endpoint] if EvidenceClass.PROBE in halves else None
    if asked is not None and not _speaks(asked, now, silence_counts):
        halves.pop(EvidenceClass.PROBE)
    if len(halves) < 2:
        return None
    strongest = max(halves.values(), key=lambda suspicion: suspicion.share)
    names = " and ".join(sorted(suspicion.evidence.value for suspicion in halves.values()))
    return Verdict(
        strongest.evidence,
        _SIGN_OF[strongest.evidence],
        f"two kinds of evidence agree: {names}",
        endpoint=strongest.endpoint,
        score=strongest.score,
        threshold=strongest.limit,
        facts={suspicion.evidence.value: round(suspicion.share, 2) for suspicion in halves.values()},
    )


def _speaks(asked: probe.Asked, now: float, silence_counts: bool) -> bool:
    """Silence speaks only when it lasted too long for a pause; any other miss speaks at once."""
    silence = silence_counts and probe.silence_speaks(asked, now)
    return asked.misses > 0 and (asked.last_outcome is not Outcome.TIMEOUT or silence)
