"""Monit beside HAProxy with its own checks, as a side of the fault bench: who keeps Debian servers alive without more.

Monit (the Debian package) looks each second, which is its shortest cycle, at each replica's process and at its health
page, and restarts what is gone or fails twice in a row; memory above the limit that Perdure has, too. It takes nobody
out of traffic, so HAProxy's checks do, at their defaults.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench import processes, sides
from bench.processes import BenchError, Ward
from bench.program import APP, Program
from bench.rivals import haproxy_program

NAME = "HAProxy's checks, default, Monit"
MEMORY = "250 MB"
CYCLE_S = 1
ENDS_WITHIN_S = 10.0


def program() -> str | None:
    """Monit, where it is installed (`apt-get install monit`); otherwise None."""
    return shutil.which("monit") or shutil.which("/usr/sbin/monit")


class MonitSide:
    """HAProxy and three replicas, each restarted by Monit."""

    name = NAME
    backends = frozenset({"web"})
    adopts = False
    rest_s = 0.0

    def __init__(self, ward: Ward, directory: Path, program: Program = APP) -> None:
        self.program = program
        self.directory = directory
        self.port, *self._ports = processes.free_ports(1 + sides.REPLICAS)
        self._ward = ward
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """See the protocol `Side`."""
        found = program()
        if found is None:
            raise BenchError("Monit is not installed (apt-get install monit)")
        config = sides.haproxy_file(self, self._ports, sides.DEFAULT_CHECKS)
        rules = self._rule("haproxy", [str(haproxy_program()), "-db", "-f", str(config)], "")
        for number, port in enumerate(self._ports, 1):
            protocol = f"protocol {'https' if self.program.tls else 'http'} request {self.program.health}"
            healthy = f"  if failed port {port} {protocol} for 2 cycles then restart\n"
            memory = f"  if total memory > {MEMORY} for 2 cycles then restart\n"
            rules += self._rule(f"web{number}", self.program.on(port), healthy + memory)
        path = self.directory / "monitrc"
        own = "".join(f"set {name} {self.directory / name}\n" for name in ("pidfile", "statefile", "idfile"))
        path.write_text(f"set daemon {CYCLE_S}\nset log {self.directory / 'monit.log'}\n{own}{rules}")
        path.chmod(0o600)
        self._process = self._ward.start([found, "-I", "-c", path], "monit")

    def stats(self) -> Path | None:
        """See the protocol `Side`."""
        return self.directory / "haproxy.sock"

    def daemon_pid(self) -> int:
        """See the protocol `Side`."""
        assert self._process is not None
        return self._process.pid

    def revive(self) -> None:
        """See the protocol `Side`."""
        raise BenchError("Monit is not started again here")

    def stop(self) -> None:
        """See the protocol `Side`."""
        if self._process is not None:
            self._ward.end(self._process, grace_s=ENDS_WITHIN_S)
        until_at = time.monotonic() + ENDS_WITHIN_S
        while (left := processes.belonging_to(self.directory)) and time.monotonic() < until_at:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _rule(self, name: str, words: Sequence[str], tests: str) -> str:
        """One program under Monit: how it is started and ended, and what is looked at."""
        pidfile = self.directory / f"{name}.pid"
        script = self.directory / f"{name}.sh"
        command = " ".join(words)
        script.write_text(
            f"#!/bin/sh\ncd {self.directory}\nif [ $1 = stop ]; then kill -KILL $(cat {pidfile}); exit; fi\n"
            f"setsid {command} >{name}.out 2>&1 </dev/null &\necho $! >{pidfile}\n"
        )
        script.chmod(0o700)
        return (
            f"check process {name} with pidfile {pidfile}\n"
            f'  start program = "{script} start"\n  stop program = "{script} stop"\n{tests}'
        )
