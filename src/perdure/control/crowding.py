"""Whether clients ask for more than all replicas of a service may do at once, by HAProxy's reading; pure.

`observe` notes since when, `agent` hands the sentence to `prevent.notice`.
"""

from perdure.control.world import ServiceState
from perdure.model.traffic import Backend
from perdure.prevent import notice

CROWDED_SHARE = 0.8
"""Of the requests that the replicas may have together: one of them may just have answered."""


def crowded(service: ServiceState, backend: Backend) -> bool:
    """Whether requests wait because the replicas that serve have as many as they may."""
    most = service.desired.service.limits.max_concurrent
    if most is None or not backend.queued:
        return False
    serving = {slot.replica.port for slot in service.slots.values() if slot.replica is not None and slot.serves}
    sessions = [server.sessions for server in backend.servers if server.port in serving]
    return bool(serving) and sum(sessions) >= CROWDED_SHARE * most * len(serving)


def overloaded(service: ServiceState) -> str:
    """What to tell when clients ask for more than all replicas may do at once; empty otherwise."""
    since_at, most = service.crowded_since_at, service.desired.service.limits.max_concurrent
    if since_at is None or most is None or service.backend is None:
        return ""
    return notice.overloaded(most, service.backend.queued, service.backend_at - since_at)
