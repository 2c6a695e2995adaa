"""When a replica is ended because it failed, and when its slot gets the next one.

`condemn` ends what isolation did not cure: at once when only a restart can repair it (it hangs, its process is
stopped), after some patience when it answers with errors, never for a shared error that a restart cannot cure. Silence
to the monitor alone is no hang while HAProxy reaches the replica with the same question (`detect.vantage`): isolation
costs little if that is wrong, a restart costs a replica that might never be heard again.
Restarts that Perdure orders pass a token bucket for each service, so that a common cause does not become a restart
storm.

`ended` is the back-off: 100 ms, doubling, capped, with jitter; a healthy spell resets it. It never ends in a permanent,
silent stop: the slot keeps trying at the cap, and the service shows that it is crash-looping.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perdure.model import backoff
from perdure.model.decision import Decision, End, Kill
from perdure.model.event import Severity
from perdure.model.replica import State
from perdure.model.service import Restart, Service
from perdure.model.standing import History, Standing, View
from perdure.model.verdict import DEFINITIVE, MEASURED, UNRESPONSIVE, Sign, Verdict

HEALTHY_SPELL_S = 10.0
"""A replica that served this long resets the back-off of its slot."""
CRASH_LOOP_FAILURES = 3
HANG_GRACE_S = 1.0
PATIENCE_S = {
    Sign.BLOCKED: 60.0,
    Sign.BACKLOG: 5.0,
    Sign.DESCRIPTORS: 10.0,
    Sign.REFUSED: 3.0,
    Sign.STATUS: 10.0,
    Sign.CONTENT: 10.0,
}
PATIENCE_ELSEWHERE_S = 10.0
"""It hangs at one endpoint and answers clients at others: as with an error there, a restart may cure it or not."""
SERVING_PATIENCE_S = 10.0
"""Who keeps its traffic, since nobody could take it, may answer a part of it well, and its restart leaves all of it to
nobody. So it gets this long at least, unless it answers nobody: it hangs, or its port refuses. What all refuse may be
the network's doing, and is not repaired by haste.
"""
HOPELESS = frozenset({Sign.FOREIGN, Sign.STOPPED})
"""Signs of which a starting replica does not recover: it is ended before its start has taken too long."""
KILL_AGAIN_S = 1.0
REFILL_S = 5.0
RELAPSE_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """Restarts that Perdure may order for one service now."""

    tokens: float
    at: float

    @staticmethod
    def capacity(replicas: int) -> float:
        """A tenth of the replicas, at least two."""
        return max(2.0, replicas / 10.0)

    def refilled(self, replicas: int, now: float) -> "Bucket":
        """The bucket at `now`: one token each `REFILL_S` seconds, up to the capacity."""
        return Bucket(min(self.capacity(replicas), self.tokens + (now - self.at) / REFILL_S), now)


HEARS_S = 3.0
"""The monitor must have heard somebody for so long before who starts is late: it may have answered in vain."""
LATE_AGAIN_S = 0.5
ROUNDING_S = 1e-6


def condemn(
    service: Service, standings: Sequence[Standing], shared: frozenset[Sign], bucket: Bucket, now: float
) -> list[Decision]:
    """End the replicas that a restart can repair, and what did not start in time; kill what outlived its grace."""
    decisions = [decision for standing in standings if (decision := _overdue(service, standing, now))]
    tokens = bucket.refilled(len(standings), now).tokens
    moving = sum(1 for standing in standings if _moving(standing, now))
    for standing in standings:
        verdict = _condemned(standing, shared, service, now)
        if verdict is None or tokens < 1.0:
            continue
        if verdict.sign not in DEFINITIVE and moving and verdict.sign in shared:
            continue
        tokens -= 1.0
        moving += 1
        decisions.append(_end(service, standing, verdict))
    return decisions


def spent(bucket: Bucket, replicas: int, decisions: Sequence[Decision], now: float) -> Bucket:
    """The bucket after `decisions`: each ordered restart (rule R11) takes a token."""
    taken = sum(1 for decision in decisions if decision.rule == "R11")
    full = bucket.refilled(replicas, now)
    return Bucket(full.tokens - taken, now) if taken else bucket


def ended(history: History, restart: Restart, ready_s: float | None, now: float, jitter: float | None) -> History:
    """The slot's memory after its replica ended: when the next one may start.

    `ready_s` is how long it served, None when it never became ready. `jitter` in [0, 1) for a failure; None when the
    end was planned, and the next one may start at once.
    """
    if jitter is None:
        return replace(history, failures=0, next_start_at=now, relapses=0, readmitted_at=None)
    failures = 1 if ready_s is not None and ready_s >= HEALTHY_SPELL_S else history.failures + 1
    delay_s = backoff.delay_s(failures, restart.backoff_s, restart.backoff_s_max, jitter)
    return replace(history, failures=failures, next_start_at=now + delay_s, readmitted_at=None)


def crash_looping(history: History) -> bool:
    """Whether the slot's replicas keep failing without a healthy spell."""
    return history.failures >= CRASH_LOOP_FAILURES


