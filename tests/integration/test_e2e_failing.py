"""Replicas that run and yet fail: wrong answers, errors, crash loops, stubborn ends, and a stranger on their port."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from e2e import APP, CHECK, Site, break_replica, get, gone, site, wait

BROKEN = "the database is not there"
LOOP = ("sh", "-c", f"if [ -e broken ]; then echo {BROKEN} >&2; exit 3; fi; exec sleep 600")


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    """Four services: `web`, one that ends at once, one that does not want to end, one whose port a stranger has."""
    with site() as made:
        stubborn = 'restart = { stop_timeout = "500ms" }\n'
        loop = f'[service.loop]\ncommand = {json.dumps(LOOP)}\nrestart = {{ backoff_max = "400ms" }}\n'
        foreign = f'[service.foreign]\ncommand = "sleep 600"\nport = {made.ports[1]}\n{CHECK}'
        made.write(
            made.service("web", more=CHECK, replicas=3, port=made.port)
            + made.service("stubborn", "--ignore-sigterm", "--children", "2", more=stubborn)
            + loop
            + foreign
        )
        (made.directory / "broken").touch()
        made.ask("up", "-d", "--no-wait")
        made.whole()
        yield made


def test_a_crash_loop_is_shown_with_its_cause_and_ends_by_itself_with_it(here: Site) -> None:
    wait(lambda: here.state("loop") == "crash-looping", "the crash loop is shown")
    (slot,) = here.explain("loop")["slots"]
    assert slot["capsule"]["exit"] == "exit code 3"
    assert slot["capsule"]["lines"][-1] == BROKEN
    shown = here.ask("explain", "loop")
    assert "exit code 3" in shown and BROKEN in shown
    (here.directory / "broken").unlink()
    wait(lambda: here.replica(1, "loop")["state"] == "ready", "it recovers without a command")


def test_wrong_content_with_status_200_isolates_and_right_content_readmits(here: Site) -> None:
    here.whole()
    since, victim = here.newest(), here.replica(2)
    break_replica(victim, "content&on=health")
    wait(lambda: victim["port"] not in here.carried(), "wrong content takes it out of traffic", 4.0)
    assert _convictions(here, since) == {"web/2": "content"}
    break_replica(victim, "none")
    wait(lambda: victim["port"] in here.carried(), "it is readmitted", 20.0)
    assert here.replica(2)["pid"] == victim["pid"]


async def test_a_replica_that_fails_a_fifth_of_its_requests_is_isolated_within_seconds(here: Site) -> None:
    here.whole()
    since, victim = here.newest(), here.replica(3)
    async with here.load(rate=60.0) as clients:
        break_replica(victim, "error&share=0.2")
        wait(lambda: victim["port"] not in here.carried(), "it is out of traffic", 6.0)
    assert _convictions(here, since) == {"web/3": "requests"}
    assert set(clients.result.outcomes) <= {"ok", "status 500"}, clients.result.sentence()
    os.kill(victim["pid"], signal.SIGKILL)
    here.whole(victim["pid"])


async def test_errors_that_all_replicas_share_isolate_nobody_and_raise_one_alarm(here: Site) -> None:
    here.whole()
    since, pids = here.newest(), here.pids()
    async with here.load(rate=60.0):
        for replica in here.replicas():
            break_replica(replica, "error&share=0.2")
        wait(lambda: _alarms(here, since), "an alarm says what they share")
        began_s = here.status()["daemon"]["uptime_s"]
        wait(lambda: here.status()["daemon"]["uptime_s"] > began_s + 3.0, "it goes on for a while")
        for replica in here.replicas():
            break_replica(replica, "none")
    assert _convictions(here, since) == {}
    (alarm,) = _alarms(here, since)
    assert alarm["rule"] in ("R07", "R08"), "all requests go to one endpoint: either is what they share"
    assert alarm["facts"]["sign"] == "requests"
    assert here.pids() == pids


def test_a_replica_that_ignores_sigterm_is_gone_with_its_children_after_the_deadline(here: Site) -> None:
    wait(lambda: here.replica(1, "stubborn")["state"] == "ready", "it runs")
    (first,) = here.pids("stubborn")
    family = [first, *(child.pid for child in psutil.Process(first).children(recursive=True))]
    assert len(family) == 3
    since = here.newest()
    here.ask("restart", "stubborn")
    assert gone(*family)
    assert "R12" in here.rules(since)
    wait(lambda: here.replica(1, "stubborn")["state"] == "ready", "its successor runs")


def test_a_replica_whose_port_a_stranger_answers_is_never_ready_and_the_stranger_is_named(here: Site) -> None:
    since = here.newest()
    stranger = subprocess.Popen(
        [*APP, "--port", str(here.ports[1])], stdout=subprocess.DEVNULL, cwd=here.directory, stdin=subprocess.DEVNULL
    )
    try:
        wait(lambda: _answers(here.ports[1]), "the stranger answers")
        told = wait(lambda: [one for one in here.events(since) if one["subject"] == "foreign/1"], "it is noticed")
        assert f"port {here.ports[1]} is answered by a process that is not the replica's" in told[0]["sentence"]
        assert here.state("foreign") != "ok"
        assert not [one for one in here.events() if one["subject"] == "foreign/1" and one["rule"] == "P06"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def _convictions(here: Site, since: int) -> dict[str, Any]:
    """Slot -> sign, of everything that was isolated."""
    return {one["subject"]: one["facts"]["sign"] for one in here.events(since) if one["rule"] == "R01"}


def _alarms(here: Site, since: int) -> list[dict[str, Any]]:
    found = here.events(since)
    return [one for one in found if one["severity"] == "alarm" and one["subject"].startswith("web")]


def _answers(port: int) -> bool:
    try:
        return get(port, "/healthz", timeout_s=1.0) == "ok"
    except OSError:
        return False
