"""Who may look at what: the modes of sockets and files, and secrets, which appear nowhere but where they are needed."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import processes
from e2e import CHECK, Site, environment_of, site

SECRET = "correct-horse-battery-staple"
FOREIGN = "token-of-the-daemons-own"


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    """A deployment that has been through something, so that there are events, logs and a failure capsule."""
    with site() as made:
        made.web(check=CHECK + f'env = {{ DATABASE_PASSWORD = "{SECRET}" }}\n', replicas=2)
        started = made.run("up", "-d", FOREIGN_TOKEN=FOREIGN, NOTIFY_SOCKET="/run/foreign.sock")
        assert started.returncode == 0, started.stderr
        made.whole()
        victim = made.pids()[0]
        os.kill(victim, signal.SIGKILL)
        made.whole(victim)
        made.ask("restart", "web/2")
        yield made


def test_sockets_and_files_are_for_their_owner_and_the_api_also_for_the_group(web: Site) -> None:
    state = web.paths.state
    assert _mode(state) == 0o750
    assert _mode(web.paths.run) == 0o750
    assert _mode(web.paths.logs) == 0o750
    assert _mode(web.paths.api) == 0o660
    assert _mode(web.haproxy_socket()) == 0o600
    assert {path.name: _mode(path) for path in state.glob("perdure.db*") if _mode(path) != 0o600} == {}
    assert [path for path in state.rglob("*") if path.is_file() and _mode(path) & 0o002] == []


def test_a_secret_of_the_environment_reaches_the_replicas_and_nobody_else(web: Site) -> None:
    assert all(f"DATABASE_PASSWORD={SECRET}".encode() in environment_of(pid) for pid in web.pids())
    others = set(processes.belonging_to(web.directory)) - set(web.pids())
    assert len(others) >= 2, "HAProxy and the daemon at least"
    assert not [pid for pid in others if SECRET.encode() in environment_of(pid)]
    command_lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes.belonging_to(web.directory)]
    assert not [line for line in command_lines if SECRET.encode() in line]


def test_a_secret_is_in_no_log_no_answer_and_no_file_but_the_store(web: Site) -> None:
    kept = [path for path in web.paths.state.rglob("*") if path.is_file() and not path.name.startswith("perdure.db")]
    assert any(path.name == "daemon.log" for path in kept)
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
    asked = ("/v1/status", "/v1/events?after=0", "/v1/explain/web", "/v1/logs?target=web", "/metrics", "/openapi.json")
    answers = {path: web.raw(path) for path in asked}
    assert all(answers.values())
    assert [path for path, answer in answers.items() if SECRET in answer] == []
    said = [web.ask(*words) for words in (("status", "--json"), ("explain", "web"), ("events", "--json"), ("check",))]
    assert SECRET not in "".join(said)


def test_replicas_get_nothing_of_the_daemons_own_environment(web: Site) -> None:
    for pid in web.pids():
        environment = environment_of(pid)
        assert FOREIGN.encode() not in environment
        assert b"/run/foreign.sock" not in environment
        assert b"PERDURE_HOME=" not in environment


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