def convicted(history: History, now: float) -> History:
    """The slot's memory after an isolation: one soon after a readmission is a relapse, a late one starts anew."""
    relapsed = history.readmitted_at is not None and now - history.readmitted_at < RELAPSE_WITHIN_S
    return replace(history, relapses=history.relapses + 1 if relapsed else 0)


def look_again_at(service: Service, standings: Sequence[Standing], bucket: Bucket, now: float) -> float:
    """The earliest instant at which time alone makes one of the decisions here due."""
    instants = [float("inf")]
    for standing in standings:
        replica = standing.replica
        if replica is None:
            continue
        if replica.state is State.STARTING:
            late_at = replica.since_at + service.restart.start_timeout_s
            instants.append(late_at if late_at > now else now + LATE_AGAIN_S)
        elif replica.state is State.STOPPING and replica.stop_deadline_at is not None:
            instants.append(replica.stop_deadline_at)
        if standing.verdict is not None and standing.verdict_since_at is not None:
            ready_at = standing.verdict_since_at + PATIENCE_S.get(standing.verdict.sign, 0.0)
            waits = bucket.refilled(len(standings), now).tokens < 1.0
            instants.append(max(ready_at, now + REFILL_S / 5.0) if waits or ready_at <= now else ready_at)
    return min(instants)


def _moving(standing: Standing, now: float) -> bool:
    """Whether a slot is between two replicas, its back-off included."""
    waits = standing.state_is(State.STOPPED) and now <= standing.history.next_start_at
    return waits or standing.state_is(State.STARTING, State.STOPPING)


def _overdue(service: Service, standing: Standing, now: float) -> Decision | None:
    replica, subject = standing.replica, str(standing.slot)
    if replica is None:
        return None
    if replica.state is State.STOPPING and replica.stop_deadline_at is not None and now >= replica.stop_deadline_at:
        return Decision("R12", subject, "did not end in time: its process group is killed", Kill(standing.slot))
    late_at = replica.since_at + standing.stopped_s + service.restart.start_timeout_s - ROUNDING_S
    heard = standing.hears_s >= HEARS_S and standing.heard_at >= late_at
    if replica.state is State.STARTING and now >= late_at and heard:
        sentence = f"is ended: {service.restart.start_timeout_s:g} s after its start {standing.awaits}"
        end = End(standing.slot, service.restart.stop_timeout_s, failed=True)
        return Decision("R13", subject, sentence, end, severity=Severity.WARNING)
    if replica.state is State.STARTING and standing.verdict is not None and standing.verdict.sign in HOPELESS:
        grace_s = 0.0 if standing.verdict.sign is Sign.STOPPED else service.restart.stop_timeout_s
        end = End(standing.slot, grace_s, failed=True)
        return Decision("R14", subject, f"is ended: {standing.verdict.sentence}", end, severity=Severity.WARNING)
    return None


def _condemned(standing: Standing, shared: frozenset[Sign], service: Service, now: float) -> Verdict | None:
    """The verdict for which this replica must be ended now, or None."""
    verdict, since_at = standing.verdict, standing.verdict_since_at
    ill = standing.serving or standing.state_is(State.ISOLATED, State.PASSIVE)
    if not ill or since_at is None or verdict is None:
        return None
    answers = verdict.sign not in UNRESPONSIVE and (verdict.sign is not Sign.REFUSED or verdict.sign in shared)
    if standing.serving and answers and now - since_at < SERVING_PATIENCE_S:
        return None
    if verdict.sign is Sign.DIVERGED:
        return None  # the next replica would have the same data
    if verdict.sign is Sign.HANG and standing.view in (View.ANSWERS, View.UP):
        if verdict.endpoint == service.asked_by_balancer.label:
            return None  # HAProxy reaches it, and asks the same
        return verdict if now - since_at >= PATIENCE_ELSEWHERE_S else None
    if verdict.sign in MEASURED:
        return verdict if standing.state_is(State.ISOLATED) and standing.history.relapses else None
    curable = verdict.sign in UNRESPONSIVE - {Sign.STALLED} or verdict.sign is Sign.REFUSED
    if verdict.sign in shared and not curable:
        return None
    if verdict.sign is Sign.MEMORY:
        waited = now - since_at >= service.restart.drain_timeout_s
        return verdict if waited or standing.in_flight == 0 else None
    return verdict if now - since_at >= PATIENCE_S.get(verdict.sign, 0.0) else None


def _end(service: Service, standing: Standing, verdict: Verdict) -> Decision:
    grace_s = service.restart.stop_timeout_s
    if verdict.sign is Sign.STOPPED:
        grace_s = 0.0
    elif verdict.sign in UNRESPONSIVE:
        grace_s = min(HANG_GRACE_S, grace_s)
    facts = {"sign": verdict.sign.value, "grace_s": grace_s, **verdict.facts}
    sentence = f"is restarted: {verdict.sentence}"
    return Decision(
        "R11", str(standing.slot), sentence, End(standing.slot, grace_s, failed=True), facts, Severity.WARNING
    )
