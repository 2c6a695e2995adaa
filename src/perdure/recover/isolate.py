"""Who is isolated: the step that is undone most easily, and so the first one taken.

Convicted replicas lose their traffic, worst evidence first, as long as the service keeps its capacity floor: half of
its replicas, rounded down, at least one. A sign that is shared isolates nobody; it is told once, as an alarm that names
what they have in common. Nobody is isolated from a service that has only one replica: traffic has nowhere else to go,
so such a replica is restarted instead (`restart.condemn`). Not for what requests of clients show: that is only told
(R06), for a restart comes after a relapse, and only who was isolated can relapse.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from perdure.model.decision import Advance, Decision, Note
from perdure.model.event import Fact, Severity
from perdure.model.replica import Event, State
from perdure.model.standing import Standing, View
from perdure.model.verdict import DEFINITIVE, Common, Scope, Sign, Verdict

MONITOR_KEY = "monitor"
"""The key of the note that says that the monitor is to blame."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What replicas have in common."""

    signs: frozenset[Sign] = frozenset()
    """These convict nobody; some are not shared any more, but were a moment ago."""
    now: frozenset[Sign] = frozenset()
    """Those of them that are shared at this instant."""
    told: frozenset[Sign] = frozenset()
    """Those of them that somebody was told of, whether or not anybody shows them just now."""
    common: Sequence[Common] = ()
    """What several replicas show at one endpoint, the worst first."""
    of_release: frozenset[Sign] = frozenset()
    """What the replicas of the other release, which run beside these, do not show although they could."""


def decide(
    standings: Sequence[Standing], replicas: int, shared: Shared, leaving: Collection[int] = ()
) -> list[Decision]:
    """Suspect, clear, isolate and readmit; `replicas` is the desired number. `leaving`: slots that are emptied by
    command anyway: what is there is no capacity to count on, and gets no more requests.
    """
    common = shared.common
    together = {(one.sign, one.endpoint) for one in common}
    floor = capacity_floor(replicas)
    serving = sum(1 for standing in standings if standing.serving and standing.slot.number not in leaving)
    decisions: list[Decision] = []
    for standing in sorted(standings, key=_worst_first):
        verdict = standing.verdict
        if standing.state_is(State.ISOLATED) and standing.acquitted and standing.conviction is not None:
            decisions.append(_readmit(standing))
        elif not standing.serving:
            continue
        elif verdict is None:
            decisions += _suspect(standing)
        elif verdict.sign in shared.signs:
            if verdict.sign is not Sign.REQUESTS and verdict.sign in shared.now | shared.told:
                decisions.append(_shared(standing, verdict, shared))
        elif (verdict.sign, verdict.endpoint) in together or standing.slot.number in leaving:
            continue
        elif serving - 1 >= floor:
            serving -= 1
            decisions.append(_isolate(standing, verdict))
        else:
            decisions.append(_held(standing, verdict, serving, floor))
    serving = sum(1 for standing in standings if standing.serving)
    if Sign.REQUESTS in shared.signs:
        decisions.append(_failing_together(standings, shared, serving))
    worst = {one.sign: one for one in reversed(common) if one.sign is not Sign.REQUESTS or one.sign not in shared.signs}
    service = standings[0].slot.service
    decisions += [_lasting(service, sign, shared) for sign in sorted(shared.told - _told_by(decisions))]
    return decisions + [_common(service, one, shared, serving) for one in worst.values()]


def on_trial(standings: Sequence[Standing], shared: frozenset[Sign]) -> list[Decision]:
    """The same for a release beside the one that counts: that one has the capacity, so no floor holds anybody."""
    decisions: list[Decision] = []
    for standing in standings:
        verdict = standing.verdict
        if standing.state_is(State.ISOLATED) and standing.acquitted and standing.conviction is not None:
            decisions.append(_readmit(standing))
        elif standing.serving and verdict is None:
            decisions += _suspect(standing)
        elif standing.serving and verdict is not None and verdict.sign not in shared:
            decisions.append(_isolate(standing, verdict))
    return decisions


