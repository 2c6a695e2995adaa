"""What the failure bench compares: Perdure, and HAProxy with its own checks beside a supervisor that restarts.

Each side runs the same three replicas of a program behind the same HAProxy program on one port. A side only knows how
to start, to end, and who its daemon is; what its HAProxy sends where is asked of HAProxy itself (`runtime`).
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bench import processes, runtime
from bench.processes import BenchError, Ward
from bench.program import APP, Program
from bench.rivals import BIN, haproxy_program

REPLICAS = 3


class Side(Protocol):
    """A way to keep three replicas of `program` serving on `port`."""

    name: str
    program: Program
    port: int
    backends: frozenset[str]
    rest_s: float
    """How long it must be left alone after a fault of a replica for the next one to meet it as the first did."""
    adopts: bool
    """Whether its daemon can be killed and started again over what runs; otherwise that fault is left out."""

    def start(self) -> None:
        """Start everything; return when the start is under way."""

    def stats(self) -> Path | None:
        """The runtime socket of its HAProxy; None when there is none now."""

    def daemon_pid(self) -> int:
        """Who restarts what dies."""

    def revive(self) -> None:
        """Start the daemon again after its death; return when it answers."""

    def stop(self) -> None:
        """End everything."""


class PerdureSide:
    """Perdure, through its command line only."""

    name = "Perdure"
    backends = frozenset({"be-web"})
    adopts = True

    def __init__(
        self,
        directory: Path,
        program: Program = APP,
        replicas: int = REPLICAS,
        *,
        rest_s: float = 0.0,
        more: str = "",
        checks: str = "",
        ports: str = "21000-29999",
    ) -> None:
        """`more` is added to the file, in the section of the service, `checks` are tables at its end; replicas get
        their ports from `ports`.
        """
        self.program = program
        self.directory = directory
        self.rest_s = rest_s
        self.port = processes.free_ports(1)[0]
        self.home = directory / "home"
        self._file = directory / "perdure.toml"
        self._environment = {**os.environ, "PERDURE_HOME": str(self.home)}
        directory.mkdir(parents=True, exist_ok=True)
        self._more, self._checks = more, checks
        self._head = f'[perdure]\nports = "{ports}"\n[service.web]\nreplicas = {replicas}\n'
        self._head += f'listen = "127.0.0.1:{self.port}"\n'
        self._declare(program)

    def _declare(self, program: Program) -> None:
        """Write the file."""
        self._file.write_text(
            f"{self._head}command = {json.dumps(program.on('$PORT'))}\n{self._more}"
            f'[[service.web.check]]\nhttp = "{program.health}"\ninterval = "1s"\ntimeout = "1s"\n'
            f'tls = {str(program.tls).lower()}\nexpect = {{ status = 200, body = "{program.healthy}" }}\n{self._checks}'
        )

    def release(self, *options: str) -> None:
        """Declare that the program has these options from now on, and have them let in one replica after the other."""
        self._declare(replace(self.program, command=(*self.program.command, *options)))
        self.ask("deploy", "--detach", "--force", "--strategy", "rolling")

    def declare_again(self) -> None:
        """Put the file back; nothing is deployed."""
        self._declare(self.program)

    def deploy(self) -> None:
        """Let in what `program` is now, also when it is what runs."""
        self._declare(self.program)
        self.ask("deploy", "--detach", "--force")

    def start(self) -> None:
        """See the protocol `Side`."""
        self.ask("up", "-d", timeout_s=120.0)

    def stats(self) -> Path | None:
        """See the protocol `Side`."""
        sockets = (self.home / "run").glob("haproxy-*.sock")
        # The newest by its number: looking at the files themselves would race with their removal.
        return max(sockets, key=lambda path: int(path.stem.rpartition("-")[2]), default=None)

    def daemon_pid(self) -> int:
        """See the protocol `Side`."""
        return int(self.status()["daemon"]["pid"])

    def revive(self) -> None:
        """See the protocol `Side`."""
        self.ask("up", "-d")

    def status(self) -> dict[str, Any]:
        """`perdure status --json`."""
        status: dict[str, Any] = self.get("/v1/status")
        return status

    def get(self, path: str, timeout_s: float = 10.0) -> Any:
        """Ask the daemon's API for a document; raises BenchError when nobody answers."""
        request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect(str(self.home / "run" / "api.sock"))
                connection.sendall(request)
                parts = []
                while part := connection.recv(65_536):
                    parts.append(part)
            return json.loads(b"".join(parts).partition(b"\r\n\r\n")[2])
        except (OSError, ValueError) as error:
            raise BenchError(f"{self.name}: {path}: {error}") from error

    def stop(self) -> None:
        """See the protocol `Side`."""
        with suppress(BenchError):
            self.ask("down", timeout_s=120.0)
        for pid in processes.belonging_to(self.directory):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, *words: str, timeout_s: float = 30.0) -> str:
        """Run `perdure ...`; raises BenchError with what it said when it fails."""
        command = [str(BIN / "perdure"), "-f", str(self._file), *words]
        try:
            done = subprocess.run(
                command, env=self._environment, cwd=self.directory, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"perdure {' '.join(words)} did not end within {timeout_s:g} s") from error
        if done.returncode != 0:
            raise BenchError(f"perdure {' '.join(words)}: exit {done.returncode}: {done.stderr.decode()[-500:]}")
        return done.stdout.decode()


