"""The daemon itself is killed or stopped: HAProxy and the replicas serve on, and the next daemon takes them over."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from e2e import Site, get, gone, site, wait


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as made:
        made.web()
        made.up()
        yield made


async def test_a_killed_daemon_fails_no_request_and_the_next_one_adopts_every_process(web: Site) -> None:
    web.whole()
    before = web.status()
    async with web.load() as clients:
        for _ in range(2):
            await asyncio.sleep(random.uniform(0.1, 1.1))
            _kill_daemon(web)
            await asyncio.sleep(random.uniform(0.1, 1.1))
            web.up()
            web.whole()
    after = web.status()
    assert clients.result.failed == 0, clients.result.sentence()
    assert [one["pid"] for one in after["services"]["web"]["replicas"]] == [
        one["pid"] for one in before["services"]["web"]["replicas"]
    ]
    assert [one["restarts"] for one in after["services"]["web"]["replicas"]] == [0, 0, 0]
    assert after["balancer"]["pid"] == before["balancer"]["pid"]
    assert after["daemon"]["pid"] != before["daemon"]["pid"]
    assert {"A05", "A07"} <= set(web.rules())


async def test_a_replica_that_dies_while_no_daemon_runs_is_out_within_ten_seconds(web: Site) -> None:
    web.whole()
    victim, *others = web.replicas()
    async with web.load(rate=200.0) as clients:
        _kill_daemon(web)
        os.kill(victim["pid"], signal.SIGKILL)
        wait(lambda: victim["port"] not in web.carried(), "HAProxy itself takes the dead replica out", 10.0)
        answered = {get(web.port).split()[-1] for _ in range(30)}
    assert clients.result.failed == 0, clients.result.sentence()
    assert answered == {str(other["pid"]) for other in others}
    web.up()
    web.whole(victim["pid"])
    assert {other["pid"] for other in others} < set(web.pids())
    assert "R15" in web.rules()


async def test_ten_seconds_without_the_daemon_isolate_nobody_and_restart_nothing(web: Site) -> None:
    web.whole()
    since, status = web.newest(), web.status()
    daemon = status["daemon"]["pid"]
    async with web.load(rate=100.0) as clients:
        os.kill(daemon, signal.SIGSTOP)
        await asyncio.sleep(10.0)
        os.kill(daemon, signal.SIGCONT)
        wait(lambda: "A10" in web.rules(since), "the daemon notes its own pause")
        resumed_s = web.status()["daemon"]["uptime_s"]
        wait(lambda: web.status()["daemon"]["uptime_s"] > resumed_s + 2.5, "every check was asked again, twice")
    assert set(web.rules(since)) == {"A10"}, web.events(since)
    assert web.pids() == [one["pid"] for one in status["services"]["web"]["replicas"]]
    assert web.status()["balancer"]["pid"] == status["balancer"]["pid"]
    assert clients.result.failed == 0, clients.result.sentence()


def test_a_second_daemon_is_refused_and_the_first_does_not_notice(web: Site) -> None:
    web.whole()
    since, pids = web.newest(), web.pids()
    by_command = web.run("up", "-d")
    assert by_command.returncode == 5, by_command.stderr
    assert "try: " in by_command.stderr
    daemon = [sys.executable, "-m", "perdure.control.daemon", "--file", str(web.file), "--state", str(web.paths.state)]
    directly = subprocess.run(daemon, cwd=web.directory, capture_output=True, text=True, timeout=20, check=False)
    assert directly.returncode == 5, directly.stderr
    assert str(web.status()["daemon"]["pid"]) in directly.stderr
    assert (web.rules(since), web.pids(), web.state()) == ([], pids, "ok")


def _kill_daemon(web: Site) -> None:
    daemon = web.status()["daemon"]["pid"]
    os.kill(daemon, signal.SIGKILL)
    wait(lambda: gone(daemon), "the daemon is dead")
