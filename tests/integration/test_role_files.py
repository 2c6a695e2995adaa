"""Telling a replica its role, for real: the file, a signal, a command, a request; and whose a slot's directory is."""

import asyncio
import json
import os
import pwd
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.role import RoleFiles
from perdure.model.errors import UnavailableError
from perdure.model.replica import Process
from perdure.model.service import Mode, Role, Service, Standby
from perdure.ports.role import Duty, Listener

PROCESS = Process(1, 1)


class Signals:
    """A runner of which only signals are asked."""

    def __init__(self) -> None:
        self.sent: list[tuple[Process, str]] = []

    def signal(self, process: Process, signal: str) -> None:
        self.sent.append((process, signal))


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture
def roles(tmp_path: Path, signals: Any) -> RoleFiles:
    return RoleFiles(tmp_path / "slots", signals)


class Asked(BaseHTTPRequestHandler):
    """Answers POST /role with the status that the server was given, and keeps the body."""

    def do_POST(self) -> None:
        """Called by the library."""
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = HTTPServer(("127.0.0.1", 0), Asked)
    made.bodies, made.status = [], 204
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def duty(role: Role | None, epoch: int = 7, **more: Any) -> Duty:
    declared = Service("notes", ("serve",), mode=Mode.ACTIVE_PASSIVE, standby=Standby.WARM, role=role, **more)
    return Duty(declared, "notes/2", "active", epoch)


def test_the_file_says_it_to_everybody_and_the_state_is_the_services_own(roles: RoleFiles) -> None:
    asyncio.run(roles.tell(duty(None), Listener(PROCESS, 1)))
    where = dict(roles.variables("notes", "notes/2"))
    file, state = Path(where["PERDURE_ROLE_FILE"]), Path(where["PERDURE_STATE"])
    assert json.loads(file.read_text()) == {"role": "active", "epoch": 7, "service": "notes", "slot": "notes/2"}
    assert file.stat().st_mode & 0o777 == 0o644 and state.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in file.parent.iterdir() if one.name.startswith(".")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_the_state_belongs_to_whom_the_service_runs_as(roles: RoleFiles) -> None:
    state = Path(roles.prepare(duty(None, user="nobody").service, "notes/2"))
    assert state.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert Path(roles.prepare(duty(None).service, "notes/2")) == state


async def test_a_signal_goes_to_the_replica(roles: RoleFiles, signals: Signals) -> None:
    await roles.tell(duty(Role(signal="SIGUSR1")), Listener(PROCESS, 1))
    assert signals.sent == [(PROCESS, "SIGUSR1")]


def test_a_command_is_told_role_and_epoch_and_its_exit_code_counts(roles: RoleFiles, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("sh", "-c", f'echo "$PERDURE_ROLE $PERDURE_EPOCH $PORT" > {out}')
    asyncio.run(roles.tell(duty(Role(command=words), directory=str(tmp_path)), Listener(PROCESS, 8123)))
    assert out.read_text() == "active 7 8123\n"
    refusing = duty(Role(command=("sh", "-c", "echo no; exit 3")), directory=str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(roles.tell(refusing, Listener(PROCESS, 1)))
    assert "exit code 3: no" in caught.value.sentence


async def test_a_request_carries_role_and_epoch_and_its_status_counts(roles: RoleFiles, server: Any) -> None:
    listener = Listener(PROCESS, server.server_address[1])
    await roles.tell(duty(Role(http="/role")), listener)
    assert json.loads(server.bodies[0]) == {"role": "active", "epoch": 7}
    server.status = 500
    with pytest.raises(UnavailableError, match="HTTP 500"):
        await roles.tell(duty(Role(http="/role")), listener)


async def test_nobody_there_is_a_refusal(roles: RoleFiles) -> None:
    with pytest.raises(UnavailableError, match="did not take its role"):
        await roles.tell(duty(Role(http="/role", timeout_s=1.0)), Listener(PROCESS, 1))


async def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, signals: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot be written"):
        RoleFiles(tmp_path / "file" / "slots", signals).write(duty(None))
    with pytest.raises(UnavailableError, match="no directory"):
        RoleFiles(tmp_path / "file" / "slots", signals).prepare(duty(None).service, "notes/2")
