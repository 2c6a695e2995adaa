"""When a replica gets traffic again: only the evidence that convicted it can acquit it.

A good /health alone never readmits: a replica isolated for a failing check must answer that very check, several
times; one isolated for silence must send heartbeats; one isolated for failed requests gets no requests, so it can
only be tried again after the hold-down, on half the usual suspicion. Each relapse doubles the hold-down.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from perdure.detect import cusum, digest, heartbeat, peers, probe, sampled, stall, suspect, traffic
from perdure.model.evidence import MEASURED, EvidenceClass
from perdure.model.verdict import Conviction, Sign, Verdict

GOODS_NEEDED = 3
HOLD_DOWN_S = 1.0
HOLD_DOWN_TRAFFIC_S = 5.0
HOLD_DOWN_S_MAX = 60.0


def hold_down_s(conviction: Conviction, relapses: int) -> float:
    """How long the replica stays out at least; doubles with each relapse, at most a minute."""
    first_s = HOLD_DOWN_TRAFFIC_S if conviction.evidence in MEASURED else HOLD_DOWN_S
    return min(HOLD_DOWN_S_MAX, first_s * 2.0 ** min(relapses, 10))


@dataclass(frozen=True, slots=True)
class Remaining:
    """What still keeps an isolated replica out."""

    hold_down_s: float
    goods: Mapping[str, int]
    """Check -> how many good answers more it takes."""
    evidence: str = ""
    """What else the evidence that convicted must show; empty: nothing."""
    verdict: Verdict | None = None
    """What convicts it now, whatever convicted it before."""

    @property
    def over(self) -> bool:
        """Whether nothing keeps it out any more."""
        return self.hold_down_s <= 0.0 and not self.goods and not self.evidence and self.verdict is None


def remaining(
    belief: suspect.Belief, conviction: Conviction, relapses: int, now: float, rules: suspect.Policy
) -> Remaining:
    """What must come before the replica is readmitted."""
    probed, limited = conviction.evidence is EvidenceClass.PROBE, conviction.sign is Sign.MEMORY
    asked = [conviction.endpoint] if probed and conviction.endpoint in rules.probe_limits else [*rules.probe_limits]
    told = conviction.evidence is EvidenceClass.HEARTBEAT and rules.service.heartbeat is not None
    if limited or told:
        asked = []
    missing = {label: _goods_missing(belief.asked.get(label), conviction) for label in asked}
    return Remaining(
        max(0.0, conviction.at + hold_down_s(conviction, relapses) - now),
        {label: number for label, number in missing.items() if number},
        _unturned(belief, conviction, now, rules),
        suspect.judge(_without_traffic(belief), now, rules),
    )


def acquits(belief: suspect.Belief, conviction: Conviction, relapses: int, now: float, rules: suspect.Policy) -> bool:
    """Whether the hold-down is over, the convicting evidence has turned, and no other class convicts."""
    if now < conviction.at + hold_down_s(conviction, relapses):
        return False
    return remaining(belief, conviction, relapses, now, rules).over


def on_trial(belief: suspect.Belief, conviction: Conviction, now: float, rules: suspect.Policy) -> suspect.Belief:
    """The belief with which a readmitted replica starts: if failed requests convicted it, half of the limit is held
    against it; the probes from before it was acquitted are not.
    """
    held = 0.5 if conviction.evidence in MEASURED else 0.0
    everywhere = held if not conviction.endpoint else 0.0
    scores = (rules.traffic_limit * everywhere,) * len(cusum.GRID)
    past = belief.seen.tallies[2]
    seen = traffic.Seen(scores, (peers.Tally(), peers.Tally(), past), at=now)
    limit = sampled.limit(rules.service.false_alarms_per_s, len(belief.endpoints))
    endpoints = sampled.on_trial(belief.endpoints, conviction.evidence, conviction.endpoint, limit * held, now)
    return replace(suspect.started(belief), seen=seen, endpoints=endpoints, stalled=stall.Stall())


def _without_traffic(belief: suspect.Belief) -> suspect.Belief:
    """No requests reach an isolated replica, so what it did before can neither convict nor acquit."""
    seen = replace(belief.seen, scores=cusum.NOTHING)
    return replace(belief, seen=seen, endpoints=sampled.without_scores(belief.endpoints), stalled=stall.Stall())


def _goods_missing(asked: probe.Asked | None, conviction: Conviction) -> int:
    """How many good answers more a check must get: several in a row, and the last one after the conviction."""
    if asked is None:
        return GOODS_NEEDED
    since = asked.last_good_at is not None and asked.last_good_at >= conviction.at
    return max(GOODS_NEEDED - asked.goods, 0 if since else 1)


def _unturned(belief: suspect.Belief, conviction: Conviction, now: float, rules: suspect.Policy) -> str:
    """What the evidence that convicted must show beside good answers; empty when it does."""
    kernel, limit = belief.kernel, rules.service.limits.memory_bytes
    match conviction.evidence:
        case EvidenceClass.HEARTBEAT:
            every = rules.service.heartbeat
            if every is None:
                return ""
            late = now > heartbeat.expected_by(belief.told, every.every_s)
            return "a heartbeat" if late or belief.told.last_at <= conviction.at else ""
        case EvidenceClass.LIMIT if conviction.sign is Sign.BACKLOG:
            return "room in its backlog" if belief.holdings.backlog_full_since_at is not None else ""
        case EvidenceClass.LIMIT if conviction.sign is Sign.DESCRIPTORS:
            return "free descriptors" if belief.holdings.descriptors_full else ""
        case EvidenceClass.LIMIT if limit is not None and (kernel.memory_bytes is None or kernel.memory_over):
            return f"less than {limit / 1e6:.0f} MB of memory"
        case EvidenceClass.DIGEST if rules.service.digest is not None and belief.compared.agreed < digest.ROUNDS:
            return f"agreement with its peers (rounds left: {digest.ROUNDS - belief.compared.agreed})"
        case EvidenceClass.PROCESS if kernel.stopped_since_at is not None or kernel.blocked_since_at is not None:
            return "that its process runs"
    return ""
