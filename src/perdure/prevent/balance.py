"""Which replica is behind which server of HAProxy, and in which administrative state: truth, reconciled.

A backend has a fixed number of servers; a replica takes a free one, is known by its port, and leaves its server in
MAINT. A server is free when it is in MAINT and has no session and no pooled connection, so that no request can reach
the process of somebody else. What HAProxy reports is compared with what should be, each time, so a HAProxy that was
restarted, or that somebody changed by hand, converges. Removals come before additions.

Hard cases: a replica that HAProxy's own checks hold to be down while Perdure has better evidence (it answered since);
no free server (the caller doubles their number with one reconfiguration).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perdure.model.service import Address
from perdure.model.traffic import WEIGHT, Admin, Backend, BalancerChange, CloseServer, PutServer, Server, WeighServer

SERVERS_MIN = 4
WEIGHT_MAX = 256
TRIAL_WEIGHTS = ((3.0, 10), (6.0, 25), (9.0, 50))
"""Until so many seconds after its readmission a replica weighs so much; HAProxy heeds it when it has several requests
at a time.
"""
REPLICA_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Member:
    """A replica that HAProxy must know: its port, and what should become of its traffic."""

    port: int
    admin: Admin
    proved_up: bool = False
    """It answered a probe that was asked after HAProxy was first seen to hold it down."""
    weight: int = WEIGHT


@dataclass(frozen=True, slots=True)
class Plan:
    """What to tell HAProxy, and whether its servers are too few."""

    changes: tuple[BalancerChange, ...] = ()
    servers_short: bool = False


def decide(backend: Backend, members: Sequence[Member]) -> Plan:
    """Compare a reading of one backend with its members; deciding twice on the same reading gives the same plan."""
    wanted = {member.port: member for member in members}
    removals: list[BalancerChange] = []
    known: dict[int, Server] = {}
    for server in backend.servers:
        if server.port in wanted and server.port not in known and server.admin is not Admin.MAINT:
            known[server.port] = server
        elif server.admin is not Admin.MAINT:
            removals.append(PutServer(backend.service, server.name, None, Admin.MAINT))
            if server.sessions:
                removals.append(CloseServer(backend.service, server.name))
    free = [server for server in backend.servers if _free(server)]
    additions: list[BalancerChange] = []
    short = False
    for member in members:
        if member.port in known:
            additions += _correct(backend.service, known[member.port], member)
        elif member.admin is Admin.READY and free:
            address, name = Address(REPLICA_HOST, member.port), free.pop(0).name
            # Before it is in: whoever had this server before may have weighed something else.
            additions.append(WeighServer(backend.service, name, member.weight))
            additions.append(PutServer(backend.service, name, address, Admin.READY))
        elif member.admin is Admin.READY:
            short = True
    return Plan((*removals, *additions), short)


def weight(readmitted_s: float | None) -> int:
    """What a replica weighs so long after it was readmitted (None: it never was): it is tried with a little traffic."""
    if readmitted_s is None:
        return WEIGHT
    return next((share for until_s, share in TRIAL_WEIGHTS if readmitted_s < until_s), WEIGHT)


def shares(share: float, new: int, old: int) -> tuple[int, int]:
    """What each replica of two releases weighs (0 to `WEIGHT_MAX`), so that the `new` ones together get `share` (0 to
    1) of the requests; a release that is alone gets everything, unless its share is none.
    """
    if share <= 0.0 or share >= 1.0 or not new or not old:
        return (0 if share <= 0.0 else WEIGHT), (0 if share >= 1.0 and new else WEIGHT)
    ratio = share / new / ((1.0 - share) / old)
    heavier = WEIGHT_MAX / max(1.0, ratio)
    return max(1, round(ratio * heavier)), max(1, round(heavier))


def applied(backend: Backend, changes: Sequence[BalancerChange]) -> Backend:
    """The backend as it is after `changes`, until the next reading says so itself."""
    servers = {server.name: server for server in backend.servers}
    for change in changes:
        if isinstance(change, WeighServer) and change.service == backend.service and change.server in servers:
            servers[change.server] = replace(servers[change.server], weight=change.weight)
        if isinstance(change, PutServer) and change.service == backend.service and change.server in servers:
            before = servers[change.server]
            port = change.address.port if change.address is not None else before.port
            up = before.up if change.admin is not Admin.READY else True
            servers[change.server] = replace(before, port=port, admin=change.admin, up=up)
    return Backend(backend.service, tuple(servers.values()), backend.queued, backend.retry_allowed, backend.epoch)


def servers_needed(replicas: int, have: int) -> int:
    """How many servers to reserve: a power of two with room for every replica and its successor; never fewer than
    `have`.
    """
    servers = max(SERVERS_MIN, have)
    while servers < 2 * replicas:
        servers *= 2
    return servers


def _correct(service: str, server: Server, member: Member) -> list[BalancerChange]:
    heavy = member.admin is Admin.READY and server.weight != member.weight
    weighed: list[BalancerChange] = [WeighServer(service, server.name, member.weight)] if heavy else []
    if server.admin is not member.admin:
        return [*weighed, PutServer(service, server.name, None, member.admin)]
    if weighed and server.up:
        return weighed
    if member.admin is Admin.READY and not server.up and member.proved_up:
        return [PutServer(service, server.name, None, Admin.READY)]
    return []


def _free(server: Server) -> bool:
    return server.admin is Admin.MAINT and server.sessions == 0 and server.idle_connections == 0
