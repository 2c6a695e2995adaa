"""Starting real processes: what they are given, what they are not, and what is said when they cannot run."""

import asyncio
import json
import os
import resource
import signal
import socket
import stat as mode
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from perdure.adapters.runner.process import Processes
from perdure.model.errors import UnavailableError
from perdure.model.replica import Exit, Process, Slot
from perdure.model.service import Limits, Service
from perdure.ports.runner import Launch

SLOT = Slot("web", 1)


class Bench:
    """A runner in a directory of its own, and what has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runner = Processes(path / "run", path / "log")
        self.started: list[Process] = []
        self.ended: dict[Process, Exit] = {}

    def start(self, *command: str, **fields: object) -> Process:
        service = Service("web", command, directory=str(fields.pop("directory", self.path)), **fields)  # type: ignore[arg-type]
        launch = Launch(service, SLOT, run=7, port=4321, environment=(("PERDURE_HEARTBEAT_URL", "http://x"),))
        process = self.runner.start(launch, self._note)
        self.started.append(process)
        return process

    def _note(self, process: Process, ended: Exit) -> None:
        assert process not in self.ended, "told twice"
        self.ended[process] = ended

    async def run(self, *command: str, **fields: object) -> Exit:
        process = self.start(*command, **fields)
        await until(lambda: process in self.ended)
        return self.ended[process]

    async def run_python(self, code: str, **fields: object) -> str:
        """Run a line of Python to its end, and return what it printed."""
        log = self.path / "log/web.1.log"
        log.unlink(missing_ok=True)
        ended = await self.run(sys.executable, "-c", code, **fields)
        assert ended == Exit(code=0), log.read_text()
        return log.read_text()

    def log(self) -> str:
        return (self.path / "log/web.1.log").read_text()


async def until(condition: Callable[[], bool]) -> None:
    deadline_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_at, "did not happen within 10 s"
        await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for process in bench.started:
        bench.runner.signal(process, "SIGKILL")
    await until(lambda: all(process in bench.ended for process in bench.started))
    bench.runner.close()


async def test_an_exit_code_is_reported(bench: Bench) -> None:
    assert await bench.run("sh", "-c", "exit 3") == Exit(code=3)


async def test_a_signal_is_reported_by_name(bench: Bench) -> None:
    assert await bench.run("sh", "-c", "kill -SEGV $$$$") == Exit(signal="SIGSEGV")


async def test_a_crash_is_reported_within_fifty_milliseconds(bench: Bench) -> None:
    delays_s = []
    for _ in range(5):
        process = bench.start("sleep", "60")
        await until(lambda started=process: comm(started) == "sleep")
        killed_at = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        while process not in bench.ended:  # noqa: ASYNC110 - a pause would hide a delay
            await asyncio.sleep(0)
        delays_s.append(time.monotonic() - killed_at)
    assert sorted(delays_s)[2] < 0.05


async def test_the_environment_is_clean_and_complete(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_PID", "DAEMON_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "leaked")
    printed = await bench.run_python(
        "import json, os; print(json.dumps(dict(os.environ)))", environment=(("SECRET", "s3cret"), ("PORT", "1"))
    )
    environment = json.loads(printed)
    assert environment["SECRET"] == "s3cret"
    assert environment["PORT"] == "4321"
    assert environment["PERDURE_SLOT"] == "web/1"
    assert environment["PERDURE_RUN"] == "7"
    assert environment["PERDURE_HEARTBEAT_URL"] == "http://x"
    assert "leaked" not in printed


async def test_the_command_is_expanded_with_that_environment(bench: Bench) -> None:
    await bench.run("echo", "$PORT", "${GREETING}", "$$x", "$NOBODY", environment=(("GREETING", "hello"),))
    assert bench.log() == "4321 hello $x $NOBODY\n"


async def test_no_descriptor_of_the_daemon_leaks(bench: Bench) -> None:
    with socket.socket() as leaked:
        leaked.set_inheritable(True)
        printed = await bench.run_python(
            "import os; fds = os.listdir('/proc/self/fd');"
            "print([(n, os.readlink(f'/proc/self/fd/{n}')) for n in fds if int(n) < 3]); print(sorted(map(int, fds)))"
        )
    first, second = printed.splitlines()
    log = str(bench.path / "log/web.1.log")
    assert sorted(eval(first)) == [("0", "/dev/null"), ("1", log), ("2", log)]
    assert second == "[0, 1, 2, 3]"  # 3 lists the directory


async def test_it_leads_a_session_without_a_terminal_and_with_default_signals(bench: Bench) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    previous = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        await bench.run("cat", "/proc/self/status", "/proc/self/stat")  # a shell would mend some of it
    finally:
        signal.signal(signal.SIGUSR2, previous)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    lines = bench.log().splitlines()
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk", "SigIgn"))}
    own = ~(0b11 << 31)  # signals 32 and 33 are the C library's own; its posix_spawn ignores them
    assert {name: mask & own for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": 0}
    fields = lines[-1].rpartition(")")[2].split()
    assert fields[2] == fields[3] == str(bench.started[0].pid)  # process group, session
    assert fields[4] == "0"  # terminal
    assert "Umask:\t0022" in lines


async def test_no_secret_shows_in_the_process_list_at_any_time(bench: Bench) -> None:
    """Of many starts, for a single one may be over before the first look at it."""
    seen: set[bytes] = set()

    def look(path: Path) -> bool:
        shown = (path / "cmdline").read_bytes()
        seen.update(((path / "environ").read_bytes(), shown))
        return shown == b"sleep\x0060\0"

    for _ in range(20):
        process = bench.start("sleep", "60", environment=(("SECRET", "s3cret-value"),))
        await until(lambda path=Path(f"/proc/{process.pid}"): look(path))
    assert any(b"launcher.py" in text for text in seen), "the launcher was not seen"
    assert not any(b"s3cret-value" in text for text in seen if b"PERDURE_PROCESS" not in text)


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (("no-such-program",), 127, "perdure: cannot run 'no-such-program': it is not on PATH ("),
        (("./absent",), 127, "perdure: cannot run './absent': there is no such file"),
        (("./plain",), 126, "perdure: cannot run './plain': Permission denied"),
        (("./empty",), 126, "perdure: cannot run './empty': it is no program for this machine, and no script"),
        (("./orphan",), 127, "perdure: cannot run './orphan': the interpreter that its first line names is missing"),
        (("./",), 126, "perdure: cannot run './': Permission denied"),
    ],
)
async def test_a_program_that_cannot_run_leaves_a_sentence(
    bench: Bench, command: tuple[str, ...], code: int, sentence: str
) -> None:
    (bench.path / "plain").write_text("text")
    for name, text in (("empty", "no program"), ("orphan", "#!/no/such/interpreter\n")):
        (bench.path / name).write_text(text)
        (bench.path / name).chmod(0o755)
    assert await bench.run(*command) == Exit(code=code)
    assert bench.log().startswith(sentence)
    assert bench.log().count("\n") == 1


async def test_a_missing_directory_leaves_a_sentence(bench: Bench) -> None:
    assert await bench.run("true", directory="/no/such/place") == Exit(code=126)
    assert bench.log() == "perdure: cannot enter the directory '/no/such/place': No such file or directory\n"


async def test_an_unknown_user_leaves_a_sentence(bench: Bench) -> None:
    assert await bench.run("true", user="no-such-user") == Exit(code=126)
    assert bench.log().startswith("perdure: there is no user 'no-such-user' on this host: ")


async def test_another_user_is_become_with_groups_and_home_or_refused(bench: Bench) -> None:
    script = "id -u; id -g; id -G; echo $$HOME $$USER; echo more >> /dev/stdout"
    ended = await bench.run("sh", "-c", script, user="nobody", directory="/")
    if os.geteuid() != 0:
        assert ended == Exit(code=126)
        assert "only root may" in bench.log()
        return
    assert ended == Exit(code=0), bench.log()
    assert bench.log().splitlines() == ["65534", "65534", "65534", "/nonexistent nobody", "more"]
    status = (bench.path / "log/web.1.log").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65534)


async def test_a_group_alone_is_become_or_refused(bench: Bench) -> None:
    ended = await bench.run("sh", "-c", "id -u; id -g; id -G", group="daemon")
    if os.geteuid() != 0:
        assert ended == Exit(code=126)
        return
    assert bench.log().splitlines() == ["0", "1", "1"]


async def test_the_log_is_readable_by_its_group_only(bench: Bench) -> None:
    previous = os.umask(0o077)
    try:
        await bench.run("true")
    finally:
        os.umask(previous)
    assert mode.S_IMODE((bench.path / "log/web.1.log").stat().st_mode) == 0o640


async def test_the_limit_on_open_files_holds_for_soft_and_hard(bench: Bench) -> None:
    await bench.run("sh", "-c", "ulimit -Sn; ulimit -Hn", limits=Limits(open_files=123))
    assert bench.log().splitlines() == ["123", "123"]


async def test_an_impossible_limit_leaves_a_sentence(bench: Bench) -> None:
    hardest = read_number("/proc/sys/fs/nr_open") + 1
    assert await bench.run("true", limits=Limits(open_files=hardest)) == Exit(code=126)
    assert bench.log().startswith(f"perdure: cannot limit open files to {hardest}: ")


async def test_what_cannot_be_started_now_is_unavailable(bench: Bench) -> None:
    (bench.path / "log").rmdir()
    with pytest.raises(UnavailableError, match="cannot start web/1: No such file or directory"):
        bench.start("true")


async def test_a_daemon_out_of_descriptors_says_so_and_leaves_no_process(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        while True:
            try:
                opened.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        os.close(opened.pop())  # the launch document still finds room, the second descriptor to watch it does not
        with pytest.raises(UnavailableError, match="Too many open files"):
            bench.start("sleep", "60")
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it does not wait


async def test_starting_and_ending_leaves_no_descriptor(bench: Bench) -> None:
    await bench.run("true")
    before = descriptors()
    for _ in range(5):
        await bench.run("true")
    assert descriptors() == before
    assert [path.name for path in (bench.path / "run").iterdir()] == ["web.1.json"]


def test_it_works_under_uvloop(tmp_path: Path) -> None:
    async def scenario() -> list[Exit]:
        bench = Bench(tmp_path)
        ended = [await bench.run("sh", "-c", "exit 4"), await bench.run("sh", "-c", "kill -9 $$$$")]
        bench.runner.close()
        return ended

    assert uvloop.run(scenario()) == [Exit(code=4), Exit(signal="SIGKILL")]


def read_number(path: str) -> int:
    return int(Path(path).read_text())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def comm(process: Process) -> str:
    return Path(f"/proc/{process.pid}/comm").read_text().strip()
