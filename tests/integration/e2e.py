"""One real deployment for a test: a directory with a file, the `perdure` command, the daemon's API, HAProxy's own view.

Nothing here is simulated or replaced. Whatever a test started is ended when its `Site` closes, also after a failure:
first in order, with `perdure down`, then by the pids that were seen and those that still belong to the directory. What
HAProxy does is asked of HAProxy (`bench.runtime`), not of Perdure. Neighbours: the `test_e2e_*` modules.
"""

import csv
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from bench import load, processes, runtime
from bench.load_process import LoadProcess
from bench.tally import Sample

from perdure.cli.client import Client
from perdure.control.paths import Paths
from perdure.model.errors import UnavailableError

ROOT = Path(__file__).resolve().parents[2]
PERDURE = Path(sys.executable).with_name("perdure")
APP = (sys.executable, str(ROOT / "bench" / "app.py"))
CHECK = 'check = { http = "/healthz", interval = "1s", timeout = "1s", expect = { status = 200, body = "ok" } }\n'
BLOCK = 40
PUBLIC = 6
"""Each site has ports of its own: `PUBLIC` to listen on, the rest of its block for replicas."""

Found = TypeVar("Found")


class Site:
    """A deployment in a short-named directory, since a socket's path may have 107 bytes only."""

    def __init__(self, home: Path | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="e2e-"))
        self.file = self.directory / "perdure.toml"
        self.paths = Paths.of(self.file, str(home) if home else None)
        first = _free_block()
        self.ports = tuple(range(first, first + PUBLIC))
        self.port = self.ports[0]
        self._range = f"{first + PUBLIC}-{first + BLOCK - 1}"
        self._seen: dict[int, str] = {}
        self._client = Client(self.paths)

    # The file

    def write(self, text: str) -> None:
        """Write the file; the ports of the replicas are those of this site."""
        self.file.write_text(f'[perdure]\nports = "{self._range}"\n\n{text}')

    def web(self, *options: str, more: str = "", replicas: int = 3, check: str = CHECK) -> None:
        """Write a file with the service `web`: `bench/app.py` with these options."""
        self.write(self.service("web", *options, more=check + more, replicas=replicas, port=self.port))

    def service(self, name: str, *options: str, more: str = "", replicas: int = 1, port: int = 0) -> str:
        """The section of a service that runs `bench/app.py`; `port` 0: it does not listen."""
        listen = f'listen = "127.0.0.1:{port}"\n' if port else ""
        command = json.dumps([*APP, *options])
        return f"[service.{name}]\ncommand = {command}\nreplicas = {replicas}\n{listen}{more}\n"

    # The command and the API

    def run(self, *words: str, timeout_s: float = 60.0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `perdure ...` to its end, whatever its exit code; `variables` are added to its environment."""
        environment = {**os.environ, "PERDURE_HOME": str(self.paths.state), **variables}
        return subprocess.run(
            [str(PERDURE), *words], cwd=self.directory, env=environment, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip

    def ask(self, *words: str, timeout_s: float = 60.0) -> str:
        """Run `perdure ...`, which must succeed; its output."""
        done = self.run(*words, timeout_s=timeout_s)
        assert done.returncode == 0, f"perdure {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(self) -> None:
        """Start everything; return when every service is ready."""
        self.ask("up", "-d")
        self.status()

    def status(self) -> dict[str, Any]:
        """The status, from the API; every pid in it is remembered, to be ended."""
        status: dict[str, Any] = self._client.get("status")
        self._note(status["daemon"]["pid"], status["balancer"]["pid"])
        for service in status["services"].values():
            self._note(*(replica["pid"] for replica in service["replicas"]))
        return status

    def answers(self) -> bool:
        """Whether a daemon answers."""
        try:
            self.status()
        except UnavailableError:
            return False
        return True

    def explain(self, target: str = "web") -> dict[str, Any]:
        """Why it is so."""
        explained: dict[str, Any] = self._client.get("explain", target)
        return explained

    def raw(self, path: str) -> str:
        """The text of any answer of the API."""
        connection = http.client.HTTPConnection("perdure", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.paths.api))
        connection.request("GET", path)
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """All events with a greater number."""
        return list(self._client.get("events", after=after, limit=10_000))

    def newest(self) -> int:
        """The number of the last event, to ask for later ones only."""
        found = self._client.get("events", after=-1, limit=1)
        return int(found[-1]["number"]) if found else 0

    def rules(self, after: int = 0) -> list[str]:
        """The rules of all later events."""
        return [event["rule"] for event in self.events(after)]

    def replicas(self, service: str = "web") -> list[dict[str, Any]]:
        """The replicas of a service, by slot."""
        return list(self.status()["services"][service]["replicas"])

    def replica(self, number: int, service: str = "web") -> dict[str, Any]:
        """The replica of one slot."""
        return next(one for one in self.replicas(service) if one["slot"] == f"{service}/{number}")

    def pids(self, service: str = "web") -> list[int]:
        """The live pids of a service, by slot."""
        return [replica["pid"] for replica in self.replicas(service) if replica["pid"]]

    def state(self, service: str = "web") -> str:
        """The state of a service in one word."""
        return str(self.status()["services"][service]["state"])

    def whole(self, *without: int, service: str = "web", deadline_s: float = 30.0) -> None:
        """Wait until every wanted replica is ready, nothing is pending, HAProxy sends requests to each of them, and
        none is one of the pids `without`. (The state `ok` comes later: a slot that failed thrice must serve a while.)
        """

        def is_whole() -> bool:
            found = self.status()["services"][service]
            wanted = {replica["port"] for replica in found["replicas"]}
            listens = found["listen"] is not None
            ready = [replica["slot"] for replica in found["replicas"] if replica["state"] == "ready"]
            quiet = len(ready) == found["desired"]["replicas"] and not found["desired"]["pending"]
            replaced = not {replica["pid"] for replica in found["replicas"]}.intersection(without)
            return quiet and replaced and (not listens or set(self.carried(service)) == wanted)

        wait(is_whole, f"{service} is in full strength", deadline_s)

    # HAProxy

    def haproxy_socket(self) -> Path:
        """The runtime socket of the HAProxy that was started last."""
        return max(self.paths.run.glob("haproxy-*.sock"), key=lambda path: path.stat().st_mtime)

    def carried(self, service: str = "web") -> tuple[int, ...]:
        """The ports that HAProxy sends requests to now; nothing while it does not answer."""
        with suppress(ValueError, FileNotFoundError):
            seen = runtime.view(self.haproxy_socket(), frozenset({f"be-{service}"}))
            return seen.ports if seen is not None else ()
        return ()

    def sessions(self, service: str = "web") -> dict[str, int]:
        """Requests under way in each server that HAProxy holds to be up."""
        text = runtime.ask(self.haproxy_socket(), "show stat").removeprefix("# ")
        rows = csv.DictReader(text.splitlines())
        servers = (row for row in rows if row["pxname"] == f"be-{service}" and row["svname"].startswith("s"))
        return {row["svname"]: int(row["scur"]) for row in servers if row["status"].startswith("UP")}

    def load(self, rate: float = 500.0, port: int = 0, **more: Any) -> LoadProcess:
        """Clients of the first port of this site (or another), in a process of their own."""
        more = {"connections": 2048, "timeout_s": 20.0} | more
        return LoadProcess(load.Plan(f"http://127.0.0.1:{port or self.port}/", rate, **more), progress_s=0.5)

    # The end

    def close(self) -> None:
        """Kill everything that runs, the daemon first, and remove the directory."""
        self._kill_leftovers()
        shutil.rmtree(self.directory)

    def left(self) -> list[int]:
        """The processes of this site that still exist."""
        seen = {pid for pid, started in self._seen.items() if _started(pid) == started}
        found = seen.union(processes.belonging_to(self.directory), processes.belonging_to(self.paths.state))
        return sorted(pid for pid in found if not gone(pid))

    def _kill_leftovers(self) -> None:
        deadline_at = time.monotonic() + 10.0
        while (left := self.left()) and time.monotonic() < deadline_at:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _note(self, *pids: int | None) -> None:
        for pid in pids:
            if pid is not None and pid not in self._seen:
                self._seen[pid] = _started(pid)


@contextmanager
def site(home: Path | None = None) -> Iterator[Site]:
    """A site that leaves nothing behind; `home` is where its state is kept, `.perdure` beside the file by default."""
    made = Site(home)
    try:
        yield made
    finally:
        made.close()


def wait(condition: Callable[[], Found], what: str, deadline_s: float = 10.0, period_s: float = 0.02) -> Found:
    """Look until the condition holds, and return what it found; fails at the deadline, saying what was awaited."""
    until_at = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < until_at, f"{what}: not within {deadline_s:g} s"
        time.sleep(period_s)
    return found


def get(port: int, path: str = "/", method: str = "GET", timeout_s: float = 10.0) -> str:
    """The body of one answer; raises OSError."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return str(answer.read().decode())


def break_replica(replica: dict[str, Any], fault: str) -> None:
    """Switch a fault on in a replica, by a request to itself: `error&share=0.2`."""
    get(replica["port"], f"/fault?kind={fault}", "POST")


def state_of(pid: int) -> str:
    """The state letter of a process; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def environment_of(pid: int) -> bytes:
    """The environment that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def gone(*pids: int) -> bool:
    """Whether none of these processes exists any more (a zombie does not count)."""
    return all(state_of(pid) in "ZX" for pid in pids)


def failed(samples: Sequence[Sample]) -> list[Sample]:
    """The requests that failed."""
    return [sample for sample in samples if sample.outcome != "ok"]


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _free_block() -> int:
    """The first of `BLOCK` ports on which nothing listens, below the range of outgoing connections; a new block for
    each site, and others for each test run.
    """
    blocks = 200
    for step in range(blocks):
        number = (os.getpid() * 7 + next(_BLOCKS_TAKEN) + step) % blocks
        first = 13_000 + number * BLOCK
        if all(_free(port) for port in range(first, first + BLOCK)):
            return first
    raise AssertionError("no free block of ports")


def _counter() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


_BLOCKS_TAKEN = _counter()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
