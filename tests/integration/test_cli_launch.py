"""`up` and `down` with a real process in the place of the daemon: started detached, waited for, found dead, ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fake_daemon import serving

from perdure.cli import launching, main
from perdure.control.paths import Paths

FAKE = Path(__file__).with_name("cli_fake_daemon.py")
FILE = """\
[service.web]
command = "python3 -m http.server $PORT"
replicas = 2
listen = "127.0.0.1:18083"
[service.web.check]
http = "/"
"""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """A working directory; whatever `up -d` starts in it is recorded here, and ended after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_HOME", raising=False)
    (tmp_path / "perdure.toml").write_text(FILE)
    use_fake(monkeypatch)
    processes: list[subprocess.Popen[bytes]] = []
    detach = launching.detach

    def recording(paths: Paths) -> "subprocess.Popen[bytes]":
        processes.append(detach(paths))
        return processes[-1]

    monkeypatch.setattr(launching, "detach", recording)
    yield processes
    for process in processes:
        process.kill()
        process.wait(10)


def use_fake(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(launching, "command", lambda paths: [sys.executable, str(FAKE), str(paths.state), *options])


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_up_detached_waits_until_every_service_is_ready(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("up", "-d") == 0
    out = capsys.readouterr().out
    assert "web/2: starting -> ready" in out and "HAProxy 2.8.5" in out
    assert os.getsid(started[0].pid) == started[0].pid
    assert (tmp_path / ".perdure").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / ".perdure" / "log").stat().st_mode & 0o777 == 0o750


def test_a_second_up_is_refused_and_changes_nothing(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("up", "-d", "--no-wait") == 0
    for again in (("up", "-d"), ("up",)):
        assert run(*again) == 5
        assert "runs here already" in capsys.readouterr().err
    assert len(started) == 1 and started[0].poll() is None


def test_down_returns_when_the_daemon_is_gone(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("up", "-d") == 0
    # The stand-in is this process's child, so that somebody must wait for it before its pid is gone.
    waiting = subprocess.Popen([sys.executable, "-m", "perdure.cli.main", "down"])
    assert started[0].wait(10) == 0
    assert waiting.wait(10) == 0
    assert run("down") == 4
    assert "nothing runs here" in capsys.readouterr().err


def test_a_daemon_that_dies_at_its_start_is_shown_with_its_last_lines_and_its_exit_code(
    started: list["subprocess.Popen[bytes]"],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / ".perdure" / "log").mkdir(parents=True)
    (tmp_path / ".perdure" / "log" / "daemon.log").write_text("an old line\n")
    use_fake(monkeypatch, "--fail")
    assert run("up", "-d") == 5
    err = capsys.readouterr().err
    assert "ended with exit code 5" in err and "| the store is held by another daemon" in err and "old line" not in err


def test_a_service_that_is_not_ready_in_time_is_named_and_goes_on(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake(monkeypatch, "--never-ready")
    assert run("up", "-d", "--timeout", "300ms") == 4
    captured = capsys.readouterr()
    assert "web: not ready after" in captured.err and "perdure explain web" in captured.err
    assert "starting" in captured.out
    assert started[0].poll() is None


def test_a_mistake_in_the_file_starts_nothing(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "perdure.toml").write_text(FILE.replace("python3", "no-such-program"))
    for command in (("up", "-d"), ("up",)):
        assert run(*command) == 2
        assert "service.web.command" in capsys.readouterr().err
    assert started == [] and not (tmp_path / ".perdure").exists()


def test_a_path_too_long_for_a_socket_is_a_mistake_with_a_remedy(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_HOME", "/tmp/" + "x" * 120)
    for command in (("up", "-d"), ("status",)):
        assert run(*command) == 2
        assert "PERDURE_HOME" in capsys.readouterr().err
    assert started == []


def test_up_in_the_foreground_becomes_the_daemon(started: list["subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    script = (
        "import sys; from perdure.cli import launching, main; "
        f"launching.command = lambda paths: [sys.executable, {str(FAKE)!r}, str(paths.state)]; main.main(['up'])"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for_file(tmp_path / ".perdure" / "run" / "api.sock")
        assert str(FAKE) in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def test_down_without_a_daemon_says_when_its_replicas_still_run(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with subprocess.Popen(["sleep", "60"]) as replica:
        write_run_record(tmp_path / ".perdure" / "run", replica.pid)
        assert run("down") == 4
        assert "what it started still serves" in capsys.readouterr().err
        replica.kill()
    assert run("down") == 4
    assert "nothing runs here" in capsys.readouterr().err


def test_up_after_the_death_of_a_daemon_accepts_the_address_that_its_balancer_holds(
    started: list["subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as balancer:
        file = FILE.replace("18083", str(balancer.getsockname()[1]))
        (tmp_path / "perdure.toml").write_text(file)
        assert run("check") == 2
        with serving(tmp_path / ".perdure" / "run" / "haproxy-1.sock"):
            assert run("check") == 0


def write_run_record(run_directory: Path, pid: int) -> None:
    run_directory.mkdir(parents=True)
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = f'{{"pid": {pid}, "started_ticks": {ticks}, "run": 1, "port": 21000, "boot_id": "{boot}"}}\n'
    (run_directory / "web.1.json").write_text(record)


def wait_for_file(path: Path) -> None:
    deadline_at = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline_at, f"{path} did not appear"
        time.sleep(0.01)
