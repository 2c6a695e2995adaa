"""The ledger of the examples: what it answered is on the disk, with its epoch, and what an older epoch sends is not."""

import http.client
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

LEDGER = Path(__file__).parents[2] / "examples/ledger/ledger.py"


class Ledgers:
    """Ledgers on one directory, one after the other or at once."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.clients: list[Client] = []

    def start(self, **variables: str) -> "Client":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        environment = {"PORT": str(port), "PERDURE_STATE": str(self.state), **variables}
        return self.client(port, subprocess.Popen([sys.executable, "-I", str(LEDGER)], env=environment))

    def client(self, port: int, process: subprocess.Popen[bytes]) -> "Client":
        self.clients.append(Client(port, process))
        return self.clients[-1]

    def lines(self, what: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.state / "ledger.db")) as database:
            return database.execute(f"SELECT {what} FROM writes ORDER BY id").fetchall()


class Client:
    """Asks one ledger, over a connection that is kept."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        deadline_at = time.monotonic() + 10
        while True:
            try:
                self.connection.connect()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline_at
                time.sleep(0.002)

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body.encode(), named)
        with self.connection.getresponse() as response:
            return response.status, response.read().decode().strip()

    def write(self, epoch: int | None = None, text: str = "") -> tuple[int, str]:
        return self.ask("POST", "/write", text, **({} if epoch is None else {"X_Perdure_Epoch": str(epoch)}))

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(10)


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[Ledgers]:
    found = Ledgers(tmp_path)
    yield found
    for client in found.clients:
        client.connection.close()
        client.process.kill()
        client.process.wait()


def test_a_write_is_kept_with_its_pid_and_both_epochs(ledgers: Ledgers) -> None:
    client = ledgers.start(PERDURE_EPOCH="4", PERDURE_ROLE="active")
    before = time.monotonic()
    assert client.write(4, "first") == (200, "1")
    assert client.write(None, "grüße") == (200, "2")
    assert client.ask("GET", "/count") == (200, "2")
    pid = client.process.pid
    rows = ledgers.lines("pid, own_epoch, epoch, role, text")
    assert rows == [(pid, 4, 4, "active", "first"), (pid, 4, None, "active", "grüße")]
    (first,), (second,) = ledgers.lines("at")
    assert isinstance(first, float) and isinstance(second, float)
    assert before < first < second < time.monotonic()


def test_who_is_active_no_more_refuses_what_knows_of_a_newer_epoch(ledgers: Ledgers) -> None:
    client = ledgers.start(PERDURE_EPOCH="4")
    assert client.write(3)[0] == 200
    assert client.write(7) == (409, "epoch 4 is over: this came in epoch 7")
    assert client.ask("POST", "/role", '{"role": "active", "epoch": 7}') == (200, "active")
    assert client.write(7)[0] == 200
    assert ledgers.lines("own_epoch, epoch") == [(4, 3), (7, 7)]


def test_what_was_answered_survives_sigkill(ledgers: Ledgers) -> None:
    client = ledgers.start()
    accepted = [client.write(1)[1] for _ in range(20)]
    client.process.kill()
    client.process.wait()
    assert [str(row[0]) for row in ledgers.lines("id")] == accepted


def test_the_role_is_that_of_the_environment_until_it_is_told_another(ledgers: Ledgers) -> None:
    client = ledgers.start(PERDURE_ROLE="passive")
    assert client.ask("GET", "/role") == (200, "passive")
    client.write(1)
    assert client.ask("POST", "/role", '{"role": "active", "epoch": 2}') == (200, "active")
    assert client.ask("GET", "/role") == (200, "active")
    for nonsense in ("active", "[]", '{"role": "active"}', '{"role": "king", "epoch": 3}'):
        assert client.ask("POST", "/role", nonsense)[0] == 400
    client.write(1)
    assert ledgers.lines("role") == [("passive",), ("active",)]


def test_requests_in_flight_are_answered_when_it_is_told_to_end(ledgers: Ledgers) -> None:
    client = ledgers.start()
    idle = ledgers.client(client.port, client.process)
    assert idle.ask("GET", "/healthz") == (200, "ok")
    answered: list[int] = []

    def write_on() -> None:
        own = ledgers.client(client.port, client.process)
        try:
            while True:
                answered.append(own.write(1)[0])
        except (OSError, http.client.HTTPException):
            return

    writers = [threading.Thread(target=write_on) for _ in range(8)]
    for writer in writers:
        writer.start()
    while len(answered) < 50:
        time.sleep(0.001)
    assert client.end() == 0
    for writer in writers:
        writer.join()
    assert set(answered) == {200}
    # One that was committed while its client's connection broke would be counted here and not there.
    assert len(ledgers.lines("id")) == len(answered)
    assert sorted(path.name for path in ledgers.state.iterdir()) == ["ledger.db"]


def test_a_database_that_is_replaced_under_it_is_opened_anew(ledgers: Ledgers, tmp_path: Path) -> None:
    client = ledgers.start()
    client.write(3)
    copy = tmp_path / "copy"
    with closing(sqlite3.connect(ledgers.state / "ledger.db")) as live, closing(sqlite3.connect(copy)) as other:
        live.backup(other)
        other.execute("INSERT INTO writes (pid, epoch, role, at, text) VALUES (1, 9, 'active', 0, '')")
        other.commit()
    for suffix in ("-wal", "-shm"):
        (ledgers.state / f"ledger.db{suffix}").unlink(missing_ok=True)
    os.replace(copy, ledgers.state / "ledger.db")  # noqa: PTH105
    assert client.ask("GET", "/count") == (200, "2")
    assert client.write(8)[0] == 200
    assert client.write(9)[0] == 200


def test_it_says_what_is_wrong_with_a_request_and_goes_on(ledgers: Ledgers) -> None:
    client = ledgers.start()
    assert client.ask("GET", "/nowhere")[0] == 404
    assert client.ask("POST", "/write", "", X_Perdure_Epoch="new")[0] == 400
    assert client.ask("POST", "/write", "x" * 65_537)[0] == 413
    assert client.ask("POST", "/write", "", Transfer_Encoding="chunked")[0] == 411
    with socket.create_connection(("127.0.0.1", client.port)) as plain:
        plain.sendall(b"what?\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 400")
    assert client.ask("GET", "/count") == (200, "0")


def test_a_directory_that_is_missing_is_told_and_ends_it(tmp_path: Path) -> None:
    environment = {"PORT": "1", "PERDURE_STATE": str(tmp_path / "missing")}
    ended = subprocess.run([sys.executable, str(LEDGER)], env=environment, capture_output=True, check=False)
    assert ended.returncode == 1
    assert b"cannot start on" in ended.stderr


def test_writes_that_cannot_be_made_are_refused_and_the_service_goes_on(ledgers: Ledgers) -> None:
    client = ledgers.start()
    client.write(1)
    with closing(sqlite3.connect(ledgers.state / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        status, text = client.write(1)
        other.execute("ROLLBACK")
    assert (status, text) == (503, "the ledger cannot be used: database is locked")
    assert client.write(1) == (200, "2")


def test_it_answers_soon_after_it_was_started(ledgers: Ledgers) -> None:
    times_s = []
    for _ in range(5):
        began_at = time.monotonic()
        client = ledgers.start()
        assert client.ask("GET", "/healthz") == (200, "ok")
        times_s.append(time.monotonic() - began_at)
        assert client.end() == 0
    assert min(times_s) < 0.3, "150 ms on a quiet machine"
