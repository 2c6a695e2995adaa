"""What of a service as a whole somebody should know: its disk, certificates, requests that kill, spent retries; and
whether the monitor hears anybody.

`agent` hands these to the deciders with the standings of the slots (`appraise.standings`).
"""

from collections.abc import Iterable

from perdure.control.world import ServiceState
from perdure.detect import deadly, digest, space, suspect
from perdure.model.replica import State
from perdure.model.verdict import Deadly
from perdure.prevent import notice, retry


def room_left(service: ServiceState) -> str:
    """What to tell of the disk that the service writes to; empty while there is room."""
    return space.sentence(service.filled, service.rules.service.directory)


def expiring(service: ServiceState, wall: float) -> str:
    """What to tell of a certificate that the service's replicas show and that ends soon; empty otherwise."""
    shown = [
        (asked.certificate_until, asked.check)
        for slot in service.slots.values()
        if slot.live
        for asked in slot.belief.asked.values()
        if asked.certificate_until is not None
    ]
    until, check = min(shown, default=(float("inf"), ""))
    return notice.expiring(until - wall, check)


def deadly_request(service: ServiceState, now: float) -> Deadly | None:
    """The endpoint whose requests seem to end the replicas that get them, if there is one."""
    asked = 1 if service.desired.service.one_active else service.desired.replicas
    return deadly.judge(service.deaths, asked, now)


def undecided(service: ServiceState) -> str:
    """What to tell when the replicas' data differ and no side has a majority; empty otherwise."""
    declared = service.rules.service.digest
    return digest.undecided(service.digests, declared.label) if declared is not None else ""


def retry_spent(service: ServiceState, now: float) -> retry.Spent:
    """Requests and retries of the last `retry.SPAN_S` seconds."""
    while service.spent and service.spent[0][0] < now - retry.SPAN_S:
        service.spent.popleft()
    requests = sum(requests for _, requests, _ in service.spent)
    retries = sum(retries for _, _, retries in service.spent)
    return retry.Spent(requests, retries, service.retries_off_since_at)


def hears_nobody(service: ServiceState, every: Iterable[ServiceState]) -> bool:
    """Whether none of this service serves while one of it starts, and nobody that serves on this host is heard: then it
    is not known whether the one that starts would have answered.
    """
    states = [slot.replica.state for slot in service.slots.values() if slot.replica is not None]
    if State.STARTING not in states or any(slot.serves for slot in service.slots.values()):
        return False
    serving = [(one, slot) for one in every for slot in one.slots.values() if slot.serves]
    return bool(serving) and all(suspect.silent(slot.belief, one.rules_of(slot)) for one, slot in serving)
