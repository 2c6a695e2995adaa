"""Which addresses can be bound now, and who holds those that cannot.

The only sure test is to bind: it knows about other programs, other addresses of this machine and privileges alike.
`preflight` calls `wrong` for every address that the services want.
"""

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from perdure.config import addresses, mistake
from perdure.model.service import Address

_LISTEN_STATE = "0A"  # of /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket of this machine, and the process that holds it as far as this user may know."""

    address: Address
    holder: str


def wrong(wanted: Address, in_use_ok: frozenset[Address]) -> mistake.Mistake | None:
    """Say why an address cannot be bound; None when it can, or when only those in `in_use_ok` are in the way."""
    try:
        family, _, _, _, target = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        return mistake.Mistake(f"{wanted} has a host that no address is known for", "write an address of this machine")
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            # As HAProxy does it; connections of an earlier run that are still in TIME_WAIT are no obstacle then.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(target)
    except OSError as error:
        return _refused(error, wanted, in_use_ok)
    return None


def listening_ports() -> frozenset[int]:
    """Return every TCP port that something listens on, from the kernel's own tables; empty where there are none."""
    ports: set[int] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        rows = (line.split() for line in lines)
        ports.update(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN_STATE)
    return frozenset(ports)


def _refused(error: OSError, wanted: Address, in_use_ok: frozenset[Address]) -> mistake.Mistake | None:
    match error.errno:
        case errno.EADDRINUSE:
            return _in_use(wanted, in_use_ok)
        case errno.EACCES | errno.EPERM:
            return mistake.Mistake(
                f"{wanted} is a privileged port, and only root may listen there",
                f"choose one from 1024 on, run as root, or: sysctl net.ipv4.ip_unprivileged_port_start={wanted.port}",
            )
        case errno.EADDRNOTAVAIL:
            return mistake.Mistake(
                f"{wanted} is no address of this machine", 'see "ip address"; ":PORT" means every one'
            )
        case _:
            reason = os.strerror(error.errno or 0).lower()
            return mistake.Mistake(f"{wanted} cannot be listened on: {reason}", "choose another address")


def _in_use(wanted: Address, in_use_ok: frozenset[Address]) -> mistake.Mistake | None:
    in_the_way = [one for one in _listeners(wanted.port) if addresses.overlap(one.address, wanted)]
    foreign = [one for one in in_the_way if not any(addresses.overlap(one.address, own) for own in in_use_ok)]
    if in_the_way and not foreign:
        return None
    holder = next((one.holder for one in foreign if one.holder), "")
    if holder:
        return mistake.Mistake(f"{wanted} is in use by {holder}", "end that program, or choose another port")
    return mistake.Mistake(
        f"{wanted} is in use by another program",
        f"as root, `ss -ltnp sport = :{wanted.port}` names it; end it, or choose another port",
    )


def _listeners(port: int) -> Iterator[Listener]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port:
            host = one.laddr.ip.removeprefix("::ffff:")
            yield Listener(Address(host, port), _holder(one.pid))


def _holder(pid: int | None) -> str:
    if pid is None:
        return ""
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
