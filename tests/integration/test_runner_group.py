"""Everything that descends from a replica is seen, signalled and ended with it; and nothing else is."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import test_runner_start
from test_runner_start import Bench, until

from perdure.adapters import tasks
from perdure.adapters.host import KernelHost
from perdure.adapters.runner import listening, stat
from perdure.model.errors import UnavailableError
from perdure.model.replica import Exit, Process, Slot

bench = test_runner_start.bench

SOMEBODY = 64_999
"""A user id that nobody has."""
FORK = """
import os, signal, sys, time
def child(prepare):
    ready, done = os.pipe()
    if os.fork() == 0:
        prepare()
        print(os.getpid(), flush=True)
        os.write(done, b"x")
        time.sleep(1000)
    os.read(ready, 1)
"""


async def start(bench: Bench, code: str, children: int = 1) -> tuple[Process, list[int]]:
    """Start Python code, and wait for the pids that its children print."""
    process = bench.start(sys.executable, "-c", FORK + code)
    log = bench.path / "log/web.1.log"
    await until(lambda: log.read_text().count("\n") >= children)
    pids = [int(line) for line in log.read_text().splitlines()]
    return process, pids


def runs(pid: int) -> bool:
    seen = stat.read(pid)
    return seen is not None and seen.letter not in stat.GONE


async def end(bench: Bench, process: Process, name: str) -> None:
    bench.runner.signal(process, name)
    await until(lambda: not bench.runner.group_alive(process))


async def test_what_ignores_sigterm_is_ended_by_sigkill_with_all_its_children(bench: Bench) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); child(lambda: None); child(lambda: None); time.sleep(1000)"
    process, pids = await start(bench, code, children=2)
    bench.runner.signal(process, "SIGTERM")
    os.kill(process.pid, signal.SIGSTOP)  # its pending signals have been looked at when it shows as stopped
    await until(lambda: bench.runner.sight(process).letter == "T")
    assert bench.runner.group_alive(process)
    assert all(runs(pid) for pid in pids)
    await end(bench, process, "SIGKILL")
    assert not any(runs(pid) for pid in [process.pid, *pids])
    await until(lambda: process in bench.ended)
    assert bench.ended[process] == Exit(signal="SIGKILL")


async def test_children_that_their_parent_left_behind_count_and_are_ended(bench: Bench) -> None:
    process, (child,) = await start(bench, "child(lambda: None); sys.exit(5)")
    await until(lambda: process in bench.ended)
    assert bench.ended[process] == Exit(code=5)
    assert bench.runner.sight(process).letter == "X"
    assert bench.runner.group_alive(process)
    await end(bench, process, "SIGTERM")
    assert not runs(child)


@pytest.mark.parametrize("escape", ["os.setpgid(0, 0)", "os.setsid()", "(os.fork() and os._exit(0), os.setsid())"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
async def test_children_that_went_their_own_way_are_ended_too(bench: Bench, escape: str, name: str) -> None:
    process, (child,) = await start(bench, f"child(lambda: {escape}); sys.exit(0)")
    await until(lambda: process in bench.ended)
    assert runs(child)
    assert bench.runner.group_alive(process)
    await end(bench, process, name)
    assert not runs(child)


async def test_a_child_with_its_own_process_group_gets_the_signal_while_the_first_process_lives(bench: Bench) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    heed = "signal.signal(signal.SIGTERM, signal.SIG_DFL)"
    code = f"{ignore}; child(lambda: (os.setpgid(0, 0), {heed})); time.sleep(1000)"
    process, (child,) = await start(bench, code)
    bench.runner.signal(process, "SIGTERM")
    await until(lambda: not runs(child))
    assert runs(process.pid)


async def test_a_zombie_child_is_not_alive(bench: Bench) -> None:
    # The child ends in a session of its own; its parent, which never asks for it, is somebody else's process by then.
    process, (child,) = await start(bench, "child(lambda: None); os.kill(os.getpid(), signal.SIGSTOP)")
    os.kill(child, signal.SIGKILL)
    await until(lambda: not runs(child))
    assert stat.read(child) is not None, "the child is no zombie"
    assert bench.runner.group_alive(process)  # the stopped parent
    await end(bench, process, "SIGKILL")


async def test_another_replica_is_not_touched(bench: Bench) -> None:
    other = bench.start("sleep", "1000")
    process, _ = await start(bench, "child(os.setsid); sys.exit(0)")
    await end(bench, process, "SIGKILL")
    assert bench.runner.group_alive(other)
    assert runs(other.pid)


async def test_signals_to_what_is_gone_or_reused_do_nothing(bench: Bench) -> None:
    await bench.run("true")
    bench.runner.signal(bench.started[0], "SIGKILL")
    live = bench.start("sleep", "1000")
    earlier = Process(live.pid, live.started_ticks - 1)
    bench.runner.signal(earlier, "SIGKILL")
    assert not bench.runner.group_alive(earlier)
    assert bench.runner.sight(earlier).letter == "X"
    assert runs(live.pid)


async def test_a_process_is_seen_running_stopped_and_gone(bench: Bench) -> None:
    process = bench.start("sleep", "1000")
    await until(lambda: bench.runner.sight(process).letter == "S")
    os.kill(process.pid, signal.SIGSTOP)
    await until(lambda: bench.runner.sight(process).letter == "T")
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: process in bench.ended)
    assert bench.runner.sight(process).letter == "X"


async def test_memory_counts_the_children(bench: Bench) -> None:
    small = bench.start("sleep", "1000")
    process, _ = await start(bench, "child(lambda: globals().update(block=b'x' * 50_000_000)); time.sleep(1000)")
    memory = bench.runner.group_memory([small, process, Process(1 << 22, 1)])
    assert 0 < memory[0] < 20_000_000
    assert 50_000_000 < memory[1] < 120_000_000
    assert memory[2] == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::"])
async def test_a_port_is_owned_through_a_worker_that_inherited_the_socket(bench: Bench, address: str) -> None:
    code = f"""
