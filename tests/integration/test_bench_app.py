"""The service that fails on request: it must fail exactly as asked, or what is tested with it proves nothing."""

import asyncio
import contextlib
import email.utils
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest
from bench import certificates, processes, program
from bench.faults import disasters, stages
from bench.faults.struck import Strike, Struck
from bench.load import Kind, Load

APP = Path(__file__).resolve().parents[2] / "bench" / "app.py"


class App:
    """One running app."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.port = port

    async def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path) as answer,
        ):
            return answer.status, await answer.read()

    async def fault(self, query: str) -> None:
        assert (await self.get(f"/fault?{query}", "POST"))[0] == 200


@contextlib.contextmanager
def running(*options: str, wait: bool = True, directory: Path | None = None) -> Iterator[App]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-W", "error", APP, *options],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=directory,
    ) as process:
        try:
            if wait:
                assert process.stdout is not None
                assert process.stdout.readline() == f"listening on 127.0.0.1:{port}\n".encode()
            yield App(process, port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


async def until(condition: Callable[[], object], deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_healthy_app_answers_its_pages() -> None:
    with running() as app:
        assert await app.get("/healthz") == (200, b"ok")
        assert await app.get("/pid") == (200, str(app.process.pid).encode())
        assert (await app.get("/"))[1].endswith(f"pid {app.process.pid}\n".encode())
        assert (await app.get("/nowhere"))[0] == 404
        assert (await app.get("/fault?kind=nonsense", "POST"))[0] == 400


async def test_orders_note_each_execution_once(tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    with running("--orders", str(orders)) as app:
        mix = (Kind("POST", "/order", body=b"x"),)
        async with Load(app.url, rate=200, count=60, mix=mix, name="order") as load:
            await load.done()
        assert load.result().ok == 60
    noted = Counter(line.split()[0] for line in orders.read_text().splitlines())
    assert noted == {f"order-{number}": 1 for number in range(1, 61)}


async def test_a_share_of_errors_strikes_work_and_spares_the_health_check() -> None:
    with running() as app:
        await app.fault("kind=error&share=0.3&status=503")
        async with Load(app.url, rate=400, count=400) as work:
            await work.done()
        async with Load(f"{app.url}/healthz", rate=400, count=50) as health:
            await health.done()
        await app.fault("kind=none")
        assert (await app.get("/"))[0] == 200
    assert 60 < work.result().outcomes["status 503"] < 190
    assert health.result().ok == 50


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("kind=content", "content"), ("kind=close", "closed"), ("kind=silent", "timeout"), ("kind=error", "status 500")],
)
async def test_every_kind_of_bad_answer_is_seen_as_such_by_a_client(fault: str, outcome: str) -> None:
    with running() as app:
        await app.fault(f"{fault}&on=all")
        async with Load(f"{app.url}/healthz", rate=100, count=10, timeout_s=0.3, expect=b"ok") as load:
            await load.done()
    assert load.result().outcomes == {outcome: 10}


async def test_a_fault_of_the_health_check_leaves_the_work_alone() -> None:
    with running() as app:
        await app.fault("kind=content&on=health")
        assert (await app.get("/healthz"))[1] == b"wrong on purpose\n"
        assert b"pid" in (await app.get("/"))[1]


async def test_a_hanging_loop_answers_nobody_until_it_ends() -> None:
    with running() as app:
        await app.fault("kind=hang-loop&seconds=0.8")
        await asyncio.sleep(0.05)  # the fault begins after its answer
        begun_at = time.monotonic()
        assert (await app.get("/healthz"))[0] == 200
        assert time.monotonic() - begun_at > 0.5


@pytest.mark.parametrize(("query", "code"), [("kind=exit&code=3", 3), ("kind=crash", -signal.SIGKILL)])
async def test_it_dies_as_asked(query: str, code: int) -> None:
    with running() as app:
        await app.fault(query)
        await until(lambda: app.process.poll() is not None)
        assert app.process.returncode == code


async def test_sigterm_finishes_what_is_in_flight_and_refuses_what_is_new() -> None:
    with running() as app:
        slow = asyncio.create_task(app.get("/slow?s=0.6"))
        await asyncio.sleep(0.2)  # the request must be under way
        app.process.send_signal(signal.SIGTERM)
        await until(lambda: not accepts(app.port), 0.3)
        assert (await slow)[0] == 200
        await until(lambda: app.process.poll() is not None)
        assert app.process.returncode == 0


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_sigterm_with_idle_connections_ends_at_once() -> None:
    with running() as app, socket.create_connection(("127.0.0.1", app.port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        app.process.send_signal(signal.SIGTERM)
        await until(lambda: app.process.poll() is not None)
        assert app.process.returncode == 0


async def test_it_can_ignore_sigterm_and_leave_children() -> None:
    with running("--ignore-sigterm", "--children", "2") as app:
        children = [child.pid for child in psutil.Process(app.process.pid).children()]
        assert len(children) == 2
        for pid in (app.process.pid, *children):
            os.kill(pid, signal.SIGTERM)
        assert (await app.get("/healthz"))[0] == 200
        assert all(psutil.pid_exists(pid) for pid in children)


async def test_it_beats_until_it_is_muted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(5)
        with running("--heartbeat", "0.05") as app:
            assert [notify.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            await app.fault("kind=mute")
            notify.settimeout(0.4)
            with pytest.raises(TimeoutError):
                [notify.recv(100) for _ in range(8)]


def test_it_can_refuse_to_start() -> None:
    with running("--exit-at-start", "7", wait=False) as app:
        assert app.process.wait(5) == 7


async def test_a_fault_on_one_path_leaves_the_others_alone() -> None:
    with running() as app:
        await app.fault("kind=error&on=/pay&status=502")
        assert (await app.get("/pay"))[0] == 502
        assert (await app.get("/search"))[0] == (await app.get("/healthz"))[0] == 200


async def test_slow_by_a_factor_takes_so_many_times_as_long_as_its_work() -> None:
    with running("--work", "0.05") as app:
        await app.fault("kind=slow&factor=4")
        before_at = time.monotonic()
        await app.get("/")
        assert 0.2 <= time.monotonic() - before_at < 2.0


async def test_deaf_accepts_nobody_and_serves_whom_it_has() -> None:
    with running("--backlog", "2") as app, socket.create_connection(("127.0.0.1", app.port), timeout=5) as kept:
        kept.sendall(b"POST /fault?kind=deaf HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in kept.recv(1000)
        with socket.create_connection(("127.0.0.1", app.port), timeout=0.3) as waiting:
            waiting.sendall(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n")
            with pytest.raises(TimeoutError):
                waiting.recv(1000)
            kept.sendall(b"POST /fault?kind=none HTTP/1.1\r\nHost: a\r\n\r\n")
            waiting.settimeout(5)
            assert b"200 OK" in waiting.recv(1000)


async def test_a_leak_grows_until_it_is_healed() -> None:
    with running() as app:
        process = psutil.Process(app.process.pid)
        before = process.num_fds()
        await app.fault("kind=leak&files=5&every=0.02")
        async with asyncio.timeout(5):
            while process.num_fds() < before + 40:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await app.fault("kind=none")
        assert process.num_fds() <= before + 5


async def test_each_answer_has_a_date_and_the_clock_can_be_wrong() -> None:
    async def ahead_s(app: App) -> float:
        async with aiohttp.ClientSession() as session, session.get(app.url) as answer:
            return email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()

    with running() as app:
        assert abs(await ahead_s(app)) < 5
        await app.fault("kind=clock&offset=3600")
        assert abs(await ahead_s(app) - 3600) < 5
        await app.fault("kind=none")
        assert abs(await ahead_s(app)) < 5


async def test_poison_ends_it_without_an_answer() -> None:
    with running() as app:
        with pytest.raises(aiohttp.ClientError):
            await app.get("/poison")
        await until(lambda: app.process.poll() is not None)
        assert app.process.returncode == 70


async def test_a_fault_can_strike_so_many_times_and_no_more() -> None:
    with running() as app:
        await app.fault("kind=error&times=2")
        assert [(await app.get("/"))[0] for _ in range(4)] == [500, 500, 200, 200]


async def test_a_release_can_be_bad_from_its_start() -> None:
    with running("--fails", "1") as app:
        assert (await app.get("/"))[0] == 500
        assert (await app.get("/healthz"))[0] == 200


async def test_of_a_large_answer_only_the_first_16_kb_arrive() -> None:
    with running() as app:
        assert len((await app.get("/large"))[1]) > 64_000
        await app.fault("kind=large-hangs")
        assert (await app.get("/"))[0] == 200
        with socket.create_connection(("127.0.0.1", app.port), timeout=0.5) as client:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            arrived = b""
            with pytest.raises(TimeoutError):
                while part := client.recv(65_536):
                    arrived += part
        assert len(arrived.partition(b"\r\n\r\n")[2]) == 16_384


def letter(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_uninterruptible_is_state_d_and_only_sigkill_ends_it() -> None:
    with running() as app:
        await app.fault("kind=uninterruptible")
        await until(lambda: letter(app.process.pid) == "D")
        os.kill(app.process.pid, signal.SIGTERM)
        await asyncio.sleep(0.2)  # nothing may come of it
        assert letter(app.process.pid) == "D"
        os.killpg(app.process.pid, signal.SIGKILL)
        await until(lambda: app.process.poll() is not None)
        assert app.process.returncode == -signal.SIGKILL


async def test_stubborn_ignores_sigterm_with_its_children_until_it_is_healed() -> None:
    with running() as app:
        await app.fault("kind=stubborn&children=2")
        children = psutil.Process(app.process.pid).children()
        assert len(children) == 2
        await asyncio.sleep(0.2)  # the shells must have come to their trap
        for pid in (app.process.pid, *(child.pid for child in children)):
            os.kill(pid, signal.SIGTERM)
        assert (await app.get("/healthz"))[0] == 200
        assert all(child.is_running() for child in children)
        await app.fault("kind=none")
        assert not any(child.is_running() for child in children)


async def test_it_can_take_its_time_to_start_as_a_file_says(tmp_path: Path) -> None:
    with running(wait=False, directory=tmp_path) as app:
        await until(lambda: accepts(app.port))
        port = app.port
    (tmp_path / f"slow-start-{port}").write_text("0.6")
    with running("--port", str(port), wait=False, directory=tmp_path) as app:
        begun_at = time.monotonic()
        await until(lambda: accepts(port))
        assert time.monotonic() - begun_at > 0.5


async def test_over_tls_it_shows_its_certificate_and_the_expired_one_when_told(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    trusting = ssl.create_default_context(cafile=tmp_path / "trusted.pem")
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE

    async def asked(method: str, path: str, context: ssl.SSLContext) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port, ssl=context, server_hostname="localhost")
        writer.write(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return int(answer.split()[1])

    async def outcomes() -> dict[str, int]:
        trust = str(tmp_path / "trusted.pem")
        async with Load(f"https://127.0.0.1:{app.port}/", rate=100, count=5, trust=trust) as load:
            await load.done()
        return dict(load.result().outcomes)

    with running("--tls", str(tmp_path / "valid.pem"), "--tls-expired", str(tmp_path / "expired.pem")) as app:
        assert await asked("GET", "/", trusting) == 200
        assert await outcomes() == {"ok": 5}
        assert replace(program.APP, tls=True, timeout_s=5.0).pid(app.port) == app.process.pid
        assert await asked("POST", "/fault?kind=expired", careless) == 200
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await asked("GET", "/", trusting)
        assert await asked("GET", "/", careless) == 200
        assert await outcomes() == {"unconnected": 5}
        assert await asked("POST", "/fault?kind=none", careless) == 200
        assert await asked("GET", "/", trusting) == 200


@pytest.fixture
def lighthouses(tmp_path: Path) -> Iterator[tuple[program.Program, Struck]]:
    """Datasette, on a port of its own."""
    found = replace(stages.made(stages.DATASETTE, tmp_path).program, timeout_s=5.0)
    port = processes.free_ports(1)[0]
    with subprocess.Popen(
        found.on(port), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            processes.wait_until(lambda: found.pid(port) == process.pid, "Datasette answers", 30.0)
            yield found, Struck(port, process.pid)
        finally:
            process.kill()


@pytest.mark.parametrize(("harm", "status"), [(disasters.other_data, 200), (disasters.unreadable_data, 500)])
def test_the_data_of_one_datasette_can_be_spoilt_from_outside(
    lighthouses: tuple[program.Program, Struck], harm: Strike, status: int
) -> None:
    asked, struck = lighthouses
    before = asked.get(struck.port, stages.WHOLE_TABLE)
    assert before.startswith(b"HTTP/1.1 200")
    harm(struck, None)  # type: ignore[arg-type]
    after = asked.get(struck.port, stages.WHOLE_TABLE)
    assert int(after.split()[1]) == status
    assert after.partition(b"\r\n\r\n")[2] != before.partition(b"\r\n\r\n")[2]
    assert asked.pid(struck.port) == struck.pid, "its health page says that all is well"