def undecided(service: str, sentence: str) -> list[Decision]:
    """Tell that the replicas' data differ and no side has a majority; `sentence` is empty when that is not so."""
    if not sentence:
        return []
    facts: dict[str, Fact] = {"scope": Scope.SHARED.value, "sign": Sign.DIVERGED.value}
    return [Decision("R09", service, f"{sentence}: nobody is isolated", Note("digests"), facts, Severity.ALARM)]


def unheard(service: str, standings: Sequence[Standing], told: bool) -> list[Decision]:
    """Tell that nobody answers the monitor, while some answer HAProxy; `told`: it was told, and may not be over."""
    blind = [one for one in standings if one.blind]
    reached = sum(1 for one in blind if one.view is View.ANSWERS)
    if not reached and not (blind and told):
        return []
    sentence = (
        f"no replica answers Perdure's own questions, although HAProxy reaches {reached} of them:"
        " Perdure's path to them is to blame, and nobody is isolated or restarted for it"
    )
    facts: dict[str, Fact] = {"scope": Scope.MONITOR.value, "silent": len(blind), "answering": reached}
    return [Decision("R16", service, sentence, Note(MONITOR_KEY), facts, Severity.ALARM)]


def shared_key(sign: Sign) -> str:
    """The key of the note that says that a sign is shared."""
    return f"shared {sign.value}"


def scope_of(sign: Sign, shared: Shared, everywhere: Common | None = None) -> Scope:
    """Whose fault a common sign is; `everywhere`: all replicas show it at this endpoint. Only errors accuse what the
    endpoint needs: refusals may be the doing of one client, and slow answers that of too many.
    """
    if sign is Sign.BLOCKED:
        return Scope.HOST
    if sign in shared.of_release:
        return Scope.RELEASE
    if everywhere is not None and sign is Sign.REQUESTS:
        return Scope.DEPENDENCY
    return Scope.SHARED


