"""When a replica gets traffic again: only the evidence that convicted it can acquit it.

A good /health alone never readmits: a replica isolated for a failing check must answer that very check, several
times; one isolated for silence must send heartbeats; one isolated for failed requests gets no requests, so it can
only be tried again after the hold-down, on half the usual suspicion. Each relapse doubles the hold-down.
"""

from dataclasses import replace

from perdure.detect import cusum, digest, heartbeat, peers, sampled, stall, suspect, traffic
from perdure.model.evidence import MEASURED, EvidenceClass
from perdure.model.verdict import Conviction, Sign

GOODS_NEEDED = 3
HOLD_DOWN_S = 1.0
HOLD_DOWN_TRAFFIC_S = 5.0
HOLD_DOWN_S_MAX = 60.0


def hold_down_s(conviction: Conviction, relapses: int) -> float:
    """How long the replica stays out at least; doubles with each relapse, at most a minute."""
    first_s = HOLD_DOWN_TRAFFIC_S if conviction.evidence in MEASURED else HOLD_DOWN_S
    return min(HOLD_DOWN_S_MAX, first_s * 2.0 ** min(relapses, 10))


def acquits(belief: suspect.Belief, conviction: Conviction, relapses: int, now: float, rules: suspect.Policy) -> bool:
    """Whether the hold-down is over, the convicting evidence has turned, and no other class convicts."""
    if now < conviction.at + hold_down_s(conviction, relapses):
        return False
    if suspect.judge(_without_traffic(belief), now, rules) is not None:
        return False
    answered = all(_answers(belief, label, conviction) for label in rules.probe_limits)
    match conviction.evidence:
        case EvidenceClass.PROBE if conviction.endpoint in rules.probe_limits:
            return _answers(belief, conviction.endpoint, conviction)
        case EvidenceClass.HEARTBEAT:
            every = rules.service.heartbeat
            late = every is None or now > heartbeat.expected_by(belief.told, every.every_s)
            return belief.told.last_at > conviction.at and not late
        case EvidenceClass.LIMIT if conviction.sign is Sign.BACKLOG:
            return answered and belief.holdings.backlog_full_since_at is None
        case EvidenceClass.LIMIT if conviction.sign is Sign.DESCRIPTORS:
            return answered and belief.holdings.descriptors_full == 0
        case EvidenceClass.LIMIT:
            unlimited = rules.service.limits.memory_bytes is None
            return unlimited or (belief.kernel.memory_bytes is not None and belief.kernel.memory_over == 0)
        case EvidenceClass.DIGEST:
            return answered and (rules.service.digest is None or belief.compared.agreed >= digest.ROUNDS)
        case EvidenceClass.PROCESS:
            return answered and belief.kernel.stopped_since_at is None and belief.kernel.blocked_since_at is None
        case _:
            return answered


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


def _answers(belief: suspect.Belief, label: str, conviction: Conviction) -> bool:
    """Whether a check is answered well, several times, and still after the conviction."""
    asked = belief.asked.get(label)
    if asked is None or asked.goods < GOODS_NEEDED or asked.last_good_at is None:
        return False
    return asked.last_good_at >= conviction.at
