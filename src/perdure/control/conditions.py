"""What of a service as a whole somebody should know: its disk, certificates, requests that kill, spent retries.

`agent` hands these to the deciders with the standings of the slots (`world.standings`).
"""

from perdure.control.world import ServiceState
from perdure.detect import deadly, digest, space
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
