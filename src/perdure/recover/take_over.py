"""Which replica of an active-passive service is active: taking over when it failed, handing over by command.

Intuition: at most one slot owns the service, by the term that `prevent.ownership` guards. When its replica is gone, the
quickest way back that loses nothing is taken. A warm one stands by: it takes over at once. With cold ones the same slot
is started again, since it has the newest state of all, and another one takes over when that has failed twice, unless it
has failed itself: a program that starts nowhere does not go round in circles. Nothing new becomes active before the
whole process group of the old one is seen to be gone, so there are never two.

A handover is the same, in order: the old one is drained (clients' new requests wait in HAProxy), ended, and the other
one takes over. It is wanted by command, for a slot that is drained by command, for a replica that must be replaced
while another one stands by, and before memory or descriptors run out.

Going back to older data is the same with itself: the owner is drained and ended, its data are exchanged, and a new
term begins with it, in a new history; those that stand by have the history of before, and take over only when they were
brought to this one.

Hard cases: the last state of the old one cannot be copied (then a handover is refused, and after a failure its own slot
is tried first); a replica of an older term (a store that was restored, an earlier daemon) is ended wherever it is
found; a warm one that does not take what it is told is ended, and starts as active; nobody may take over (the loss is
too large, or all the others hold data of before a restore): then somebody is told, with the command that overrides it.
Neighbours: `replicate` starts and ends what this leaves alone; `control.own` takes terms and tells replicas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.model.decision import Advance, Change, Decision, End, Exchange, Note, Promote, Take
from perdure.model.event import Fact, Severity
from perdure.model.owner import Candidate, Handover, Term
from perdure.model.release import Phase
from perdure.model.replica import Event, State
from perdure.model.service import Standby
from perdure.model.standing import Desired, Standing
from perdure.recover import heir as heirs

FAILED = "the active replica has failed"
IN_PLACE_TRIES = 2
"""A slot whose replicas failed so often in a row is not started in place any more while another one can take over."""
FORGIVEN_S = 300.0
"""A cold slot whose replicas have failed stands by again when nothing has run in it for so long: it cannot show
otherwise that it is well.
"""
REFUSED_KEY = "nobody takes over"
LOOP_S = 0.5
"""The death of a process is seen, and the next term is on the disk, within this; copying the last state and starting a
cold replica come on top.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due, which slots may have a process, and which are being left."""

    decisions: tuple[Decision, ...] = ()
    runs: frozenset[int] = frozenset()
    leaving: frozenset[int] = frozenset()
    """Slots that keep getting no requests: their replica is being handed over."""
    stays: frozenset[int] = frozenset()
    """The owner's slot, when it is no longer wanted and nobody can take over from it."""


def decide(desired: Desired, standings: Sequence[Standing], term: Term, now: float) -> Plan:
    """What is due for an active-passive service; deciding twice on the same facts gives the same plan."""
    if desired.stopped:
        return Plan()
    if not term.known:
        everywhere = frozenset(one.slot.number for one in standings)
        return Plan(leaving=everywhere, stays=everywhere)
    older = [one for one in standings if _is_older(one, term)]
    runs = _runs(desired, standings, term)
    if older:
        return Plan(tuple(_ended(one, term) for one in older if not one.state_is(State.STOPPING)), runs - {term.owner})
    owner = next((one for one in standings if one.slot.number == term.owner), None)
    if owner is None:
        return Plan(_first(desired, standings, term), runs)
    if not term.holds:
        return Plan(_lost(owner), runs - {owner.slot.number})
    if goes_back(desired, term):
        going = _go_back(desired, owner, term, now)
        return (
            Plan(going, runs, frozenset({owner.slot.number})) if owner.live else Plan(going, runs - {owner.slot.number})
        )
    why = _why(desired, standings, owner, term)
    if why and owner.live:
        return Plan(_leave(desired, owner, why, now), runs, frozenset({owner.slot.number}))
    if why or (not term.stuck and _takes_over(desired, standings, owner)):
        taken = _take(desired, standings, term, why or FAILED)
        return Plan(taken, runs - {owner.slot.number})
    if owner.state_is(State.PASSIVE):
        return Plan(_promote(desired, owner, term), runs)
    if not desired.wants(owner.slot.number):
        stays = frozenset[int]() if term.busy else frozenset({owner.slot.number})
        return Plan(_unheeded(desired, standings, owner, term), runs | stays, stays=stays)
    return Plan(_unheeded(desired, standings, owner, term), runs)


