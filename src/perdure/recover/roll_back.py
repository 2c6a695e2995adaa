"""How a release that was let in is watched afterwards, and how any release is thrown out again.

Intuition: after the last step nobody is left to compare with, so a release that fails more than it did is no verdict
yet: the cause may be a dependency. The release before is recalled for a share of the requests, and only a comparison
that the new one loses takes it back. Going back itself is one move: the new release loses its traffic in the same write
that says so; its replicas end as soon as the old ones can carry everything.

Hard cases: everything of the new release is dead (nothing to compare: the old one takes over at once); the old one does
not run any more (it is started first, and the new one serves meanwhile: something is better than nothing).
Neighbours: `roll_out` lets releases in, `control.rollouts` writes each move before anything is done.
"""

from dataclasses import replace

from perdure.model.deploy import Deploy, Strategy
from perdure.model.event import Severity
from perdure.model.release import Phase, Rollout
from perdure.recover import rollout_facts
from perdure.recover.rollout_facts import Facts, Move

ALONE_S = 2.0
"""When no replica of the new release has served for so long after the end, the old ones take over."""
GONE_S = 30.0
"""The same when nobody stands by: the old ones must start first, and replicas that end once come back by themselves."""
DEATHS_MAX = 2
"""A release whose replicas ended so often by themselves does not stay alive."""
RECALL_S = 120.0
"""A recalled release goes back to stand by after so long without a verdict."""


def taken_back(rollout: Rollout, why: str, now: float, free: tuple[int, ...]) -> Rollout:
    """The rollout after it was thrown out: its release has no traffic from this write on. `free`: slots for the release
    before, when it has none any more, or fewer than the new one was scaled to.
    """
    old, new = rollout.old, rollout.new
    if rollout.in_place:
        one_active = new.service.one_active
        old, new = replace(old, slots=old.slots if one_active else old.slots or new.slots), replace(new, slots=())
    elif not rollout.under_way:
        old = replace(old, slots=(*old.slots, *free)[: max(1, len(old.slots), len(new.slots))])
    gone = replace(rollout, old=old, new=new, phase=Phase.GOING_BACK, phase_at=now, progress_at=now)
    return replace(gone, ended_for=why)


def back(rollout: Rollout, rule: str, why: str, facts: Facts, now: float) -> Move:
    """Throw it out; one that is only observed goes on, and the verdict is told."""
    numbers = facts.evidence.numbers
    if rollout.holds:
        seen = replace(rollout, numbers=numbers, ended_for=why)
        return Move("L15", seen, f"{why}: {_ways(rollout)}", Severity.ALARM, facts=numbers)
    sentence = f"is rolled back to {rollout.old.release}: {why}"
    gone = replace(taken_back(rollout, why, now, facts.free), numbers=numbers)
    return Move(rule, gone, sentence, Severity.ALARM, facts=numbers)


def ended(rollout: Rollout, how: str, facts: Facts, now: float) -> Move:
    """Its replicas do not stay alive, or not well."""
    ill_for = facts.new.ill_for.removeprefix("ended ")
    why = f"{how}: {ill_for}" if ill_for else how
    return back(rollout, "L10", why, facts, now)


def untrue(rollout: Rollout, facts: Facts, now: float) -> Move:
    """A test failed."""
    return back(rollout, "L11", f"a test of {rollout.new.release} failed: {facts.tests.failed}", facts, now)


def to_blame(rollout: Rollout, what: str, facts: Facts, now: float) -> Move:
    """It does worse than the release before; `what` has its name as the subject."""
    return back(rollout, "L12", f"{rollout.new.release} {what}", facts, now)


def together(rollout: Rollout, facts: Facts, now: float) -> Move:
    """Another service of the same deploy goes back."""
    return back(rollout, "L13", f"goes back together with {facts.group.failed}", facts, now)


def tested(rollout: Rollout, now: float) -> Move:
    """The tests of this phase have passed."""
    passed = replace(rollout, tested=True, progress_at=now)
    return Move("L03", passed, f"the tests of {rollout.new.release} passed")


def _ways(rollout: Rollout) -> str:
    """What a person may do about a release that is not rolled back by itself."""
    if rollout.observe:
        return "it is only observed, and goes on"
    name, marker = rollout.new.service.name, next(iter(rollout.markers), "")
    if rollout.back:
        return (
            f"it may not be able to read what {rollout.old.release} has written: `perdure restore {name}` for the"
            f" data, or `perdure abort {name}`"
        )
    data = f", and at once `perdure restore {name} --to {marker}` for the data" if marker else ""
    return (
        f"{rollout.old.release} cannot read its data, so nothing is rolled back by itself: `perdure rollback {name}`"
        f" for the code{data}; or repair it and deploy again"
    )