import socket
listener = socket.socket(socket.AF_INET6 if ":" in {address!r} else socket.AF_INET)
listener.bind(({address!r}, 0)); listener.listen()
child(lambda: print(listener.getsockname()[1], flush=True))
listener.close()
print(0, flush=True)
time.sleep(1000)
"""
    other = bench.start("sleep", "1000")
    process, (port, _, _) = await start(bench, code, children=3)
    assert bench.runner.owns_port(process, port)
    assert not bench.runner.owns_port(other, port)
    assert not bench.runner.owns_port(process, port + 1)


async def test_a_kernel_that_cannot_be_asked_is_read_instead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as v4, socket.create_server(("::1", 0), family=socket.AF_INET6) as v6:
        ports = [v4.getsockname()[1], v6.getsockname()[1]]
        asked = [listening.inodes(port) for port in ports]
        monkeypatch.setattr(listening, "NETLINK_SOCK_DIAG", 99)
        assert [listening.inodes(port) for port in ports] == asked
        assert all(len(links) == 1 for links in asked)


async def test_a_port_that_somebody_else_answers_on_is_not_owned(bench: Bench) -> None:
    process = bench.start("sleep", "1000")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not bench.runner.owns_port(process, listener.getsockname()[1])


async def test_free_ports_are_spread_and_avoid_what_is_taken_or_listened_on(bench: Bench) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as v6,
    ):
        busy = {listener.getsockname()[1], v6.getsockname()[1]}
        with pytest.raises(UnavailableError, match="no port"):
            bench.runner.free_port(range(min(busy), min(busy) + 1), frozenset())
        with pytest.raises(UnavailableError, match="no port"):
            bench.runner.free_port(range(max(busy), max(busy) + 1), frozenset())
    ports = range(20_100, 20_140)
    taken = frozenset(ports[1::2])
    given = [bench.runner.free_port(ports, taken) for _ in range(8)]
    assert len(set(given)) == 8
    assert not taken.intersection(given)
    with pytest.raises(UnavailableError, match="no port from 20100 to 20139 is free"):
        bench.runner.free_port(ports, frozenset(ports))


async def test_a_bound_socket_that_does_not_listen_yet_takes_the_port(bench: Bench) -> None:
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(UnavailableError):
            bench.runner.free_port(range(port, port + 1), frozenset())


async def test_records_of_other_boots_or_damaged_ones_are_not_believed(bench: Bench) -> None:
    slot = Slot("web", 1)
    assert bench.runner.recorded(slot) is None
    await bench.run("true")
    assert bench.runner.recorded(slot) == bench.started[0]
    path = bench.path / "run/web.1.json"
    text = path.read_text()
    path.write_text(text.replace('"boot_id": "', '"boot_id": "0'))
    assert bench.runner.recorded(slot) is None
    path.write_text(text[:20])
    assert bench.runner.recorded(slot) is None


def test_the_name_of_a_process_cannot_confuse_the_reading(tmp_path: Path) -> None:
    name = tmp_path / ") R 1 (x"
    name.symlink_to("/bin/sleep")
    pid = os.posix_spawn(name, [str(name), "1000"], {})
    try:
        seen = stat.read(pid)
        descriptor = stat.open_letter(pid)
        letter = stat.read_letter(descriptor)
        os.close(descriptor)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert seen is not None
    assert seen.started_ticks > 1000
    assert seen.letter in "RSD"
    assert letter in "RSD"


async def test_the_descriptors_of_the_fullest_process_of_a_group_are_counted(bench: Bench) -> None:
    code = """
def hoard():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    globals()["kept"] = [open("/dev/null") for _ in range(80)]
child(hoard)
time.sleep(1000)
"""
    process, _ = await start(bench, code)
    found = bench.runner.sight(process, descriptors=True)
    assert found.descriptors_max == 100
    assert 83 <= found.descriptors <= 90
    await end(bench, process, "SIGKILL")
    assert bench.runner.sight(process, descriptors=True).descriptors == 0


def test_connections_that_nobody_accepts_are_in_the_backlog() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=3) as server, contextlib.ExitStack() as clients:
        port = server.getsockname()[1]
        assert KernelHost().backlogs()[port] == (0, 3)
        for _ in range(4):  # the kernel lets one more than that wait
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        assert KernelHost().backlogs()[port] == (4, 3)
        server.accept()[0].close()
        assert KernelHost().backlogs()[port] == (3, 3)


def test_the_kernels_own_count_of_kills_for_memory_is_read() -> None:
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    assert KernelHost().oom_kills() == int(counters.get("oom_kill", "0"))


async def test_the_host_tells_what_room_there_is_on_a_file_system(tmp_path: Path) -> None:
    found = await KernelHost().space(str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    assert found is not None
    assert found.total_bytes == usage.total
    assert found.free_bytes == pytest.approx(usage.free, rel=0.05)
    assert await KernelHost().space(str(tmp_path / "missing")) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a process as somebody else")
def test_what_a_user_runs_is_counted_against_the_limit_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 1000))
    before = tasks.of_user(SOMEBODY)
    words = ["sh", "-c", "sleep 60 & sleep 60 & echo; wait"]
    with subprocess.Popen(words, user=SOMEBODY, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        after = tasks.of_user(SOMEBODY)
        os.killpg(process.pid, signal.SIGKILL)
    assert before is not None and after is not None
    assert (before.used, after.used, after.limit) == (0, 3, 500)
