"""What somebody should know although Perdure can do nothing about it: a note, once, for as long as it lasts.

A replica that serves and gets no requests while its peers are busy is a hole in the wall, not a rest: somebody took it
out of HAProxy by hand, or its connections go elsewhere. A full disk strikes all replicas on it, and a restart frees
nothing. Overload is nobody's fault among the replicas, and fewer of them would make it worse. A certificate that ends
soon takes a person to renew.
"""

from collections.abc import Sequence

from perdure.model.decision import Decision, Note
from perdure.model.event import Severity
from perdure.model.standing import Standing

DAY_S = 86_400.0
EXPIRES_SOON_S = 14 * DAY_S
CROWDED_S = 5.0
"""A burst is over by then."""
LEFT_OUT_S = 10.0
PEER_REQUESTS_MIN = 30.0
"""Of each peer, faded over 10 s: the chance that least connections never chose a replica meanwhile is nil."""


def decide(
    service: str, standings: Sequence[Standing], space: str, certificate: str = "", overload: str = ""
) -> list[Decision]:
    """The notes that hold now; `space`, `certificate` and `overload` say that the service's disk is nearly full, that a
    certificate ends soon, that clients ask for more than all replicas can do, or nothing.
    """
    found = left_out(standings)
    if overload:
        sentence = f"{overload}: overload, nobody is isolated or restarted for it"
        found.append(Decision("P16", service, sentence, Note("overload"), {"scope": "overload"}, Severity.ALARM))
    if certificate:
        sentence = f"{certificate}; clients will not trust it after its end"
        found.append(Decision("P12", service, sentence, Note("certificate"), {}, Severity.ALARM))
    if space:
        sentence = f"{space}; requests that write will fail on all replicas there"
        found.append(Decision("P11", service, sentence, Note("disk"), {"scope": "host"}, Severity.ALARM))
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
