"""Which replica is behind which server: free servers only, removals first, and always converging."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.service import Address
from perdure.model.traffic import WEIGHT, Admin, Backend, CloseServer, Counters, PutServer, Server, WeighServer
from perdure.prevent import balance
from perdure.prevent.balance import Member, Plan

PORTS = st.integers(21_001, 21_006)
ADMINS = st.sampled_from(Admin)
MEMBERS = st.lists(
    st.builds(Member, PORTS, st.sampled_from([Admin.READY, Admin.DRAIN]), st.booleans()),
    max_size=5,
    unique_by=lambda member: member.port,
).map(tuple)


def server(name: str, port: int = 0, admin: Admin = Admin.MAINT, **changed: Any) -> Server:
    fields: dict[str, Any] = {"up": True, "sessions": 0, "idle_connections": 0, "counters": Counters()} | changed
    return Server(name, port, admin, **fields)


def decided(servers: list[Server], *members: Member) -> Plan:
    return balance.decide(Backend("web", tuple(servers)), members)


@pytest.mark.parametrize(
    ("readmitted_s", "weight"), [(None, 100), (0.0, 10), (2.9, 10), (3.0, 25), (6.0, 50), (8.9, 50), (9.0, 100)]
)
def test_a_readmitted_replica_is_tried_with_a_little_traffic_first(readmitted_s: float | None, weight: int) -> None:
    assert balance.weight(readmitted_s) == weight


def test_a_weight_is_put_right_before_the_server_gets_requests_and_while_it_does() -> None:
    light, weighed = Member(21_001, Admin.READY, weight=10), WeighServer("web", "s1", 10)
    drained = server("s1", 21_001, Admin.DRAIN, weight=0)
    assert decided([drained], light).changes == (weighed, PutServer("web", "s1", None, Admin.READY))
    assert decided([drained], Member(21_001, Admin.DRAIN)).changes == ()
    assert decided([server("s1", 21_001, Admin.READY)], light).changes == (weighed,)
    assert decided([server("s1", 21_001, Admin.READY, weight=10)], light).changes == ()
    emptied = server("s1", 21_001, Admin.READY, weight=0)
    assert decided([emptied], Member(21_001, Admin.READY)).changes == (WeighServer("web", "s1", 100),)


def test_the_weight_of_a_server_that_is_down_says_nothing() -> None:
    down = server("s1", 21_001, Admin.READY, up=False, weight=0)
    assert decided([down], Member(21_001, Admin.READY)).changes == ()


@st.composite
def backends(draw: st.DrawFn) -> Backend:
    servers = [
        server(
            f"s{number}",
            draw(st.just(0) | PORTS),
            draw(ADMINS),
            up=draw(st.booleans()),
            sessions=draw(st.integers(0, 2)),
            idle_connections=draw(st.integers(0, 2)),
        )
        for number in range(1, draw(st.integers(1, 8)) + 1)
    ]
    return Backend("web", tuple(servers))


def test_a_ready_member_takes_a_free_server() -> None:
    plan = decided([server("s1"), server("s2")], Member(21_001, Admin.READY))
    assert plan.changes == (
        WeighServer("web", "s1", WEIGHT),  # first: who had the server before may have weighed something else
        PutServer("web", "s1", Address("127.0.0.1", 21_001), Admin.READY),
    )


@pytest.mark.parametrize("busy", [server("s1", 9, sessions=1), server("s1", 9, idle_connections=1)])
def test_a_server_with_a_session_or_a_pooled_connection_is_not_free(busy: Server) -> None:
    assert decided([busy], Member(21_001, Admin.READY)) == Plan((), servers_short=True)


def test_a_server_that_nobody_wants_is_taken_out_before_anything_is_added() -> None:
    gone = server("s1", 21_009, Admin.READY, sessions=2)
    plan = decided([gone, server("s2")], Member(21_001, Admin.READY))
    assert plan.changes == (
        PutServer("web", "s1", None, Admin.MAINT),
        CloseServer("web", "s1"),
        WeighServer("web", "s2", WEIGHT),
        PutServer("web", "s2", Address("127.0.0.1", 21_001), Admin.READY),
    )


def test_a_server_that_was_just_taken_out_is_not_used_in_the_same_breath() -> None:
    plan = decided([server("s1", 21_009, Admin.READY)], Member(21_001, Admin.READY))
    assert plan == Plan((PutServer("web", "s1", None, Admin.MAINT),), servers_short=True)


def test_a_member_that_leaves_is_drained_and_one_that_is_unknown_stays_out() -> None:
    known = server("s1", 21_001, Admin.READY)
    assert decided([known], Member(21_001, Admin.DRAIN)).changes == (PutServer("web", "s1", None, Admin.DRAIN),)
    assert decided([server("s1")], Member(21_001, Admin.DRAIN)) == Plan()


def test_of_two_servers_with_the_same_replica_one_is_taken_out() -> None:
    twice = [server("s1", 21_001, Admin.READY), server("s2", 21_001, Admin.READY)]
    assert decided(twice, Member(21_001, Admin.READY)).changes == (PutServer("web", "s2", None, Admin.MAINT),)


@pytest.mark.parametrize(("proved_up", "changes"), [(True, 1), (False, 0)])
def test_a_server_that_is_held_down_comes_back_when_perdure_has_better_evidence(proved_up: bool, changes: int) -> None:
    down = server("s1", 21_001, Admin.READY, up=False)
    plan = decided([down], Member(21_001, Admin.READY, proved_up))
    assert plan.changes == (PutServer("web", "s1", None, Admin.READY),) * changes


def test_a_balancer_that_forgot_everything_gets_every_member_again() -> None:
    members = [Member(port, Admin.READY) for port in (21_001, 21_002, 21_003)]
    plan = decided([server(f"s{number}") for number in range(1, 5)], *members)
    assert [change.address.port for change in plan.changes if isinstance(change, PutServer) and change.address] == [
        21_001,
        21_002,
        21_003,
    ]


@given(backends(), MEMBERS)
def test_deciding_twice_on_the_same_reading_gives_the_same_plan(backend: Backend, members: tuple[Member, ...]) -> None:
    assert balance.decide(backend, members) == balance.decide(backend, members)


@given(backends(), MEMBERS)
def test_a_member_never_gets_a_server_with_sessions_or_pooled_connections(
    backend: Backend, members: tuple[Member, ...]
) -> None:
    servers = {one.name: one for one in backend.servers}
    for change in balance.decide(backend, members).changes:
        if isinstance(change, PutServer) and change.address is not None:
            taken = servers[change.server]
            assert (taken.admin, taken.sessions, taken.idle_connections) == (Admin.MAINT, 0, 0)


@given(backends(), MEMBERS)
def test_applying_the_plan_leaves_nothing_to_do_but_to_use_the_servers_it_freed(
    backend: Backend, members: tuple[Member, ...]
) -> None:
    plan = balance.decide(backend, members)
    after = balance.applied(backend, plan.changes)
    again = balance.decide(after, members)
    if plan.servers_short:
        put = [change for change in again.changes if not isinstance(change, WeighServer)]
        assert all(isinstance(change, PutServer) and change.address is not None for change in put)
        after = balance.applied(after, again.changes)
        again = balance.decide(after, members)
    assert again.changes == ()


@given(backends(), MEMBERS)
def test_after_the_plan_exactly_the_members_that_are_ready_get_requests(
    backend: Backend, members: tuple[Member, ...]
) -> None:
    plan = balance.decide(backend, members)
    ready = [one.port for one in balance.applied(backend, plan.changes).servers if one.admin is Admin.READY]
    wanted = {member.port for member in members if member.admin is Admin.READY}
    assert len(set(ready)) == len(ready)
    assert set(ready) <= wanted
    assert plan.servers_short or set(ready) == wanted


@pytest.mark.parametrize(
    ("replicas", "have", "needed"), [(1, 0, 4), (2, 0, 4), (3, 0, 8), (3, 16, 16), (100, 0, 256), (1000, 4, 2048)]
)
def test_servers_are_reserved_for_each_replica_and_its_successor(replicas: int, have: int, needed: int) -> None:
    assert balance.servers_needed(replicas, have) == needed


def test_changes_of_another_service_are_not_applied() -> None:
    backend = Backend("web", (server("s1", 21_001, Admin.READY),))
    assert balance.applied(backend, [PutServer("api", "s1", None, Admin.MAINT)]) == backend


@pytest.mark.parametrize(
    ("share", "new", "old", "weights"),
    [
        (0.0, 2, 3, (0, 100)),
        (0.0, 2, 0, (0, 100)),  # what was not tested gets nothing, whatever happens to the others
        (1.0, 3, 3, (100, 0)),
        (1.0, 0, 3, (100, 100)),  # nobody of the new release is left: the old one carries everything
        (0.25, 1, 0, (100, 100)),
        (0.5, 2, 2, (256, 256)),
        (0.5, 1, 3, (256, 85)),
        (0.05, 1, 3, (40, 256)),
        (0.9, 3, 1, (256, 85)),
    ],
)
def test_two_releases_share_by_what_their_replicas_weigh(
    share: float, new: int, old: int, weights: tuple[int, int]
) -> None:
    assert balance.shares(share, new, old) == weights


@given(st.floats(0.001, 0.999), st.integers(1, 100), st.integers(1, 100))
def test_the_shares_are_true_to_the_weights_that_haproxy_knows(share: float, new: int, old: int) -> None:
    for_new, for_old = balance.shares(share, new, old)
    assert 1 <= for_new <= balance.WEIGHT_MAX and 1 <= for_old <= balance.WEIGHT_MAX
    # Whole numbers up to 256: where one side weighs nearly nothing, no closer share can be had.
    closest = 1.0 / (1.0 + 256 * old / new), 1.0 / (1.0 + old / (256 * new))
    wanted = min(max(share, closest[0]), closest[1])
    assert new * for_new / (new * for_new + old * for_old) == pytest.approx(wanted, rel=0.5, abs=0.003)