def capacity_floor(replicas: int) -> int:
    """How many replicas keep their traffic whatever the evidence says: half, rounded down, at least one."""
    return max(1, replicas // 2)


def _worst_first(standing: Standing) -> tuple[bool, float, int]:
    verdict = standing.verdict
    if verdict is None:
        return (True, 0.0, standing.slot.number)
    strength = verdict.score / verdict.threshold if verdict.threshold else 1.0
    return (verdict.sign not in DEFINITIVE, -strength, standing.slot.number)


def _isolate(standing: Standing, verdict: Verdict) -> Decision:
    return Decision(
        "R01",
        str(standing.slot),
        f"is isolated: {verdict.sentence}",
        Advance(standing.slot, Event.CONVICTED),
        {"evidence": verdict.evidence.value, "sign": verdict.sign.value, "endpoint": verdict.endpoint, **verdict.facts},
        Severity.WARNING,
    )


def _readmit(standing: Standing) -> Decision:
    conviction = standing.conviction
    assert conviction is not None
    facts = {"evidence": conviction.evidence.value, "relapses": standing.history.relapses}
    sentence = f"is readmitted: the evidence that convicted it ({conviction.evidence.value}) has turned"
    return Decision("R02", str(standing.slot), sentence, Advance(standing.slot, Event.READMITTED), facts)


def _suspect(standing: Standing) -> list[Decision]:
    subject = str(standing.slot)
    if standing.state_is(State.READY) and standing.suspected:
        return [
            Decision(
                "R03",
                subject,
                "is suspected: half of what would convict it speaks against it",
                Advance(standing.slot, Event.SUSPECTED),
            )
        ]
    if standing.state_is(State.SUSPECT) and not standing.suspected:
        return [Decision("R04", subject, "is no longer suspected", Advance(standing.slot, Event.CLEARED))]
    return []


def _shared(standing: Standing, verdict: Verdict, shared: Shared) -> Decision:
    service = standing.slot.service
    whose = scope_of(verdict.sign, shared)
    cause = "the cause is this host (a disk that does not answer)" if whose is Scope.HOST else "the cause is shared"
    sentence = (
        f"half of the replicas or more show the same sign ({verdict.sign.value}): {cause},"
        f" nobody is isolated; for example {standing.slot}: {verdict.sentence}"
    )
    return _alarm(service, verdict.sign, sentence, {"scope": whose.value, "endpoint": verdict.endpoint})


def _told_by(decisions: Sequence[Decision]) -> frozenset[Sign]:
    """The shared signs that these decisions tell of."""
    keys = {one.change.key for one in decisions if isinstance(one.change, Note)}
    return frozenset(sign for sign in Sign if shared_key(sign) in keys)


def _lasting(service: str, sign: Sign, shared: Shared) -> Decision:
    sentence = (
        f"half of the replicas or more showed the same sign ({sign.value}) just now: the cause is shared, nobody is"
        " isolated"
    )
    return _alarm(service, sign, sentence, {"scope": scope_of(sign, shared).value})


def _alarm(service: str, sign: Sign, sentence: str, facts: dict[str, Fact]) -> Decision:
    facts = {"sign": sign.value, **facts}
    return Decision("R05", service, sentence, Note(shared_key(sign)), facts, Severity.ALARM)


def _failing_together(standings: Sequence[Standing], shared: Shared, serving: int) -> Decision:
    shares = [standing.failing_share for standing in standings if standing.failing_share]
    service = standings[0].slot.service
    worst = max(shares, default=0.0)
    one = next((one for one in shared.common if one.sign is Sign.REQUESTS), None)
    where = _words(one, serving) if one is not None else ""
    how_much = f" (up to {worst:.0%} in the last 10 s)" if shares else ", or were replaced for it just now"
    what = where or f"half of the replicas or more fail requests of clients{how_much}"
    sentence = f"{what}: the cause is shared, nobody is isolated"
    facts: dict[str, Fact] = {"scope": scope_of(Sign.REQUESTS, shared, _everywhere(one, serving)).value}
    facts |= {"sign": Sign.REQUESTS.value, "failing": len(shares), "worst_share": round(worst, 3)}
    return Decision("R07", service, sentence, Note(shared_key(Sign.REQUESTS)), facts, Severity.ALARM)


def _held(standing: Standing, verdict: Verdict, serving: int, floor: int) -> Decision:
    sentence = f"keeps its traffic because only {serving} serve (the capacity floor), although {verdict.sentence}"
    facts = {"floor": floor, "sign": verdict.sign.value}
    return Decision("R06", str(standing.slot), sentence, Note("floor"), facts, Severity.ALARM)


def _common(service: str, one: Common, shared: Shared, serving: int) -> Decision:
    sentence = f"{_words(one, serving)}: the cause is shared, nobody is isolated"
    facts: dict[str, Fact] = {"scope": scope_of(one.sign, shared, _everywhere(one, serving)).value}
    facts |= {"sign": one.sign.value, "endpoint": one.endpoint, "failing": one.replicas}
    facts |= {"worst_share": round(one.share, 3), "status": one.status}
    return Decision("R08", service, sentence, Note(shared_key(one.sign)), facts, Severity.ALARM)


def _everywhere(one: Common | None, serving: int) -> Common | None:
    return one if one is not None and one.replicas >= serving else None


def _words(one: Common, serving: int) -> str:
    who = "all replicas" if one.replicas == serving else f"{one.replicas} of {serving} replicas"
    what = {Sign.REQUESTS: "fail on", Sign.REFUSALS: "refuse requests to", Sign.SLOW: "answer slowly on"}[one.sign]
    status = f" with {one.status}" if one.status and one.sign is not Sign.SLOW else ""
    return f"{who} {what} {one.endpoint}{status} (up to {one.share:.0%} in the last 10 s)"
