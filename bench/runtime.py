"""Asks a HAProxy over its runtime socket, as the benches see it: which ports get traffic, and who it is.

Deliberately not Perdure's own adapter: what measures Perdure must not share its mistakes.
"""

import csv
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UP_STATES = frozenset({"1", "2", "3"})  # starting, running, stopping: it is sent requests
DISABLED_IN_FILE = 4  # remembers what the configuration said; all other administrative flags take a server out


@dataclass(frozen=True, slots=True)
class View:
    """What one HAProxy says at one moment: its pid, and the ports of the servers that it sends requests to."""

    pid: int
    ports: tuple[int, ...]


def ask(path: Path, command: str, timeout_s: float = 1.0) -> str:
    """Send one command line (several separated by `;`) and return the reply; raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(command.encode() + b"\n")
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


def view(path: Path, backends: frozenset[str]) -> View | None:
    """The view of the HAProxy behind this socket; None when it does not answer."""
    try:
        reply = ask(path, "show info;show servers state")
    except OSError:
        return None
    pid, ports = 0, []
    for line in reply.splitlines():
        if line.startswith("Pid:"):
            pid = int(line.partition(":")[2])
        fields = line.split()
        if (
            len(fields) > 18
            and fields[1] in backends
            and fields[5] in UP_STATES
            and not int(fields[6]) & ~DISABLED_IN_FILE
        ):
            ports.append(int(fields[18]))
    # Port 0 is a server that is no replica: a socket of HAProxy's own.
    return View(pid, tuple(port for port in ports if port)) if pid else None


def servers(path: Path, backends: frozenset[str]) -> dict[str, int]:
    """The servers that are up, as `backend/server`, and their ports; raises OSError."""
    rows = csv.DictReader(ask(path, "show stat").removeprefix("# ").splitlines())
    return {
        f"{row['pxname']}/{row['svname']}": int(row["addr"].rpartition(":")[2])
        for row in rows
        if row["pxname"] in backends and row["status"].startswith("UP") and row["addr"].startswith("127.")
    }


def weights(path: Path, backends: frozenset[str]) -> dict[int, int]:
    """The port of each server that is up, and its weight; raises OSError."""
    rows = csv.DictReader(ask(path, "show stat").removeprefix("# ").splitlines())
    return {
        int(row["addr"].rpartition(":")[2]): int(row["weight"])
        for row in rows
        if row["pxname"] in backends and row["status"].startswith("UP") and row["addr"].startswith("127.")
    }


def put_in(path: Path, backend: str, servers: Mapping[str, int]) -> None:
    """Put replicas in: mapping of server -> port."""
    for server, port in servers.items():
        name = f"{backend}/{server}"
        ask(
            path,
            f"set server {name} addr 127.0.0.1 port {port};set server {name} state ready;set server {name} health up",
        )