def watch(rollout: Rollout, facts: Facts, deploy: Deploy, now: float) -> Move | None:
    """After the end; the sides are as before: `new` is the release that serves."""
    bad = _bad(rollout, facts, now)
    if bad is not None:
        return bad
    if facts.evidence.suspicious and may_compare(rollout):
        return recall(rollout, facts, now)
    if not rollout.tested and facts.tests.passed:
        return tested(rollout, now)
    if rollout.old.slots and facts.new.serving and now >= rollout.phase_at + deploy.warm_s:
        cold = replace(rollout, old=replace(rollout.old, slots=()))
        return Move("L09", cold, f"the replicas of {rollout.old.release} have stood by long enough: they are ended")
    if now >= rollout.phase_at + deploy.watch_s:
        done = replace(rollout, phase=Phase.DONE, old=replace(rollout.old, slots=()))
        return Move("L20", done, f"{rollout.new.release} stays")
    return None


def may_compare(rollout: Rollout) -> bool:
    """Whether the release before can get a share of the requests again: not while it gives its slots away."""
    gives_way = rollout.in_place and rollout.under_way
    return rollout_facts.beside(rollout.new.service) and not (rollout.holds or rollout.back or gives_way)


def recall(rollout: Rollout, facts: Facts, now: float) -> Move:
    """Give the release before a share again: with nearly everything at the new one, its failures say little. One that
    was replaced in its slots comes back beside the new one.
    """
    slots = rollout.old.slots if not rollout.in_place else ()
    old = replace(rollout.old, slots=slots or facts.free[: facts.replicas])
    strategy = Strategy.BLUE_GREEN if rollout.in_place else rollout.strategy
    compared = replace(rollout, phase=Phase.RECALLED, phase_at=now, old=old, strategy=strategy)
    sentence = f"{rollout.new.release} {facts.evidence.suspicious}: {rollout.old.release} gets a share, to compare"
    return Move("L08", compared, sentence, Severity.WARNING)


def recalled(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """While the old release has a share again: it is taken back when it loses the comparison."""
    bad = _bad(rollout, facts, now)
    if bad is not None:
        return bad
    if now < rollout.phase_at + RECALL_S:
        return None
    # One that was recalled before its end goes on with the step that it was in.
    after = Phase.SHARING if rollout.undecided else Phase.WATCHING
    calm = replace(rollout, phase=after, phase_at=now, progress_at=now)
    why = facts.evidence.shared or "the two do not differ"
    return Move("L16", calm, f"not this release: {why}; {rollout.new.release} keeps the traffic", Severity.WARNING)


def _bad(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """Whether a release that had everything is thrown out."""
    new, name = facts.new, rollout.new.release
    if rollout.told:
        return None
    if facts.group.failed:
        return together(rollout, facts, now)
    if new.serving == 0 and facts.old.serving > 0 and new.ill_s >= ALONE_S:
        return ended(rollout, f"no replica of {name} serves any more", facts, now)
    if new.serving == 0 and not facts.old.wanted and new.ill_s >= GONE_S and new.deaths >= DEATHS_MAX:
        return ended(rollout, f"no replica of {name} has served for {new.ill_s:.0f} s", facts, now)
    if facts.tests.failed:
        return untrue(rollout, facts, now)
    if facts.evidence.suspicious and rollout.new.service.one_active:
        return to_blame(rollout, facts.evidence.suspicious, facts, now)
    if facts.evidence.guilty and rollout.phase is Phase.RECALLED:
        return to_blame(rollout, facts.evidence.guilty, facts, now)
    return None


def going_back(rollout: Rollout, facts: Facts, now: float) -> Move | None:
    """The new replicas end as soon as the old ones can carry everything; then it is over. When some of the old ones do
    not come back, it is over after the deadline, so that somebody can deploy a better one.
    """
    better = facts.old.serving > 0 or facts.new.serving == 0  # else what was thrown out is all that clients have
    late = better and now >= rollout.phase_at + rollout.new.service.deploy.deadline_s
    if rollout.new.slots and (facts.old.whole or late):
        ended = replace(rollout, new=replace(rollout.new, slots=()), progress_at=now)
        return Move("L17", ended, f"the replicas of {rollout.new.release} are drained and ended")
    still = facts.new.live > 0 and not (rollout.in_place and late)
    if rollout.new.slots or still or not (facts.old.whole or late):
        return None
    phase = Phase.ABORTED if rollout.aborted else Phase.ROLLED_BACK
    over = replace(rollout, phase=phase, phase_at=now)
    old, serving = rollout.old.release, f"{facts.old.serving} of {facts.old.wanted} replicas"
    if facts.old.whole:
        return Move("L18", over, f"{old} serves, and nothing runs of {rollout.new.release}")
    sentence = f"goes back from {rollout.new.release} no further: of {old} no more than {serving} serve"
    return Move("L22", over, sentence, Severity.ALARM)
