"""What somebody should know although Perdure can do nothing about it: a note, once, for as long as it lasts.

A replica that serves and gets no requests while its peers are busy is a hole in the wall, not a rest: somebody took it
out of HAProxy by hand, or its connections go elsewhere. A full disk strikes all replicas on it, and a restart frees
nothing. Overload is nobody's fault among the replicas, and fewer of them would make it worse. A certificate that ends
soon takes a person to renew, a wrong clock one to set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perdure.model.decision import Decision, Note
from perdure.model.event import Fact, Severity
from perdure.model.standing import Standing
from perdure.model.verdict import Deadly, Scope

DAY_S = 86_400.0
EXPIRES_SOON_S = 14 * DAY_S
CROWDED_S = 5.0
"""A burst is over by then."""
LEFT_OUT_S = 10.0
PEER_REQUESTS_MIN = 30.0
"""Of each peer, faded over 10 s: the chance that least connections never chose a replica meanwhile is nil."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is the case beyond single replicas; empty, or None, where nothing is."""

    space: str = ""
    """That the service's disk is nearly full."""
    certificate: str = ""
    """That a certificate ends soon."""
    deadly: Deadly | None = None
    """An endpoint whose requests seem to end who gets them."""
    tasks: str = ""
    """That hardly any thread can be started any more."""
    overload: str = ""
    """That clients ask for more than all replicas can do."""


def decide(service: str, standings: Sequence[Standing], also: Conditions = Conditions()) -> list[Decision]:
    """The notes that hold now."""
    found = [*left_out(standings), *wrong_clocks(service, standings)]
    host: dict[str, Fact] = {"scope": Scope.HOST.value}
    if also.deadly is not None:
        found.append(_deadly(service, also.deadly))
    if also.overload:
        sentence = f"{also.overload}: overload, nobody is isolated or restarted for it"
        facts: dict[str, Fact] = {"scope": Scope.OVERLOAD.value}
        found.append(Decision("P16", service, sentence, Note("overload"), facts, Severity.ALARM))
    if also.certificate:
        sentence = f"{also.certificate}; clients will not trust it after its end"
        found.append(Decision("P12", service, sentence, Note("certificate"), {}, Severity.ALARM))
    if also.tasks:
        sentence = f"{also.tasks}; what needs a new thread or process will fail"
        found.append(Decision("P17", service, sentence, Note("tasks"), host, Severity.ALARM))
    if also.space:
        sentence = f"{also.space}; requests that write will fail on all replicas there"
        found.append(Decision("P11", service, sentence, Note("disk"), host, Severity.ALARM))
    return found


def overloaded(max_concurrent: int, queued: int, crowded_s: float) -> str:
    """What to tell when for `crowded_s` all replicas have had as many requests as they may, and others wait; empty
    while that is short.
    """
    if crowded_s < CROWDED_S:
        return ""
    waiting = f"{queued} wait" if queued > 1 else "one waits"
    return f"all replicas have as many requests as they may (max_concurrent = {max_concurrent}), and {waiting}"


def expiring(left_s: float, check: str) -> str:
    """What to tell of a certificate that is valid for `left_s` more seconds; empty while that is long."""
    if left_s > EXPIRES_SOON_S:
        return ""
    when = f"expires in {left_s / DAY_S:.1f} days" if left_s > 0.0 else f"expired {-left_s / DAY_S:.1f} days ago"
    return f"the certificate that {check} was shown {when}; renew it"


def _deadly(service: str, deadly: Deadly) -> Decision:
    """Retries would hand such a request from one replica to the next, so the retry budget keeps them off meanwhile."""
    sentence = (
        f"{deadly.deaths} of the {deadly.of} replicas that ended by themselves lately did so over a request to"
        f" {deadly.endpoint}: it may be what ends them; failed requests are not tried on other replicas meanwhile"
    )
    facts: dict[str, Fact] = {"endpoint": deadly.endpoint, "deaths": deadly.deaths, "score": round(deadly.score, 1)}
    return Decision("P14", service, sentence, Note(f"deadly {deadly.endpoint}"), facts, Severity.ALARM)


def wrong_clocks(service: str, standings: Sequence[Standing]) -> list[Decision]:
    """Replicas whose clock is off: it breaks leases, sessions and signatures, but what is served may be right, so
    nobody is isolated. When most show it, one note says so, for it may be how they write dates.
    """
    off = [(one, _clock(one.clock_ahead_s)) for one in standings if one.clock_ahead_s is not None]
    live = sum(one.live for one in standings)
    told = [(str(one.slot), f"tells a wrong time: {clock}") for one, clock in off]
    if len(off) >= 2 and 2 * len(off) >= live:
        example = f"{off[0][0].slot}: {off[0][1]}"
        told = [(service, f"{len(off)} of {live} replicas tell a wrong time ({example}): the cause is shared")]
    return [Decision("P13", subject, sentence, Note("clock"), {}, Severity.ALARM) for subject, sentence in told]


def _clock(ahead_s: float) -> str:
    where = "ahead of" if ahead_s > 0.0 else "behind"
    return f"{abs(ahead_s):,.0f} s {where} the host's clock"


def left_out(standings: Sequence[Standing]) -> list[Decision]:
    """Replicas that have had no request for 10 s although they serve, and although every peer that serves has."""
    serving = [one for one in standings if one.serving]
    busy = [one for one in serving if one.idle_s is not None and one.idle_s < LEFT_OUT_S / 5.0]
    idle = [one for one in serving if one.idle_s is not None and one.idle_s >= LEFT_OUT_S]
    if not idle or len(busy) + len(idle) < len(serving) or not busy:
        return []
    if min(one.asked_lately for one in busy) < PEER_REQUESTS_MIN:
        return []
    peers = f"{len(busy)} other{'' if len(busy) == 1 else 's'}"
    return [
        Decision(
            "P10",
            str(one.slot),
            f"serves and has got no request for {one.idle_s:.0f} s, while {peers} got theirs",
            Note("left out"),
            {},
            Severity.ALARM,
        )
        for one in idle
    ]
