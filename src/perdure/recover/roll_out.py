"""How a new release is let in, step by step, and when it is thrown out.

Intuition: nothing that was not tried gets all the traffic, and what was let in can be taken out at once. A new replica
proves to be stable, is tested without traffic, then gets a growing share beside the old release, which serves as the
control: what both do is not the new one's fault. At each step there are three ways out: on (enough time, enough
requests, tests passed), back (it ended twice, it is ill, a test failed, it fails or is slow where the old one is not,
no progress), or hold (both fail: not this release). After the last step the old replicas stand by without traffic; when
the release turns bad then, the old one is recalled for a share, so that there is something to compare with, and only a
comparison that it loses takes it back.

A rollback is one move: the new release loses its traffic in the same write that says so.

Hard cases: evidence of a short burst on the one new replica (a fresh one is tried elsewhere, once); few requests (it
waits, and says so); everything of the new release is dead after the end (nothing to compare: the old one takes over);
a service of a group (waits at its last step for the others, and goes back with them).
Rejected: rolling back a release that fails alike on both arms; pausing half-way when nothing moves.
Neighbours: `compare` judges failures and response times; `control.rollouts` gathers the facts, and writes each move
before anything is done.
"""

import math
from dataclasses import replace

from perdure.model.deploy import BAKE_SHARE, Deploy, Step, Strategy
from perdure.model.event import Severity
from perdure.model.release import RECALL_SHARE, Phase, Rollout
from perdure.model.service import Standby
from perdure.model.standing import Desired
from perdure.recover import roll_back
from perdure.recover.rollout_facts import Facts, Move, Side, Tried

BURST_S = 30.0
"""Failures that all came within this may be the fault of one replica, or of a moment."""
STANDS_S = 3.0
"""What makes both releases ill shows at one of them first, by so much at most: a hang is seen after two to three."""
ILL_S = 10.0
"""A replica of the new release that fails its checks for so long is no good."""
UNTESTED = Tried()
SERVES = frozenset({Phase.WATCHING, Phase.RECALLED, Phase.DONE})
"""The new release is the one that counts."""
PROVEN_S = 5.0
"""A replaced replica of a rolling change serves for so long before the next one is replaced."""


def settled(desired: Desired, rollout: Rollout) -> Desired:
    """What is wanted once a rollout is in this phase: which release counts follows from it."""
    counts = rollout.new if rollout.phase in SERVES else rollout.old
    after = replace(desired, rollout=rollout)
    if counts.release == desired.release:
        return after
    slots = desired.numbers if rollout.in_place else counts.slots
    count = len(slots)
    placed = () if slots == tuple(range(1, count + 1)) else slots
    after = replace(after, release=counts.release, service=counts.service, replicas=count, placed=placed)
    return replace(after, drained=tuple(number for number in desired.drained if number in after.slots))


def plan(deploy: Deploy, strategy: Strategy, replicas: int, *, one_active: bool = False) -> tuple[Step, ...]:
    """The steps of a rollout: shares that grow, then the bake; of a rolling change one for each replica, and of an
    active-passive service one.
    """
    match strategy:
        case Strategy.CANARY:
            baked = (Step(BAKE_SHARE, deploy.bake_s),) if deploy.bake_s > 0.0 else ()
            return (*deploy.steps, *baked)
        case Strategy.BLUE_GREEN:
            return (Step(1.0, deploy.bake_s),)
        case Strategy.ROLLING if one_active:
            return (Step(1.0, deploy.stable_s),)
        case Strategy.ROLLING:
            return tuple(Step((number + 1) / replicas, PROVEN_S) for number in range(replicas))


def needed(rollout: Rollout, step: int, replicas: int) -> int:
    """How many replicas of the new release carry a step (-1: the first start)."""
    if rollout.new.service.one_active:
        return len(rollout.new.slots)
    if rollout.strategy is Strategy.BLUE_GREEN:
        return replicas
    share = rollout.steps[max(0, step)].share if step < len(rollout.steps) else 1.0
    return min(replicas, max(1, math.ceil(share * replicas - 1e-9)))