def goes_back(desired: Desired, term: Term) -> bool:
    """Whether a command to go back to older data is still to be carried out."""
    return desired.rollback is not None and desired.rollback.number > term.rollback


def _runs(desired: Desired, standings: Sequence[Standing], term: Term) -> frozenset[int]:
    """Slots that may have a process: the owner's, and those of warm ones; none before the first term."""
    wanted = {one.slot.number for one in standings if desired.wants(one.slot.number)} if term.epoch else set()
    unsaved = {one.slot.number for one in standings if one.unsaved}
    active = {term.owner} if term.owner is not None and term.holds and not term.busy else set()
    unsettled = {one.slot.number for one in standings if one.unsettled and not one.live}
    if desired.service.standby is Standby.WARM:
        return frozenset((wanted - {term.owner} - unsaved | active & wanted) - unsettled)
    return frozenset(active & wanted - unsettled)


def _is_older(standing: Standing, term: Term) -> bool:
    """Whether it is active in a term that is over, as far as this host knows, and its process may still run."""
    replica = standing.replica
    if replica is None or not standing.live or not replica.epoch:
        return False
    return replica.epoch < term.epoch


def _ended(standing: Standing, term: Term) -> Decision:
    assert standing.replica is not None
    sentence = f"is ended at once: it is active in epoch {standing.replica.epoch}, and the present one is {term.epoch}"
    facts: dict[str, Fact] = {"epoch": standing.replica.epoch, "present": term.epoch}
    return _decision("T06", standing, sentence, End(standing.slot, 0.0, failed=False), facts)


def _first(desired: Desired, standings: Sequence[Standing], term: Term) -> tuple[Decision, ...]:
    """Nobody of this host is the owner: somebody may have to be."""
    if not term.takeable:
        return ()
    return _take(desired, standings, term, "nobody is active")


def _lost(owner: Standing) -> tuple[Decision, ...]:
    """The right has run out: what is active is ended, whether or not anything is wrong with it."""
    if not owner.live or owner.state_is(State.STOPPING) or owner.replica is None or not owner.replica.epoch:
        return ()
    sentence = "is ended at once: the right to be active has run out, for the store did not renew it"
    return (_decision("T07", owner, sentence, End(owner.slot, 0.0, failed=False), severity=Severity.ALARM),)


def _why(desired: Desired, standings: Sequence[Standing], owner: Standing, term: Term) -> str:
    """Why the owner hands over; empty when it does not, or when nobody could take it. While the store takes no new
    term, the one that serves goes on, and one that has ended is started again.
    """
    command = _command(desired, term)
    if term.stuck or _heir(desired, standings, owner, command, needless=True).refusal:
        return ""
    number, warm = owner.slot.number, desired.service.standby is Standby.WARM
    if not desired.wants(number):
        return "its slot is no longer wanted"
    if command is not None:
        return "by command"
    if number in desired.drained:
        return "its slot is drained by command"
    if warm and owner.replica is not None and desired.outdated(owner.replica):
        return "it must be replaced, and another one stands by"
    return "it will be full soon" if warm and owner.fills_soon else ""


def _command(desired: Desired, term: Term) -> Handover | None:
    """The command that is still to be carried out."""
    wanted = desired.handover
    if wanted is None or wanted.number <= term.handover or wanted.slot == term.owner:
        return None
    return wanted


