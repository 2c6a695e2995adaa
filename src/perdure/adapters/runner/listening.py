"""TCP ports of this host: who listens on one, and which is free.

A replica is believed only when its own processes hold the listening socket, also when a parent bound it and workers
inherited it. `process` is the caller.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

LISTEN = 10
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
REQUEST_ALL = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR, DONE = 2, 3
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
QUESTION = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states; any socket
ROW = struct.Struct("=4xH50xII4xI")  # the local port (big-endian), connections that wait, their limit; the inode
REPLY_BYTES = 65_536


def inodes(port: int) -> frozenset[str]:
    """The links, as /proc/PID/fd shows them, of all sockets that listen on `port`, at any address.

    The kernel is asked for the listening ones alone; reading /proc/net/tcp takes 7 ms even when it is empty, and
    remains for kernels that cannot be asked.
    """
    try:
        found = [inode for found_port, _, _, inode in _listeners() if found_port == port]
    except OSError:
        found = _read(port)
    return frozenset(f"socket:[{inode}]" for inode in found)


def backlogs() -> dict[int, tuple[int, int]]:
    """Port -> connections that wait to be accepted, and how many may, of everybody who listens; empty when the kernel
    cannot be asked. Of several sockets on one port the fullest counts.
    """
    found: dict[int, tuple[int, int]] = {}
    try:
        for port, waiting, limit, _ in _listeners():
            if port not in found or waiting - limit > found[port][0] - found[port][1]:
                found[port] = waiting, limit
    except OSError:
        return {}
    return found


def hold(pids: Iterable[int], sockets: frozenset[str]) -> bool:
    """Whether one of the processes has one of the sockets open."""
    return any(_holds(pid, sockets) for pid in pids)


def free(ports: range, taken: frozenset[int], first: int) -> int | None:
    """The first port, from index `first` of the range on and round, that can be bound on every address."""
    for step in range(len(ports)):
        port = ports[(first + step) % len(ports)]
        if port not in taken and _can_bind(port):
            return port
    return None


def _listeners() -> list[tuple[int, int, int, int]]:
    """Port, waiting connections, their limit, and inode of each listening socket; raises OSError when the kernel has no
    answer.
    """
    return [*_asked(socket.AF_INET), *_asked(socket.AF_INET6)]


def _asked(family: socket.AddressFamily) -> list[tuple[int, int, int, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        question = QUESTION.pack(family, socket.IPPROTO_TCP, 0, 1 << LISTEN)
        kernel.send(HEADER.pack(HEADER.size + len(question), SOCK_DIAG_BY_FAMILY, REQUEST_ALL, 1, 0) + question)
        found: list[tuple[int, int, int, int]] = []
        while True:
            reply = kernel.recv(REPLY_BYTES)
            at = 0
            while at < len(reply):
                length, kind, *_ = HEADER.unpack_from(reply, at)
                if kind == DONE:
                    return found
                if kind == ERROR:
                    raise OSError(-struct.unpack_from("=i", reply, at + HEADER.size)[0], "no list of sockets")
                port, waiting, limit, inode = ROW.unpack_from(reply, at + HEADER.size)
                found.append((socket.ntohs(port), waiting, limit, inode))
                at += length + 3 & ~3


def _read(port: int) -> list[int]:
    found: list[int] = []
    suffix = f":{port:04X}"
    for table in TABLES:
        try:
            with table.open(encoding="ascii") as lines:
                next(lines)
                for line in lines:
                    fields = line.split(maxsplit=10)
                    if int(fields[3], 16) != LISTEN:
                        break  # listening sockets come first, and there may be 100,000 others
                    if fields[1].endswith(suffix):
                        found.append(int(fields[9]))
        except FileNotFoundError:
            continue  # a kernel without IPv6
    return found


def _holds(pid: int, sockets: frozenset[str]) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)  # noqa: PTH208 - a hot path
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    for name in names:
        try:
            if os.readlink(f"{directory}/{name}") in sockets:  # noqa: PTH115 - a hot path
                return True
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # closed meanwhile
    return False


def _can_bind(port: int) -> bool:
    """Whether nobody uses the port on any address, IPv4 or IPv6.

    Without SO_REUSEADDR: with it, a socket that is bound and about to listen would not be seen.
    """
    try:
        return _try_bind(socket.AF_INET6, port)
    except OSError:
        return _try_bind(socket.AF_INET, port)  # no IPv6 here


def _try_bind(family: socket.AddressFamily, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
