"""What the demonstration plays on: a directory, Datasette behind Perdure, and the ways to break and to watch them.

Perdure is used through its command and its API only; where HAProxy sends requests is asked of HAProxy itself. All that
runs belongs to the directory, so that `close` finds and ends it whatever happened before. `demo` is the play.
"""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import processes, runtime

from perdure.cli.client import Client
from perdure.control.paths import Paths
from perdure.model.errors import UnavailableError

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SERVICE = "lighthouses"
DECLARED_PORT = 8080
PAGE = "/lighthouses/lighthouses.json?_shape=array&_size=5&_sort=height_m"


class StageError(Exception):
    """The demonstration cannot go on; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to see at one moment; None and empty stand for what did not answer."""

    at: float
    replicas: tuple[Mapping[str, Any], ...] = ()
    state: str = "unknown"
    daemon_pid: int | None = None
    haproxy_pid: int | None = None
    carried: tuple[int, ...] = ()
    """The ports that HAProxy sends requests to."""

    @property
    def pids(self) -> frozenset[int]:
        """The pids of the replicas."""
        return frozenset(replica["pid"] for replica in self.replicas if replica["pid"])

    @property
    def whole(self) -> bool:
        """Whether HAProxy sends requests to every replica, and Perdure holds all of them to be well."""
        return self.state == "ok" and set(self.carried) == {replica["port"] for replica in self.replicas}


@dataclass(slots=True)
class Stage:
    """Datasette, three times, behind Perdure, in a directory of its own."""

    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="perdure-demo-")))
    port: int = DECLARED_PORT

    def prepare(self) -> None:
        """Make the database from its SQL, and copy the file; the port is another one when the declared one is taken."""
        database = sqlite3.connect(self.directory / "lighthouses.db")
        database.executescript((HERE / "lighthouses.sql").read_text())
        database.close()
        if not _free(self.port):
            self.port = processes.free_ports(1)[0]
        text = (HERE / "perdure.toml").read_text()
        self._paths.file.write_text(text.replace(f'"127.0.0.1:{DECLARED_PORT}"', f'"127.0.0.1:{self.port}"'))

    @property
    def url(self) -> str:
        """What the clients ask for."""
        return f"http://127.0.0.1:{self.port}{PAGE}"

    def up(self) -> None:
        """Start everything, or take over what runs; return when all replicas answer."""
        self._perdure("up", "-d", timeout_s=60.0)

    def look(self, known: Sight | None = None) -> Sight:
        """Look at HAProxy and at the daemon; what the daemon said in `known` is taken over, where that is enough."""
        at = time.monotonic()
        seen = self._view()
        haproxy_pid, carried = (seen.pid, seen.ports) if seen is not None else (None, ())
        if known is not None:
            return replace(known, at=at, haproxy_pid=haproxy_pid, carried=carried)
        try:
            status = Client(self._paths, timeout_s=2.0).get("status")
        except UnavailableError:
            return Sight(at, haproxy_pid=haproxy_pid, carried=carried)
        found = status["services"][SERVICE]
        return Sight(at, tuple(found["replicas"]), found["state"], status["daemon"]["pid"], haproxy_pid, carried)

    def close(self) -> None:
        """End everything that belongs to the directory, in order if possible, and remove it."""
        try:
            if self.look().daemon_pid is not None:
                with suppress(StageError):
                    self._perdure("down", "--timeout", "20s", timeout_s=30.0)
        finally:
            until_at = time.monotonic() + 10.0
            while (left := processes.belonging_to(self.directory)) and time.monotonic() < until_at:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _paths(self) -> Paths:
        return Paths.of(self.directory / "perdure.toml", None)

    def _view(self) -> runtime.View | None:
        sockets = sorted(self._paths.run.glob("haproxy-*.sock"), key=lambda path: (len(path.name), path.name))
        views = (runtime.view(path, frozenset({f"be-{SERVICE}"})) for path in reversed(sockets))
        return next((view for view in views if view is not None), None)

    def _perdure(self, *words: str, timeout_s: float) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PERDURE_HOME"}
        environment["PATH"] = f"{BIN}{os.pathsep}{environment.get('PATH', '')}"
        command = [str(BIN / "perdure"), *words]
        # In a session of its own, so that a second Ctrl-C does not interrupt the tidying up.
        try:
            done = subprocess.run(
                command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=timeout_s,
                check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise StageError(f"perdure {words[0]} did not end within {timeout_s:g} s") from error
        if done.returncode != 0:
            raise StageError(f"perdure {words[0]}: exit code {done.returncode}\n{done.stderr.strip()}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