def _takes_over(desired: Desired, standings: Sequence[Standing], owner: Standing) -> bool:
    """Whether the owner has ended, and another slot is the better way back than a new process in the same one: that
    has all data, so a warm one, too, is second when it lacks something, and so is another release, which would mean
    that this one is thrown out for a single end. One that did not take what it was told leaves it to another one that
    has not failed lately, or is started as the active one: else they would end each other for ever.
    """
    if owner.live or owner.replica is None:
        return False
    heir = _heir(desired, standings, owner, None)
    if owner.deaf and any(one.history.failures for one in standings if str(one.slot) == heir.slot):
        return False
    other = {str(one.slot) for one in standings if desired.release_of(one.slot.number) != desired.release}
    in_place = desired.service.standby is Standby.COLD or heir.behind_s > 0.0 or heir.slot in other
    return not heir.refusal and (not in_place or owner.history.failures >= IN_PLACE_TRIES)


def _unheeded(desired: Desired, standings: Sequence[Standing], owner: Standing, term: Term) -> tuple[Decision, ...]:
    """Tell that a command cannot be carried out now, and why."""
    command = _command(desired, term)
    if command is None and desired.wants(owner.slot.number):
        return ()
    heir = _heir(desired, standings, owner, command, needless=True)
    return (_refused(desired, heir),) if heir.refusal else ()


def _leave(desired: Desired, owner: Standing, why: str, now: float) -> tuple[Decision, ...]:
    """One step of the old one's way out: drained, then ended."""
    assert owner.replica is not None
    if owner.serving:
        change: Change = Advance(owner.slot, Event.DRAIN_WANTED)
        return (_decision("T03", owner, f"hands over ({why}): it is drained", change),)
    if owner.state_is(State.STOPPING):
        return ()
    until_at = owner.replica.since_at + desired.service.restart.drain_timeout_s
    if owner.state_is(State.DRAINING) and owner.in_flight != 0 and desired.service.listen and now < until_at:
        return ()
    end = End(owner.slot, desired.service.restart.stop_timeout_s, failed=False)
    return (_decision("T04", owner, f"hands over ({why}): it is ended", end),)


def _go_back(desired: Desired, owner: Standing, term: Term, now: float) -> tuple[Decision, ...]:
    """One step of going back: out of the traffic, ended, and then its data are exchanged."""
    assert desired.rollback is not None
    target = desired.rollback.target
    if owner.live:
        return _leave(desired, owner, f"its data go back to {target}", now)
    if term.busy:
        return ()
    facts: dict[str, Fact] = {"rollback": desired.rollback.name, "data_epoch": desired.rollback.data_epoch}
    return (_decision("T11", owner, f"its data are exchanged for {target}", Exchange(owner.slot), facts),)


def _promote(desired: Desired, owner: Standing, term: Term) -> tuple[Decision, ...]:
    """The owner stands by: it is told, and serves when it has taken it."""
    if term.busy:
        return ()
    if owner.told == term.epoch:
        return (_decision("T02", owner, "is active", Advance(owner.slot, Event.PROMOTED), {"epoch": term.epoch}),)
    if owner.deaf:
        sentence = "did not take what it was told: it is ended, and started as the active one"
        end = End(owner.slot, desired.service.restart.stop_timeout_s, failed=True)
        return (_decision("T05", owner, sentence, end, severity=Severity.WARNING),)
    return (_decision("T08", owner, "is told that it is active", Promote(owner.slot), {"epoch": term.epoch}),)


def _take(desired: Desired, standings: Sequence[Standing], term: Term, why: str) -> tuple[Decision, ...]:
    """Begin a new term with the best of the others, or say why not. Whom a command names is taken if it can be; when
    the owner has failed, anybody is better than nobody.
    """
    if term.busy:
        return ()
    owner = next((one for one in standings if one.slot.number == term.owner), None)
    command = _command(desired, term)
    heir = _heir(desired, standings, owner, command)
    if heir.refusal and why == FAILED and command is not None:
        heir = _heir(desired, standings, owner, None)
    if heir.refusal:
        return (_refused(desired, heir),)
    chosen = next(one for one in standings if str(one.slot) == heir.slot)
    settled = desired.handover.number if desired.handover is not None else 0
    loss = f"; {heir.behind_s:.1f} s of changes are lost" if heir.behind_s else ""
    facts: dict[str, Fact] = {"epoch": term.epoch, "behind_s": round(heir.behind_s, 3), "why": why}
    severity = Severity.WARNING if why == FAILED else Severity.INFO
    change = Take(chosen.slot, settled)
    return (_decision("T01", chosen, f"becomes the active one ({why}){loss}", change, facts, severity=severity),)


