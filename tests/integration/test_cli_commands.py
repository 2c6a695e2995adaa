"""The commands against a stand-in for the daemon's API: what they ask, what they print, how they end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fake_daemon import EVENTS, EXPLANATION, FakeDaemon, changed, replica, serving

from perdure.cli import client, main

FILE = """\
[service.web]
command = "python3 -m http.server $PORT"
replicas = 2
listen = "127.0.0.1:18080"
[service.web.check]
http = "/"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file, and no daemon."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_HOME", raising=False)
    (tmp_path / "perdure.toml").write_text(FILE)
    return tmp_path


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    with serving(folder / ".perdure" / "run" / "api.sock") as fake:
        yield fake


def run(*arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_status_for_programs_is_exactly_what_the_daemon_said(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == daemon.status


def test_status_for_people_shows_every_replica(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status") == 0
    out = capsys.readouterr().out
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert "web/1" in out and "web/2" in out and "HAProxy 2.8.5" in out


def test_without_a_daemon_a_command_says_how_to_start_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("status",), ("events",), ("logs", "web"), ("explain", "web"), ("restart", "web"), ("reload",)):
        assert run(*command) == 4
        assert capsys.readouterr().err == "perdure: the daemon is not running\n  try: perdure up -d\n"


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(folder / ".perdure" / "run" / "left.sock"):
        os.link(folder / ".perdure" / "run" / "left.sock", folder / ".perdure" / "run" / "api.sock")
    assert run("status") == 4
    assert "not running" in capsys.readouterr().err


def test_without_a_file_and_a_daemon_a_command_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "perdure.toml").unlink()
    assert run("status") == 2
    assert "there is no perdure.toml" in capsys.readouterr().err


def test_the_file_may_be_named_before_or_after_the_command(
    daemon: FakeDaemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    file = str(folder / "perdure.toml")
    assert run("-f", file, "status") == 0
    assert run("status", "--file", file) == 0


def test_the_home_of_the_state_may_be_elsewhere(
    daemon: FakeDaemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("PERDURE_HOME", str(folder / ".perdure"))
    assert run("status") == 0


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.slow_s = 2.0
    monkeypatch.setattr(client.Client.__init__, "__defaults__", (0.2,))
    assert run("status") == 4
    assert "did not answer within" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "code"),
    [("ConfigError", 2), ("UnavailableError", 4), ("ConflictError", 5), ("RefusedError", 6), ("CorruptionError", 7)],
)
def test_an_error_of_the_daemon_arrives_as_it_was_said(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], kind: str, code: int
) -> None:
    problems = [{"path": "service.web.replicas", "sentence": "must be at least 1 (got 0)", "hint": "write 1"}]
    daemon.error = (409, {"kind": kind, "sentence": "it is so", "hint": "do this", "problems": problems})
    assert run("status") == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "perdure: it is so" and lines[-1] == "  try: do this"
    assert ("  service.web.replicas: must be at least 1 (got 0)" in lines) == (kind == "ConfigError")