def decide(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """The next move, or None: it waits. Deciding twice on the same facts gives the same move."""
    deploy = rollout.new.service.deploy
    match rollout.phase:
        case Phase.STARTING | Phase.TESTING | Phase.SHARING:
            bad = None if rollout.told else _thrown_out(rollout, facts, now)
            return bad or _on_trial(rollout, facts, deploy, now) or _overdue(rollout, facts, now)
        case Phase.WATCHING:
            return roll_back.watch(rollout, facts, deploy, now)
        case Phase.RECALLED:
            return roll_back.recalled(rollout, facts, now)
        case Phase.GOING_BACK:
            return roll_back.going_back(rollout, facts, now)
    return None


def waits_for(rollout: Rollout, facts: Facts, now: float) -> str:
    """What a rollout waits for now, in words."""
    deploy = rollout.new.service.deploy
    match rollout.phase:
        case Phase.STARTING if not facts.new.whole:
            return f"{facts.new.serving} of {facts.new.wanted} new replicas answer their checks"
        case Phase.STARTING:
            return f"stable for {max(0.0, now - facts.new.since_at):.0f} of {_stable_s(rollout):.0f} s"
        case Phase.TESTING:
            return "the tests run"
        case Phase.SHARING:
            return _step_waits_for(rollout, facts, deploy, now)
        case Phase.WATCHING:
            return f"watched for {max(0.0, rollout.phase_at + deploy.watch_s - now) / 60.0:.0f} more minutes"
        case Phase.RECALLED:
            return "compared with the release before"
        case Phase.GOING_BACK if not facts.old.whole:
            return f"{facts.old.serving} of {facts.old.wanted} replicas of {rollout.old.release} serve"
        case Phase.GOING_BACK:
            return f"{facts.new.live} of its replicas still end"
    return ""


def _thrown_out(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """Whether it goes back now, from wherever it is on trial."""
    new, name = facts.new, rollout.new.release
    if facts.group.failed:
        return roll_back.together(rollout, facts, now)
    if _died(facts) and (facts.stands or rollout.phase is Phase.STARTING):
        return roll_back.ended(rollout, f"replicas of {name} ended {new.deaths} times", facts, now)
    ill_alone_s = min(new.ill_s, now - ill_together_at(facts, now))
    if ill_alone_s >= ILL_S:
        return roll_back.ended(rollout, f"half of {name} has been ill for {ill_alone_s:.0f} s", facts, now)
    if facts.tests.failed and facts.stands:
        return roll_back.untrue(rollout, facts, now)
    guilty, burst_s = _guilty(rollout, facts)
    if guilty and not rollout.back:
        again = rollout.attempt == 1 and burst_s < BURST_S and not rollout.in_place
        if again and not rollout.holds:
            within = f", all within {math.ceil(burst_s)} s" if burst_s else ""
            return _again(rollout, facts, guilty + within, now)
        return roll_back.to_blame(rollout, guilty, facts, now)
    return None


def accused(facts: Facts) -> bool:
    """Whether something speaks against the new release that a common cause would show as well: its replicas have ended,
    do not answer what they are asked, or fail their test.
    """
    return _died(facts) or _isolated(facts.new) or bool(facts.tests.failed)


def _died(facts: Facts) -> bool:
    return facts.new.deaths >= roll_back.DEATHS_MAX and facts.new.deaths > facts.old.deaths


def _isolated(new: Side) -> bool:
    return new.convicted > 0 and 2 * new.convicted >= new.wanted


def _better_than_nothing(rollout: Rollout, facts: Facts) -> bool:
    """Whether somebody goes back, and what he goes back to is all that serves."""
    return rollout.back and facts.new.serving > 0 and not facts.old.serving


def _ill_together(facts: Facts) -> bool:
    """Whether the old release is ill as well, so that it is not the fault of the new one."""
    return facts.new.ill_s > 0.0 and (bool(facts.evidence.shared) or facts.old.ill_s >= ILL_S / 2.0)


def ill_together_at(facts: Facts, now: float) -> float:
    """When both releases were ill last: when what they share is over, one of them is seen to be well first."""
    return now if _ill_together(facts) else facts.ill_together_at


def _overdue(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """No progress for too long: it goes back, also when it is only observed, for nothing more would ever happen."""
    due_s = rollout.steps[rollout.step].for_s if rollout.phase is Phase.SHARING else 0.0
    progress_at = max(rollout.progress_at, rollout.phase_at + due_s, progressed(rollout, facts, now))
    if now < progress_at + rollout.new.service.deploy.deadline_s or (rollout.told and not rollout.observe):
        return None
    why = f"{rollout.new.release} made no progress: {waits_for(rollout, facts, now)}"
    return roll_back.back(replace(rollout, observe=False), "L14", why, facts, now)


def progressed(rollout: Rollout, facts: Facts, now: float) -> float:
    """Until when there was progress that is not written down: requests, where nothing but requests is waited for; and
    what is not the fault of the new release does not count against it.
    """
    held = bool(facts.evidence.shared) or _ill_together(facts) or _waits_for_others(rollout, facts)
    return max(facts.progress_at, now if held else -math.inf, facts.evidence.asked_at if facts.new.whole else -math.inf)


def _guilty(rollout: Rollout, facts: Facts) -> tuple[str, float]:
    """Why the new release is to blame, with its name as the subject, and within how long all came that says so.

    The comparison says it, or the monitor has isolated half of its replicas and none of the old one's: it needs fewer
    failures, for it compares single replicas. Where one alone is active there is nothing to compare with but the past;
    handing back costs no request.
    """
    new = facts.new
    if rollout.new.service.one_active:
        return facts.evidence.suspicious, 0.0
    if facts.evidence.guilty:
        return facts.evidence.guilty, facts.evidence.burst_s
    stands = facts.stands or 2 * new.failing >= new.wanted
    if _isolated(new) and stands and not facts.old.convicted and not facts.evidence.shared:
        return f"had {new.convicted} of its {new.wanted} replicas isolated: {new.ill_for}", 0.0
    return "", math.inf


def _again(rollout: Rollout, facts: Facts, why: str, now: float) -> Move:
    """Take the traffic off, and try fresh replicas elsewhere."""
    count = needed(rollout, -1, facts.replicas)
    fresh = replace(rollout.new, slots=facts.free[:count])
    tried = replace(
        rollout,
        new=fresh,
        phase=Phase.STARTING,
        step=-1,
        phase_at=now,
        progress_at=now,
        attempt=2,
        tested=False,
        numbers=facts.evidence.numbers,
    )
    sentence = f"{rollout.new.release} gets no traffic: it {why}: a fresh replica is tried once"
    return Move("L06", tried, sentence, Severity.WARNING, facts=facts.evidence.numbers)


def _on_trial(rollout: Rollout, facts: Facts, deploy: Deploy, now: float) -> Move | None:
    match rollout.phase:
        case Phase.STARTING if _starts_active(rollout):
            return _share(rollout, 0, now)
        case Phase.STARTING:
            stable = facts.new.whole and now - facts.new.since_at >= _stable_s(rollout)
            stable = stable or _better_than_nothing(rollout, facts)
            return _next(rollout, facts, now) if stable else None
        case Phase.TESTING:
            return _share(rollout, 0, now) if _tests_are_over(rollout, facts) else None
    suspicious = facts.evidence.suspicious and not facts.evidence.shared
    if suspicious and rollout.share > RECALL_SHARE and roll_back.may_compare(rollout):
        return roll_back.recall(rollout, facts, now)
    if not rollout.tested and facts.tests.passed:
        return roll_back.tested(rollout, now)
    if not rollout.tested and _tests_are_over(rollout, facts):
        rollout = replace(rollout, tested=True)
    if _step_waits_for(rollout, facts, deploy, now):
        return None
    limit = deploy.errors_max
    if limit is not None and facts.evidence.error_share > limit and not (rollout.back or rollout.told):
        what = f"fails {facts.evidence.error_share:.1%} of its requests; at most {limit:.1%} may"
        return roll_back.to_blame(rollout, what, facts, now)
    return _next(rollout, facts, now)


def _tests_are_over(rollout: Rollout, facts: Facts) -> bool:
    """They have passed; or one has failed, and that was told of a release that goes on all the same."""
    return facts.tests.passed or (rollout.told and bool(facts.tests.failed))


def _next(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """On to what comes next: the tests, another share with as many replicas as it needs, or the end."""
    deploy = rollout.new.service.deploy
    if rollout.phase is Phase.STARTING and deploy.tests and not rollout.back:
        tested = replace(rollout, phase=Phase.TESTING, phase_at=now, progress_at=now)
        return Move("L02", tested, f"{rollout.new.release} is stable, and is tested without traffic")
    step = rollout.step + 1
    count = needed(rollout, step, facts.replicas)
    if len(rollout.new.slots) < count:
        return _grow(rollout, facts, count, now)
    if not facts.new.whole and not _better_than_nothing(rollout, facts):
        return None
    if step < len(rollout.steps):
        return _share(rollout, step, now)
    return _finish(rollout, now) if facts.group.ready or rollout.skip else None


def _grow(rollout: Rollout, facts: Facts, count: int, now: float) -> Move:
    more = [slot for slot in (rollout.old.slots if rollout.in_place else facts.free) if slot not in rollout.new.slots]
    slots = (*rollout.new.slots, *more)[:count]
    grown = replace(rollout, new=replace(rollout.new, slots=slots), progress_at=now)
    return Move("L04", grown, f"{rollout.new.release} gets {count} replicas")


def _share(rollout: Rollout, step: int, now: float) -> Move:
    after = replace(rollout, phase=Phase.SHARING, step=step, phase_at=now, progress_at=now, tested=not _tests(rollout))
    share, name = rollout.steps[step].share, rollout.new.release
    handover = None
    sentence = f"{name} gets {share:.0%} of the requests"
    if rollout.new.service.one_active:
        handover = rollout.new.slots[0] if len(rollout.old.slots) > 1 else None
        sentence = f"{name} takes over"
    elif rollout.in_place:
        sentence = f"{name} has replaced {share:.0%} of the replicas"
    return Move("L05", after, sentence, handover=handover)


def _finish(rollout: Rollout, now: float) -> Move:
    """It has all the traffic; the old replicas that ran beside it stand by for a while."""
    watched = replace(
        rollout, phase=Phase.WATCHING, phase_at=now, progress_at=now, tested=not _tests(rollout), numbers=()
    )
    spare = _spare(rollout)
    watched = replace(watched, old=replace(rollout.old, slots=spare))
    if rollout.back:
        watched = replace(watched, phase=Phase.DONE)
    stands_by = f"; {rollout.old.release} stands by" if spare else ""
    return Move("L07", watched, f"{rollout.new.release} has all the traffic{stands_by}")


def _spare(rollout: Rollout) -> tuple[int, ...]:
    """Slots in which the release before stands by for a while."""
    service = rollout.new.service
    if rollout.back or service.deploy.warm_s <= 0.0:
        return ()
    if service.one_active and service.standby is Standby.WARM:
        return tuple(number for number in rollout.old.slots if number not in rollout.new.slots)
    return () if rollout.in_place else rollout.old.slots


def _starts_active(rollout: Rollout) -> bool:
    """Whether nothing of the new release can run before it is active: it stands by cold."""
    service = rollout.new.service
    return service.one_active and service.standby is Standby.COLD and len(rollout.old.slots) > 1


def _step_waits_for(rollout: Rollout, facts: Facts, deploy: Deploy, now: float) -> str:
    """Why a step is not over; empty: it is."""
    step, evidence = rollout.steps[rollout.step], facts.evidence
    if _ill_together(facts):
        return "holds: both releases are ill; not this release"
    if not facts.new.whole and not _better_than_nothing(rollout, facts):
        return f"{facts.new.serving} of {facts.new.wanted} new replicas serve"
    if evidence.shared:
        return f"holds: {evidence.shared}; not this release"
    if not rollout.tested:
        return "the tests run"
    if _waits_for_others(rollout, facts):
        return "waits for the other services of this deploy"
    if rollout.skip or rollout.back:
        return ""
    if facts.new.ill_s > 0.0 and not rollout.told:
        return f"half of the new replicas are ill: {facts.new.ill_for}"
    proven_at = facts.new.since_at + min(step.for_s, deploy.stable_s)
    left_s = max(rollout.phase_at + step.for_s, proven_at) - now
    if left_s > 0.0:
        return f"{math.ceil(left_s)} more second{'s' * (left_s > 1.0)}"
    short = deploy.exposure - evidence.requests
    if short > 0.0 and not rollout.in_place and rollout.new.service.listen is not None:
        return f"{short:.0f} more requests (it has had {evidence.requests:.0f} of {deploy.exposure})"
    return ""


def _waits_for_others(rollout: Rollout, facts: Facts) -> bool:
    last = rollout.phase is Phase.SHARING and rollout.step == len(rollout.steps) - 1
    return last and not facts.group.ready and not rollout.skip


def _tests(rollout: Rollout) -> bool:
    return bool(rollout.new.service.deploy.tests) and not rollout.back


def _stable_s(rollout: Rollout) -> float:
    return 0.0 if rollout.back or rollout.skip else rollout.new.service.deploy.stable_s