def _refused(desired: Desired, heir: heirs.Heir) -> Decision:
    sentence = f"nobody takes over: {heir.refusal}"
    return Decision("T09", desired.service.name, sentence, Note(REFUSED_KEY), severity=Severity.ALARM)


def _heir(
    desired: Desired,
    standings: Sequence[Standing],
    owner: Standing | None,
    command: Handover | None,
    *,
    needless: bool = False,
) -> heirs.Heir:
    """The best of the others; `command` may name one, and may accept a loss. `needless`: the owner could go on."""
    named = command.slot if command is not None else None
    others = [
        one
        for one in standings
        if one is not owner
        and desired.wants(one.slot.number)
        and one.slot.number not in desired.drained
        and not one.unsaved
        and named in (None, one.slot.number)
        and _stands_by(desired, one, owner, asked=command is not None)
    ]
    could_go_on = needless and not (owner is not None and owner.slot.number in desired.drained)
    standing_by = others if named is not None else _of_the_same_release(desired, others, needless=could_go_on)
    if others and not standing_by:
        release = desired.release_of(others[0].slot.number)
        return heirs.Heir(
            refusal=f"the others run {release}: `perdure rollback {desired.service.name}` goes back to it"
        )
    found = [
        Candidate(str(one.slot), "", one.data_epoch, one.behind_s, ready=one.state_is(State.PASSIVE))
        for one in standing_by
    ]
    data_epoch = owner.data_epoch if owner is not None else max((one.data_epoch for one in standings), default=0)
    accepts = command is not None and command.accept_loss
    max_loss_s = desired.service.state.max_loss_s if desired.service.state is not None else None
    return heirs.heir(found, data_epoch, heirs.Bearable(max_loss_s, needless, accepts))


def _of_the_same_release(desired: Desired, others: Sequence[Standing], *, needless: bool) -> list[Standing]:
    """Those that run the release that counts. In need, when there is none, also those of the one beside it, unless it
    could not read the data.
    """
    same = [one for one in others if desired.release_of(one.slot.number) == desired.release]
    rollout = desired.rollout
    if rollout is None or same == list(others):
        return list(others)
    if rollout.holds and not rollout.observe and rollout.phase is not Phase.GOING_BACK:
        reads = rollout.new.release if not rollout.back else rollout.old.release
        return [one for one in others if desired.release_of(one.slot.number) == reads]
    return same if same or needless else list(others)


def _stands_by(desired: Desired, standing: Standing, owner: Standing | None, *, asked: bool) -> bool:
    """Whether a slot could become active. A warm one stands by, and is what is wanted now unless the owner is gone; a
    cold one is empty, and has not failed itself lately, unless somebody asks for it. At the first start any will do.
    """
    if owner is None:
        return not standing.live or standing.state_is(State.PASSIVE)
    if desired.service.standby is Standby.COLD:
        rested = not standing.history.failures or standing.empty_s >= FORGIVEN_S
        return not standing.live and (rested or asked)
    current = standing.replica is not None and not desired.outdated(standing.replica)
    return standing.state_is(State.PASSIVE) and (current or not owner.live)


def _decision(
    rule: str,
    standing: Standing,
    sentence: str,
    change: Change,
    facts: dict[str, Fact] | None = None,
    *,
    severity: Severity = Severity.INFO,
) -> Decision:
    return Decision(rule, str(standing.slot), sentence, change, facts or {}, severity)
