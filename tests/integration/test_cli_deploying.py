"""The commands about releases against a stand-in for the daemon's API: what they ask, how they follow, how they end."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_fake_daemon import FakeDaemon, replica, service, serving

import rollout_told as told
from perdure.cli import following, main

FILE = """\
[service.web]
command = "python3 -m http.server $PORT"
replicas = 2
listen = "127.0.0.1:18081"
[service.web.check]
http = "/"
"""
LIMIT_S = 60.0
BEFORE = told.done(number=2, release="web@6", before="web@5")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file, and no daemon; rollouts are asked for without a pause."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_HOME", raising=False)
    monkeypatch.setattr(following, "POLL_S", 0.0)
    (tmp_path / "perdure.toml").write_text(FILE)
    return tmp_path


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    with serving(folder / ".perdure" / "run" / "api.sock") as fake:
        fake.rollouts = {"web": [BEFORE]}
        yield fake


def run(*arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@contextlib.contextmanager
def started(*arguments: str, **streams: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in a process of its own, which is killed when it takes too long, or when the test fails."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    with subprocess.Popen([sys.executable, "-m", "perdure.cli.main", *arguments], text=True, **streams) as process:
        limit = threading.Timer(LIMIT_S, process.kill)
        limit.start()
        try:
            yield process
        finally:
            process.kill()
            limit.cancel()
            limit.join()


def test_a_deploy_is_followed_to_its_end_with_a_line_for_each_change(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = [told.sharing(waits_for=f"{left} more seconds") for left in (42, 41, 40)]
    daemon.begins = {"web": [told.rollout(), told.sharing(1), *waits, told.sharing(3), told.done()]}
    assert run("deploy", "web", "web", "-m", "a new login page", "--strategy", "canary", "--observe", "--force") == 0
    wishes = {"strategy": "canary", "message": "a new login page", "observe": True, "force": True}
    assert daemon.commands == [("deploy", {"services": ["web"], **wishes})]
    assert capsys.readouterr().out.splitlines() == [
        "deploy is recorded",
        "web@7 is deployed: no traffic yet; 1 of 2 new replicas answer their checks",
        "web@7 is deployed: 5% of the requests, step 1 of 4; 42 more seconds",
        "web@7 is deployed: 25% of the requests, step 2 of 4; 42 more seconds",
        "web@7 is deployed: 50% of the requests, step 3 of 4; 42 more seconds",
        "web@7 has all the traffic (after 14 m 2 s)",
        "  web@7 failed 2 of 1,234 requests, web@6 5 of 3,801",
    ]


def test_what_a_step_waits_for_is_not_told_of_the_step_before(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = told.sharing(since_s=0.05, waits_for="the tests run")
    daemon.begins = {"web": [stale, told.sharing(), told.done()]}
    assert run("deploy", "web") == 0
    out = capsys.readouterr().out
    assert "the tests run" not in out and "25% of the requests, step 2 of 4; 42 more seconds" in out


def test_a_deploy_that_is_rolled_back_ends_with_3_when_nothing_of_it_runs_any_more(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.begins = {"web": [told.sharing(), told.going_back(), told.rolled_back()]}
    assert run("deploy") == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"web@7 goes back to web@6: {told.WHY}"
    assert lines[3] == f"web@7 was rolled back to web@6: {told.WHY} (after 16 s)"
    assert any("perdure diff web@6 web@7" in line for line in lines)
    assert len(daemon.rollouts["web"]) == 1


def test_a_deploy_that_somebody_aborts_ends_with_3(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.begins = {"web": [told.sharing(), told.aborted()]}
    assert run("deploy", "web") == 3
    assert "web@7 was aborted, and web@6 serves" in capsys.readouterr().out


def test_all_services_of_a_deploy_are_followed_and_the_bad_end_is_told_last(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.status["services"] = {"api": service(replica("api/1")), "web": service(replica("web/1"))}
    daemon.status["services"]["idle"] = service(replica("idle/1"))
    daemon.rollouts["idle"] = [told.rolled_back(release="idle@4", number=9)]
    names = {"release": "api@2", "before": "api@1", "number": 1}
    daemon.begins = {
        "api": [told.sharing(**names), told.rolled_back(**names, ended_for="it is bad")],
        "web": [told.sharing(), told.sharing(3), told.done()],
    }
    assert run("deploy") == 3
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert not any("idle" in line for line in lines)
    assert lines[-2:] == [
        "web@7 has all the traffic (after 14 m 2 s)",
        "api@2 was rolled back to api@1: it is bad (after 16 s)",
    ]


def test_a_rollout_that_is_only_begun_when_asked_for_again_is_waited_for(daemon: FakeDaemon) -> None:
    calm = daemon.status
    begun = {"web": calm["services"]["web"] | {"rollout": told.sharing()}}
    daemon.rollouts = {}
    daemon.after_command = [calm, calm, calm | {"services": begun}]
    daemon.begins = {}
    assert run("deploy", "web", "--detach") == 0
    assert daemon.after_command == []


def test_for_programs_a_deploy_is_a_document_on_each_line(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [told.sharing(), told.going_back(), told.rolled_back()]
    daemon.begins = {"web": list(documents)}
    assert run("deploy", "web", "--json") == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"service": "web", **one} for one in documents]


def test_detached_a_deploy_says_how_to_look_again(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.begins = {"web": [told.sharing()]}
    assert run("deploy", "--detach") == 0
    assert capsys.readouterr().out.splitlines() == [
        "deploy is recorded",
        "the rollout goes on; to look again: perdure deploy --status web",
        "to end it: perdure abort web",
    ]
    daemon.rollouts = {"web": [BEFORE]}
    assert run("deploy", "--detach", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"web": told.sharing()}


def test_a_mistake_in_the_file_deploys_nothing(
    daemon: FakeDaemon, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "perdure.toml").write_text(FILE.replace("replicas = 2", "replicas = 0"))
    assert run("deploy") == 2
    assert "service.web.replicas" in capsys.readouterr().err
    assert daemon.commands == []


def test_the_status_of_a_rollout_is_one_look_and_gives_no_command(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.rollouts = {"web": [told.sharing(), told.rolled_back()]}
    assert run("deploy", "--status", "web") == 0
    out = capsys.readouterr().out
    assert "▸   25%" in out and not any(line.endswith(" ") for line in out.splitlines())
    assert run("deploy", "--status") == 0
    assert "was rolled back" in capsys.readouterr().out
    assert run("deploy", "--status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"web": told.rolled_back()}
    assert daemon.commands == []


def test_the_status_of_what_was_never_deployed_says_so(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.rollouts = {}
    assert run("deploy", "--status") == 0
    assert run("deploy", "--status", "web") == 0
    assert capsys.readouterr().out == "nothing was deployed yet\nnothing was deployed yet of web\n"
    assert run("deploy", "--status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"web": None}


@pytest.mark.parametrize(
    "words",
    [
        ("--status", "--force"),
        ("--status", "--strategy", "canary"),
        ("--status", "-m", "x"),
        ("--status", "--observe"),
        ("--status", "--detach"),
        ("--status", "--timeout", "1s"),
        ("--detach", "--timeout", "1s"),
        ("--strategy", "nonsense"),
        ("--timeout", "nonsense"),
    ],
)
def test_options_that_would_be_ignored_or_are_none_are_mistakes(daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    assert run("deploy", *words) == 2
    assert daemon.commands == []


def test_following_ends_at_its_time_out_and_the_rollout_goes_on(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.begins = {"web": [told.sharing()]}
    assert run("deploy", "web", "--timeout", "100ms") == 4
    err = capsys.readouterr().err
    assert "web: not done after 0.1 s; the rollout goes on" in err and "perdure deploy --status web" in err


def test_another_rollout_in_the_place_of_the_followed_one_is_no_success(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.begins = {"web": [told.sharing(), told.done(number=4, release="web@8")]}
    assert run("deploy", "web") == 5
    assert "another one has begun" in capsys.readouterr().err


def test_ctrl_c_ends_the_looking_and_says_how_to_go_on(daemon: FakeDaemon) -> None:
    daemon.begins = {"web": [told.sharing()]}
    with started("deploy", "web") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "deploy is recorded\n"
        assert process.stdout.readline().startswith("web@7 is deployed")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (130, "")
    assert "the rollout goes on" in out and "perdure abort web" in out


def test_a_daemon_that_goes_away_is_waited_for_and_the_rollout_is_followed_on(folder: Path) -> None:
    path = folder / ".perdure" / "run" / "api.sock"
    with contextlib.ExitStack() as stack:
        with serving(path) as daemon:
            daemon.begins = {"web": [told.sharing()]}
            process = stack.enter_context(started("deploy", "web"))
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "deploy is recorded\n"
            assert process.stdout.readline().startswith("web@7 is deployed")
        assert "waiting for it, the rollout goes on when it runs" in process.stderr.readline()
        with serving(path, {"web": [told.done()]}):
            out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert err == "the daemon answers again\n" and out.startswith("web@7 has all the traffic")


def test_a_daemon_that_does_not_come_back_is_not_waited_for_for_ever(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "COMES_BACK_S", 0.1)
    daemon.begins = {"web": [told.sharing()]}
    show = following._Changes.__call__

    def then_none_answers(*arguments: Any) -> None:
        show(*arguments)
        daemon.error = (503, {"kind": "UnavailableError", "sentence": "nobody answers"})

    monkeypatch.setattr(following._Changes, "__call__", then_none_answers)
    assert run("deploy", "web") == 4
    assert capsys.readouterr().err.splitlines() == [
        "nobody answers: waiting for it, the rollout goes on when it runs",
        "perdure: nobody answers; the rollout goes on when the daemon runs again",
        "  try: perdure up -d, then perdure deploy --status web",
    ]


def test_on_a_terminal_the_rollout_is_a_live_picture_that_the_end_replaces(daemon: FakeDaemon) -> None:
    daemon.begins = {"web": [told.sharing(), told.sharing(3), told.done()]}
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    with started("deploy", "web", stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = _all_of(ours)
        assert process.wait(LIMIT_S) == 0
    for part in ("▸   25%", "▸   50%", "42 more seconds", "web@7 has all the traffic"):
        assert part in shown
    assert "\x1b[2K" in shown.partition("(after 14 m 2 s)")[0].rpartition("evidence")[2], "the picture stays"


def _all_of(terminal: int) -> str:
    """What is written to a terminal until nobody has it open any more."""
    data = b""
    try:
        while part := os.read(terminal, 65536):
            data += part
    except OSError:  # Linux says so at its end
        pass
    finally:
        os.close(terminal)
    return data.decode()


def test_a_rollback_to_a_release_that_stands_by_is_done_when_the_later_one_is_gone(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.rollouts = {"web": [told.done(), told.going_back(result="aborted"), told.aborted()]}
    assert run("rollback", "web") == 0
    assert daemon.commands == [("rollback", {"service": "web", "release": None, "force": False})]
    assert "web@7 was aborted, and web@6 serves" in capsys.readouterr().out


def test_a_rollback_to_a_release_that_must_start_is_a_rollout_of_its_own(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"number": 3, "release": "web@5", "before": "web@6", "back": True}
    daemon.begins = {"web": [told.rollout(**names), told.rollout(**names), told.done(**names, phase="done")]}
    assert run("rollback", "web", "web@5") == 0
    assert daemon.commands == [("rollback", {"service": "web", "release": "web@5", "force": False})]
    lines = capsys.readouterr().out.splitlines()
    assert "web@5 is brought back: no traffic yet; 1 of 2 new replicas answer their checks" in lines
    daemon.rollouts = {"web": [BEFORE]}
    daemon.begins = {"web": [told.rollout(**names), told.rolled_back(**names)]}
    assert run("rollback", "web", "web@5") == 3


def test_a_rollback_that_nobody_waits_for_returns_when_it_is_recorded(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.begins = {"web": [told.rollout()]}
    assert run("rollback", "web", "--no-wait") == 0
    assert capsys.readouterr().out == "rollback is recorded\n"


@pytest.mark.parametrize("verb", ["abort", "promote-release", "acknowledge"])
def test_a_command_about_a_rollout_names_its_service(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert run(verb, "web") == 0
    assert daemon.commands == [(verb, {"service": "web"})]
    out = capsys.readouterr().out
    assert out.startswith(f"{verb} is recorded\n") and ("deploy --status web" in out) == (verb != "acknowledge")


def test_releases_and_their_difference_are_shown_for_people_and_for_programs(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    release = {"release": "web@6", "made_at": 1.7e9, "message": "", "command": [], "files": "", "state": "serves"}
    daemon.documents = {
        "releases": [release | {"verdict": ""}],
        "diff": {"before": "web@6", "after": "web@7", "lines": ["+ env KEY"]},
    }
    for words, kind, part in (
        (("releases", "web"), "releases", "serves"),
        (("diff", "web@6", "web@7"), "diff", "+ env"),
    ):
        assert run(*words) == 0
        assert part in capsys.readouterr().out
        assert run(*words, "--json") == 0
        assert json.loads(capsys.readouterr().out) == daemon.documents[kind]
    assert daemon.asked_after == ["releases web"] * 2 + ["diff web@6 web@7"] * 2


def test_a_refusal_of_the_daemon_arrives_with_its_hint(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"kind": "RefusedError", "sentence": "nothing of web is on trial", "hint": "perdure rollback web"}
    daemon.error = (409, refused)
    assert run("abort", "web") == 6
    assert capsys.readouterr().err == "perdure: nothing of web is on trial\n  try: perdure rollback web\n"
