"""Whether a turn could decide anything: a cheap look that spares a simulated day nine of ten turns.

A turn isolates at the limit, or at two halves of it, suspects at one, and names a common cause when replicas
fail a tenth of their requests, or refuse or delay three tenths. While all that is known of every replica is below that
there is nothing to decide; to take a suspicion back can wait. `tests/simulation/test_days.py` takes such turns anyway,
and looks.
Neighbours: `detect.suspect` holds the limits, `days` asks.
"""

from perdure.control.world import ServiceState, SlotState
from perdure.detect import heartbeat, sampled, stall, suspect
from perdure.detect.peers import Tally
from perdure.model.replica import SERVING

FAILED_MIN = sampled.SHARE_TOLD[sampled.ERRORS.sign] * sampled.FAILING_REQUESTS_MIN
"""Fewer failures in the last 10 s are no tenth of ten requests."""


def decides_nothing(service: ServiceState, now: float) -> bool:
    """Whether a turn of this service would at most take suspicions back (R04); may be False for no reason."""
    if service.notes or service.shared_at or len(service.slots) < service.desired.replicas:
        return False
    return all(_unsuspicious(slot, service.rules, now) for slot in service.slots.values())


def _unsuspicious(slot: SlotState, rules: suspect.Policy, now: float) -> bool:
    belief = slot.belief
    if slot.replica is None or slot.replica.state not in SERVING or slot.verdict is not None or slot.exited:
        return False
    if stall.overdue(belief.stalled) or not _asked_well(belief, rules):
        return False
    kernel, held = belief.kernel, belief.holdings
    if kernel.stopped_since_at is not None or kernel.blocked_since_at is not None or kernel.memory_over:
        return False
    if held.backlog_full_since_at is not None or held.descriptors_full:
        return False
    every = rules.service.heartbeat
    if every is not None and now >= heartbeat.expected_by(belief.told, every.every_s):
        return False
    if belief.seen.tallies[1].failures >= FAILED_MIN or max(belief.seen.scores) >= suspect.HALF * rules.traffic_limit:
        return False
    limit = suspect.HALF * sampled.limit(rules.service.false_alarms_per_s, len(belief.endpoints))
    for endpoint in belief.endpoints.values():
        errors, refusals, slowness = endpoint.seen
        if errors.tallies[1].failures >= FAILED_MIN or _third(refusals.tallies[1]) or _third(slowness.tallies[1]):
            return False
        if max(errors.scores) >= limit or max(refusals.scores) >= limit or max(slowness.scores) >= limit:
            return False
    return True


def _asked_well(belief: suspect.Belief, rules: suspect.Policy) -> bool:
    """Whether no check was missed lately."""
    for label, limit in rules.probe_limits.items():
        asked = belief.asked.get(label)
        if asked is None or asked.misses or max(asked.scores) >= suspect.HALF * limit:
            return False
    return True


def _third(lately: Tally) -> bool:
    """Whether it may be that three tenths of the requests are bad, and that they are enough to say."""
    share = sampled.SHARE_TOLD[sampled.REFUSALS.sign]
    return lately.requests >= sampled.FAILING_REQUESTS_MIN and lately.failures >= share * lately.requests
