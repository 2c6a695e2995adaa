"""Writes changes as lines for HAProxy's runtime socket, and reads in the answers whether they were done.

Pure; `haproxy.HAProxy` sends the lines. Several changes share a line, for an exchange costs more than a command, and a
line is far from filling HAProxy's buffer of 16 KiB.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from perdure.adapters.balancer import render
from perdure.model.errors import UnavailableError
from perdure.model.traffic import Admin, BalancerChange, CloseServer, PutServer, SetEpoch, SetRetry, WeighServer

CHANGES_PER_LINE = 20

_SERVER = re.compile(r"s[1-9]\d{0,5}")
_DONE = re.compile(r"(no need to change the addr|IP changed from|port changed from|Key not found)")


def lines(changes: Sequence[BalancerChange], paths: render.Paths, services: Sequence[str]) -> Iterator[str]:
    """The lines to send one after the other: removals before additions, otherwise in order.

    `services` are all that the configuration has, in its order: the list of `paths.retries_off` knows them by number.
    """
    ordered = sorted(changes, key=_is_addition)
    for start in range(0, len(ordered), CHANGES_PER_LINE):
        words: list[str] = []
        for change in ordered[start : start + CHANGES_PER_LINE]:
            words += _commands(change, paths, services)
        yield ";".join(words)


def check(answer: str) -> None:
    """Raise UnavailableError when any part of the answer is not one that a command gives when it was done."""
    wrong = [line for line in answer.splitlines() if line.strip() and not _DONE.match(line)]
    if wrong:
        raise UnavailableError(f"HAProxy did not do what it was told: {wrong[0][:200]}", "perdure explain balancer")


def numbers(answer: str) -> Set[int]:
    """What `show acl` lists, of a list of numbers: each line is an address in memory and the number."""
    return {int(line.split()[-1]) for line in answer.splitlines() if line.strip()}


def epochs(answer: str) -> Mapping[str, int]:
    """What `show map` lists, of the map of epochs: each line is an address in memory, the service, and the epoch."""
    words = [line.split() for line in answer.splitlines() if line.strip()]
    return {service: int(epoch) for _, service, epoch in words}


def escaped(path: Path) -> str:
    """A path as one word of a command."""
    return re.sub(r"([\\ ;#])", r"\\\1", str(path))


def _is_addition(change: BalancerChange) -> bool:
    return isinstance(change, PutServer) and change.admin is Admin.READY


def _commands(change: BalancerChange, paths: render.Paths, services: Sequence[str]) -> Sequence[str]:
    match change:
        case SetRetry(service, allowed):
            return [f"{'del' if allowed else 'add'} acl {escaped(paths.retries_off)} {services.index(service) + 1:d}"]
        case SetEpoch(service, epoch):
            return [f"set map {escaped(paths.epochs)} {service} {epoch:d}"]
        case WeighServer(service, server, weight):
            return [f"set server {_name(service, server)} weight {weight:d}"]
        case CloseServer(service, server):
            return [f"shutdown sessions server {_name(service, server)}"]
        case PutServer(service, server, address, admin):
            name = _name(service, server)
            put = [f"set server {name} state {admin.value}"]
            if address is not None:
                host = ipaddress.ip_address(address.host)
                put.insert(0, f"set server {name} addr {host} port {address.port:d}")
            if admin is Admin.READY:
                # Otherwise it would wait for HAProxy's first check of it.
                put.append(f"set server {name} health up")
            return put


def _name(service: str, server: str) -> str:
    assert _SERVER.fullmatch(server), f"not a server's name: {server!r}"
    return f"{render.backend_name(service)}/{server}"
