"""`perdure retry` with real commands: output, exit codes, time-outs, signals, standard input."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PERDURE = (sys.executable, "-m", "perdure.cli.main", "retry")
QUICK = ("--backoff", "10ms")


def retry(*words: str, **how: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PERDURE, *words], capture_output=True, text=True, timeout=30, check=False, **how)  # type: ignore[call-overload, no-any-return]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_at, "the condition did not come true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def counted(tmp_path: Path) -> tuple[str, Path]:
    """A shell prefix that counts its runs in $n."""
    file = tmp_path / "runs"
    return f"echo x >>{file}; n=$(wc -l <{file});", file


def test_it_repeats_until_success_and_shows_only_the_last_output(counted: tuple[str, Path]) -> None:
    done = retry(*QUICK, "--", "sh", "-c", counted[0] + 'echo "out $n"; echo "err $n" >&2; test $n -ge 2')
    assert (done.returncode, done.stdout, done.stderr) == (0, "out 2\n", "err 2\n")


def test_the_exit_code_and_output_of_the_last_try_come_out(counted: tuple[str, Path]) -> None:
    done = retry(*QUICK, "--attempts", "2", "--", "sh", "-c", counted[0] + 'echo "out $n"; exit $((40 + n))')
    assert (done.returncode, done.stdout) == (42, "out 2\n")


def test_verbose_reports_each_try(counted: tuple[str, Path]) -> None:
    done = retry(*QUICK, "-v", "--", "sh", "-c", counted[0] + "echo out $n; test $n -ge 2")
    assert done.stdout == "out 2\n"
    assert "try 1 ended with exit code 1" in done.stderr and "out 1" in done.stderr and "it succeeded" in done.stderr


def test_a_code_that_is_not_to_be_retried_ends_it(counted: tuple[str, Path]) -> None:
    assert retry(*QUICK, "--on", "75", "--", "sh", "-c", counted[0] + "exit 3").returncode == 3
    assert counted[1].read_text() == "x\n"


def test_a_try_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    stubborn = 'trap "" TERM; while :; do sleep 0.05; done'
    script = f"trap '' TERM; sh -c '{stubborn}' & echo $! >{child}; {stubborn}"
    began_at = time.monotonic()
    done = retry("--attempts", "1", "--timeout", "500ms", "--", "sh", "-c", script)
    assert done.returncode == 124
    assert time.monotonic() - began_at < 10
    wait_for(lambda: not alive(int(child.read_text())))


def test_the_deadline_bounds_the_whole_run() -> None:
    began_at = time.monotonic()
    done = retry("--deadline", "600ms", "--backoff", "50ms", "--", "sh", "-c", "exit 9")
    assert done.returncode == 9
    assert time.monotonic() - began_at < 5


def test_a_program_that_is_missing_or_cannot_run_is_not_repeated(tmp_path: Path) -> None:
    missing = retry("--", str(tmp_path / "nothing"))
    assert missing.returncode == 127 and missing.stderr.count("not found") == 1
    (tmp_path / "text").write_text("x")
    assert retry("--", str(tmp_path / "text")).returncode == 126


def test_a_try_ended_by_a_signal_has_the_code_of_a_shell() -> None:
    assert retry("--attempts", "1", "--", "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_and_end_the_repeats(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'echo caught; exit 7' TERM INT; echo >{ready}; while :; do sleep 0.02; done"
    with subprocess.Popen([*PERDURE, *QUICK, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        wait_for(ready.exists)
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (7, "caught\n")


def test_a_signal_during_a_pause_ends_it_at_once(tmp_path: Path) -> None:
    command = [*PERDURE, "-v", "--backoff", "10m", "--backoff-max", "1h", "--", "sh", "-c", "echo out; exit 3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and "next try in" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "out\n")


def test_a_file_on_stdin_is_read_by_every_try_from_where_it_stood(counted: tuple[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("first\nsecond\n")
    with file.open("rb") as stdin:
        os.lseek(stdin.fileno(), len("first\n"), os.SEEK_SET)
        done = retry(*QUICK, "--", "sh", "-c", counted[0] + "cat; test $n -ge 3", stdin=stdin)
    assert (done.returncode, done.stdout) == (0, "second\n")


def test_a_pipe_on_stdin_goes_to_the_first_try_only(counted: tuple[str, Path]) -> None:
    done = retry(*QUICK, "-v", "--", "sh", "-c", counted[0] + 'echo "[$(cat)]"; test $n -ge 2', input="data")
    assert "[data]" in done.stderr and done.stdout == "[]\n"


def test_options_after_the_command_belong_to_the_command() -> None:
    assert retry("echo", "-v", "--attempts").stdout == "-v --attempts\n"


def test_it_needs_no_file_and_leaves_none(tmp_path: Path) -> None:
    assert retry("--", "true", cwd=tmp_path, env={"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("--on", "x"), ("--on", "1", "--not-on", "2"), ("--timeout", "5"), ("--attempts", "0")]
)
def test_wrong_options_are_a_sentence_and_exit_2(words: tuple[str, ...]) -> None:
    done = retry(*words, "--", "true")
    assert done.returncode == 2
    assert done.stderr.startswith("perdure: ") and "try:" in done.stderr