@dataclass(frozen=True, slots=True)
class Checks:
    """How the HAProxy of the other side notices and hides failures; `short` names its files."""

    name: str
    short: str
    backend: str


DEFAULT_CHECKS = Checks(
    "HAProxy's checks, default",
    "default",
    """\
    balance roundrobin
    timeout server 30s
    default-server check inter 1s fall 3 rise 2
""",
)
FAST_CHECKS = Checks(
    "HAProxy's checks, fastest",
    "fastest",
    """\
    balance leastconn
    timeout server 5s
    retry-on conn-failure empty-response junk-response response-timeout 502 503 504
    http-request disable-l7-retry if METH_POST
    timeout check 200ms
    default-server check inter 200ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
    default-server on-marked-down shutdown-sessions
""",
)


WATCHFUL_CHECKS = Checks(
    "HAProxy's checks, fastest, observe layer7",
    "watchful",
    FAST_CHECKS.backend.replace("observe layer4 error-limit 1", "observe layer7 error-limit 10"),
)


class SupervisedSide:
    """HAProxy with its own checks; replicas and HAProxy are restarted by supervisord or Circus."""

    backends = frozenset({"web"})
    adopts = False
    rest_s = 0.0

    def __init__(self, ward: Ward, directory: Path, checks: Checks, supervisor: str, program: Program = APP) -> None:
        self.program = program
        self.name = self.called(checks, supervisor)
        self.directory = directory
        self.port, *self._ports = processes.free_ports(1 + REPLICAS + 3)
        self._ward = ward
        self._checks = checks
        self._supervisor = supervisor
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def called(checks: Checks, supervisor: str) -> str:
        """What such a side is called in tables."""
        return f"{checks.name}, {supervisor}"

    def start(self) -> None:
        """See the protocol `Side`."""
        config = haproxy_file(self, self._ports[:REPLICAS], self._checks)
        programs = {f"web{n}": self.program.on(port) for n, port in enumerate(self._ports[:REPLICAS], 1)}
        programs["haproxy"] = [str(haproxy_program()), "-db", "-f", str(config)]
        start = self._supervisord if self._supervisor == "supervisord" else self._circus
        self._process = self._ward.start(start(programs), "supervisor")

    def stats(self) -> Path | None:
        """See the protocol `Side`."""
        return self.directory / "haproxy.sock"

    def daemon_pid(self) -> int:
        """See the protocol `Side`."""
        assert self._process is not None
        return self._process.pid

    def revive(self) -> None:
        """See the protocol `Side`."""
        raise BenchError(f"{self._supervisor} cannot adopt what runs")

    def stop(self) -> None:
        """See the protocol `Side`."""
        if self._process is not None:
            self._ward.end(self._process, grace_s=10.0)

    def _supervisord(self, programs: dict[str, list[str]]) -> Sequence[str | Path]:
        text = "[supervisord]\nnodaemon=true\nlogfile=supervisord.log\npidfile=supervisord.pid\n"
        for name, words in programs.items():
            text += f"[program:{name}]\ncommand={' '.join(words)}\nautorestart=true\nstartsecs=1\nstartretries=1000\n"
            text += f"stdout_logfile={name}.out\nredirect_stderr=true\n"
        path = self.directory / "supervisord.conf"
        path.write_text(text)
        return [BIN / "supervisord", "-c", path]

    def _circus(self, programs: dict[str, list[str]]) -> Sequence[str | Path]:
        one, two, three = self._ports[REPLICAS:]
        text = f"[circus]\nendpoint=tcp://127.0.0.1:{one}\npubsub_endpoint=tcp://127.0.0.1:{two}\n"
        text += f"stats_endpoint=tcp://127.0.0.1:{three}\ncheck_delay=1\n"
        for name, words in programs.items():
            text += f"[watcher:{name}]\ncmd={' '.join(words)}\nnumprocesses=1\ncopy_env=True\nmax_retry=-1\n"
        path = self.directory / "circus.ini"
        path.write_text(text)
        return [BIN / "circusd", path]