def test_an_answer_that_is_no_api_answer_is_an_error_without_a_traceback(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.error = (500, {})
    assert run("status") == 4
    assert "HTTP status 500" in capsys.readouterr().err


def test_a_restart_is_waited_for_and_its_changes_are_shown(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    before = daemon.status
    busy = [
        changed(before, pending=True, replicas=[replica("web/1", state), replica("web/2")])
        for state in ("draining", "starting")
    ]
    daemon.after_command = [*busy, changed(before, sentence="2 of 2 replicas serve")]
    assert run("restart", "web") == 0
    assert daemon.commands == [("restart", {"target": "web"})]
    expected = [
        "restart is recorded",
        "web/1: ready -> draining",
        "web/1: draining -> starting",
        "web/1: starting -> ready",
        "web: 2 of 2 replicas serve",
    ]
    assert capsys.readouterr().out.splitlines() == expected


def test_one_quiet_look_is_not_taken_for_done_because_the_loop_may_not_know_the_command_yet(daemon: FakeDaemon) -> None:
    calm, busy = daemon.status, changed(daemon.status, pending=True)
    daemon.after_command = [calm, busy, busy, calm]
    assert run("undrain", "web/1") == 0
    assert daemon.after_command == []


def test_waiting_ends_at_its_time_out_and_says_what_is_left(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.after_command = [changed(daemon.status, pending=True)] * 100
    assert run("drain", "web/2", "--timeout", "300ms") == 4
    assert "web: not done after 300ms" in capsys.readouterr().err


def test_no_wait_returns_when_the_command_is_recorded(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.after_command = [changed(daemon.status, pending=True)]
    assert run("undrain", "web", "--no-wait") == 0
    assert capsys.readouterr().out == "undrain is recorded\n"
    assert len(daemon.after_command) == 1


@pytest.mark.parametrize("words", [("web=5",), ("web", "5")])
def test_scale_takes_the_number_in_both_ways(daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    assert run("scale", *words, "--no-wait") == 0
    assert daemon.commands == [("scale", {"service": "web", "replicas": 5})]


@pytest.mark.parametrize(
    "words", [("web",), ("web=",), ("web=x",), ("web=-1",), ("=3",), ("web", "3", "4"), ("web=9999999",)]
)
def test_scale_refuses_what_is_no_number(daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    assert run("scale", "--no-wait", "--", *words) == 2
    assert daemon.commands == []


def test_reload_reads_the_file_first_and_sends_nothing_with_a_mistake(
    daemon: FakeDaemon, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reload") == 0
    (folder / "perdure.toml").write_text(FILE.replace("replicas = 2", "replicas = 0"))
    assert run("reload") == 2
    assert "service.web.replicas" in capsys.readouterr().err
    assert daemon.commands == [("reload", {})]


def test_events_are_one_line_each_with_their_rule(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("events", "-n", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["S05", "R07"]


def test_events_for_programs_are_one_document_a_line_followed_or_not(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("events", "web", "--json") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == EVENTS
    assert run("events", "web", "--follow", "--json") == 4  # the stand-in ends its stream, as a dying daemon would
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == EVENTS
    assert "the daemon ended" in captured.err


def test_following_without_history_begins_after_the_newest_event(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("events", "-n", "0", "--follow") == 4
    assert daemon.asked_after[-2:] == ["-1", "3"]


def test_logs_of_a_service_name_the_slot_and_those_of_a_slot_do_not(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("logs", "web") == 0
    assert capsys.readouterr().out == "web/1 | line of 1\nweb/2 | line of 2\n"
    assert run("logs", "web/2") == 0
    assert capsys.readouterr().out == "line of 2\n"


def test_explain_asks_for_a_slot_by_its_name(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "web/2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == EXPLANATION | {"service": "web/2"}
    assert run("explain", "web/2") == 0
    assert "rule S05" in capsys.readouterr().out


def test_init_writes_a_file_that_check_accepts_and_never_overwrites_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "-f", "new.toml") == 0
    assert run("init", "-f", "new.toml") == 5
    assert "exists already" in capsys.readouterr().err
    (folder / "new.toml").write_text((folder / "new.toml").read_text().replace(":8080", ":18081"))
    assert run("check", "-f", "new.toml") == 0


def test_init_translates_a_procfile_and_a_unit(folder: Path) -> None:
    (folder / "Procfile").write_text("web: serve $PORT\nworker: work\n")
    (folder / "shop.service").write_text("[Service]\nExecStart=/usr/bin/env true\n")
    assert run("init", "--from", "Procfile", "-f", "a.toml") == 0
    assert run("init", "--from", "shop.service", "-f", "b.toml") == 0
    assert "[service.worker]" in (folder / "a.toml").read_text()
    assert "[service.shop]" in (folder / "b.toml").read_text()
    assert run("init", "--from", "missing", "-f", "c.toml") == 2


def test_check_lists_all_mistakes_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "perdure.toml").write_text('[service.web]\ncommand = "x"\nreplicas = 0\ncolour = "red"\n')
    assert run("check") == 2
    err = capsys.readouterr().err
    assert "service.web.replicas:" in err and "service.web.colour:" in err
    assert run("check", "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False and len(document["problems"]) == 2


def test_check_does_not_call_taken_what_the_running_daemon_holds(daemon: FakeDaemon, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        (folder / "perdure.toml").write_text(FILE.replace("127.0.0.1:18080", address))
        assert run("check") == 2
        daemon.status["services"]["web"]["listen"] = address
        assert run("check") == 0


def test_docs_print_an_example_that_is_there_and_name_those_when_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("docs", "retry") == 0
    assert "attempts" in capsys.readouterr().out
    assert run("docs") == 0
    assert "retry" in capsys.readouterr().out
    assert run("docs", "nothing") == 2


def test_doctor_finds_weaknesses_and_is_strict_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "perdure.toml").write_text(FILE.replace("replicas = 2", "replicas = 1"))
    assert run("doctor", "--json") == 0
    assert "W06" in {finding["rule"] for finding in json.loads(capsys.readouterr().out)}
    assert run("doctor", "--strict") == 1
    assert "set replicas = 2 or more" in capsys.readouterr().out


def test_a_mistake_on_the_command_line_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (("nonsense",), "no such command"),
        (("status", "--nope"), "no such option"),
        (("logs",), "missing"),
    ):
        assert run(*words) == 2
        err = capsys.readouterr().err
        assert err.startswith("perdure: ") and sentence in err.lower() and "--help" in err


def test_a_bug_is_a_sentence_and_its_traceback_is_in_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(client.Client, "get", broken)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert run("status") == 1
    err = capsys.readouterr().err
    assert "this is a bug in Perdure: ZeroDivisionError: oh" in err and "Traceback" not in err
    assert "in broken" in next(folder.glob("perdure-bug-*.txt")).read_text()


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [("| true", 141, ""), (">/dev/full", 4, "cannot write"), (">&-", 0, "")],
)
def test_an_output_that_cannot_be_written_is_no_bug(daemon: FakeDaemon, redirection: str, code: int, said: str) -> None:
    script = f'set -o pipefail; "{sys.executable}" -m perdure.cli.main status {redirection}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert said in done.stderr and "bug" not in done.stderr and bool(said) == bool(done.stderr)


def test_an_encoding_without_our_characters_shows_question_marks(daemon: FakeDaemon) -> None:
    command = [sys.executable, "-m", "perdure.cli.main", "status"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    assert done.returncode == 0 and "????? 2 %" in done.stdout


def test_ctrl_c_ends_following_quietly(daemon: FakeDaemon) -> None:
    daemon.endless = True
    command = [sys.executable, "-m", "perdure.cli.main", "events", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and "S01" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "")


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out
