"""Services of other kinds: with heartbeats, dependencies, checks by command, bytes instead of requests, and limits."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from bench.load import Kind
from e2e import APP, CHECK, Site, break_replica, environment_of, failed, get, gone, site, wait

BEATS = 'heartbeat = { every = "500ms" }\n'
URL, SOCKET = "PERDURE_HEARTBEAT_URL", "NOTIFY_SOCKET"
USER = f'user = "{os.geteuid()}"\n'
WAYS = {"posts": (SOCKET, ""), "notifies": (URL, ""), "notifies-as-a-user": (URL, USER)}
"""A service that tells in one way only: the variable of the other way, which it does not get, and more of its file."""


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with site() as made:
        beating = [
            f"[service.{name}]\ncommand = {json.dumps(['env', '-u', other, *APP, '--heartbeat', '0.2'])}\n{more}{BEATS}"
            for name, (other, more) in WAYS.items()
        ]
        by_command = 'check = { command = "test ! -e sick-$PORT", interval = "500ms" }\n'
        made.write(
            "\n".join(beating)
            + made.service("late", "--start-delay", "0.7", more=CHECK)
            + made.service("after", more=f'depends_on = "late"\n{CHECK}')
            + made.service("asked", more=by_command, replicas=2, port=made.port)
            + made.service("bytes", more='protocol = "tcp"\n', replicas=2, port=made.ports[1])
            + made.service("greedy", more='limits = { memory = "150MB" }\n' + CHECK, replicas=2, port=made.ports[2])
        )
        made.up()
        yield made


@pytest.mark.parametrize("name", WAYS)
def test_a_service_that_stops_telling_is_restarted(here: Site, name: str) -> None:
    since, before = here.newest(), here.replica(1, name)
    assert before["state"] == "ready"
    break_replica(before, "mute")
    wait(lambda: here.pids(name) not in ([], [before["pid"]]), "its successor runs", 15.0)
    assert gone(before["pid"])
    assert _ended_for(here, since, name) == "silent"
    wait(lambda: here.replica(1, name)["state"] == "ready", "its successor tells")


def test_a_service_with_a_user_gets_a_notify_socket_that_any_user_can_reach(here: Site) -> None:
    private, public = (environment_of(here.replica(1, name)["pid"]) for name in ("notifies", "notifies-as-a-user"))
    assert b"NOTIFY_SOCKET=" + bytes(here.paths.run) in private
    assert b"NOTIFY_SOCKET=@perdure-" in public


def test_a_service_starts_when_what_it_depends_on_is_ready(here: Site) -> None:
    numbers = {(one["subject"], one["rule"]): one["number"] for one in reversed(here.events())}
    assert numbers["late/1", "P01"] < numbers["late/1", "P06"] < numbers["after/1", "P01"] < numbers["after/1", "P06"]


def test_a_check_by_command_isolates_and_readmits(here: Site) -> None:
    here.whole(service="asked")
    victim = here.replica(2, "asked")
    sick = here.directory / f"sick-{victim['port']}"
    sick.touch()
    wait(lambda: victim["port"] not in here.carried("asked"), "it is out of traffic", 5.0)
    assert "command test" in json.dumps(here.explain("asked/2"))
    sick.unlink()
    wait(lambda: victim["port"] in here.carried("asked"), "it is readmitted", 15.0)
    assert here.replica(2, "asked")["pid"] == victim["pid"]


async def test_a_service_of_bytes_takes_new_connections_while_a_replica_is_killed(here: Site) -> None:
    here.whole(service="bytes")
    victim = here.replica(1, "bytes")
    mix = (Kind(path="/slow?s=0.1"),)
    async with here.load(rate=100.0, port=here.ports[1], mix=mix) as clients:
        wait(lambda: _both_carry(here), "both replicas have connections")
        os.kill(victim["pid"], signal.SIGKILL)
        wait(lambda: gone(victim["pid"]), "it is gone")
        gone_at = time.monotonic()
        here.whole(victim["pid"], service="bytes")
    # HAProxy cannot repeat bytes: the client itself asks again when its connection is cut without an answer. The kernel
    # may close a dying process's listening socket after its connections, so asking again at once may be cut, too.
    assert clients.result.resent > 0
    assert [sample for sample in failed(clients.samples) if sample.due_at > gone_at] == []
    assert get(here.ports[1], "/healthz") == "ok"


def test_a_replica_that_passes_its_memory_limit_is_replaced(here: Site) -> None:
    since, before = here.newest(), here.replica(1, "greedy")
    break_replica(before, "memory&size=200000000")
    wait(lambda: gone(before["pid"]), "it is ended", 15.0)
    assert _ended_for(here, since, "greedy") == "memory"
    here.whole(before["pid"], service="greedy")


def _both_carry(here: Site) -> bool:
    counts = here.sessions("bytes").values()
    return len(counts) == 2 and all(counts)


def _ended_for(here: Site, since: int, name: str) -> str:
    """The sign for which Perdure ended the replica."""
    return next(
        str(one["facts"]["sign"]) for one in here.events(since) if (one["subject"], one["rule"]) == (f"{name}/1", "R11")
    )