class Placed(Protocol):
    """A side as its HAProxy's configuration needs it."""

    directory: Path
    port: int
    program: Program


def haproxy_file(side: Placed, replicas: Sequence[int], checks: Checks) -> Path:
    """Write the configuration of the side's HAProxy before these replicas; its runtime socket is haproxy.sock.

    TLS is passed through, as Perdure does, so HAProxy sees no requests; its checks ask over TLS.
    """
    program = side.program
    servers = "".join(f"    server w{n} 127.0.0.1:{one}\n" for n, one in enumerate(replicas, 1))
    path = side.directory / "haproxy.cfg"
    path.write_text(
        f"global\n    stats socket {side.directory / 'haproxy.sock'} mode 600 level admin\n"
        f"defaults\n    mode {'tcp' if program.tls else 'http'}\n    timeout connect 1s\n    timeout client 60s\n"
        "    option redispatch 1\n    retries 3\n"
        f"frontend web\n    bind 127.0.0.1:{side.port}\n    default_backend web\n"
        f"backend web\n    option httpchk GET {program.health}\n"
        f"{passed_through(checks.backend) if program.tls else checks.backend}{servers}"
    )
    return path


def passed_through(backend: str) -> str:
    """The same checks for connections that HAProxy does not look into."""
    lines = [line for line in backend.splitlines() if line.split()[0] not in ("retry-on", "http-request")]
    lines = [line.replace("observe layer7 error-limit 10", "observe layer4 error-limit 1") for line in lines]
    return "\n".join([*lines, "    default-server check-ssl verify none", ""])


def strength(side: Side) -> dict[int, int | None]:
    """The ports that the side's HAProxy sends requests to -> pid that answers there; empty while HAProxy is away."""
    stats = side.stats()
    seen = runtime.view(stats, side.backends) if stats is not None else None
    return {port: side.program.pid(port) for port in seen.ports} if seen is not None else {}


def wait_for_strength(side: Side, deadline_s: float = 30.0) -> None:
    """Wait until all replicas answer and get traffic, twice in a row; raises BenchError."""
    for _ in range(2):
        processes.wait_until(
            lambda: len([pid for pid in strength(side).values() if pid]) == REPLICAS,
            f"{side.name} is whole",
            deadline_s,
        )
        time.sleep(0.1)
