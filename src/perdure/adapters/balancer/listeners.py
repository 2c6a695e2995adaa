"""The sockets that clients connect to: opened and held by the daemon, and lent to every HAProxy.

Because the daemon holds them too, a connection made while HAProxy is dead waits in the kernel's queue for the next one,
and on a change of configuration the old and the new process share the same queue. They travel in HAProxy's own protocol
for handing sockets to its successor: HAProxy asks at a unix socket (`-x PATH`), and the daemon answers there as if it
were the old process. So HAProxy holds them as its own, and hands them back to the next daemon when asked in the same
way (`recover`). Descriptors that it merely inherited (`bind fd@N`) it would not hand back.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from perdure.model.errors import ConfigError, ConflictError, UnavailableError
from perdure.model.service import Address

BACKLOG = 4096
BATCH = 252
RECOVER_TIMEOUT_S = 2.0

_REQUEST = b"_getsocks\n"
_COUNT = struct.Struct("i")
_NAMELESS = bytes(6)
"""What is said of each socket: no network namespace, no interface, no options."""


class Listeners:
    """The open listening sockets by numeric address."""

    def __init__(self) -> None:
        self._sockets: dict[Address, socket.socket] = {}

    @property
    def addresses(self) -> frozenset[Address]:
        """Where a socket is held now."""
        return frozenset(self._sockets)

    def open(self, addresses: Collection[Address], shared: bool) -> None:
        """Open what is missing, all or none. `shared`: a HAProxy of ours may still listen on its own sockets there.

        Raises ConflictError when somebody else listens there, ConfigError when the address is not one of this machine.
        """
        opened: dict[Address, socket.socket] = {}
        try:
            for address in addresses:
                if address not in self._sockets:
                    opened[address] = _listen(address, shared)
        except BaseException:
            for made in opened.values():
                made.close()
            raise
        self._sockets |= opened

    def keep_only(self, addresses: Collection[Address]) -> None:
        """Close the sockets of all other addresses."""
        for address in [address for address in self._sockets if address not in addresses]:
            self._sockets.pop(address).close()

    @asynccontextmanager
    async def lent_at(self, path: Path) -> AsyncIterator[Path]:
        """While this lasts, a HAProxy that is started with `-x PATH` gets all sockets from there."""
        with _private_socket(path) as server:
            task = asyncio.create_task(self._lend(server), name="lend listening sockets to HAProxy")
            try:
                yield path
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _lend(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            peer, _ = await loop.sock_accept(server)
            # One that ends half-way fails to start, which its starter sees.
            with peer, contextlib.suppress(OSError):
                request = b""
                while not request.endswith(b"\n"):
                    received = await loop.sock_recv(peer, 64)
                    if not received:
                        break
                    request += received
                if request == _REQUEST:
                    await self._answer(peer)

    async def _answer(self, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        descriptors = [held.fileno() for held in self._sockets.values()]
        await loop.sock_sendall(peer, _COUNT.pack(len(descriptors)))
        for start in range(0, len(descriptors), BATCH):
            batch = descriptors[start : start + BATCH]
            socket.send_fds(peer, [_NAMELESS * len(batch)], batch)
            await loop.sock_recv(peer, _COUNT.size)

    async def recover(self, stats_path: Path, addresses: Collection[Address]) -> None:
        """Get the sockets of `addresses` back from a running HAProxy; UnavailableError when it gives none."""
        for found in await asyncio.to_thread(_ask_for_sockets, stats_path):
            address = _address_of(found)
            if address is not None and address in addresses and address not in self._sockets:
                self._sockets[address] = found
            else:
                found.close()


def resolve(address: Address) -> Address:
    """The numeric form of an address, IPv4 first; ConfigError when its host has no address here."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {address}: {error}", "give an IP address of this machine") from error
    _, _, _, _, name = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return Address(str(name[0]), address.port)


@contextmanager
def _private_socket(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.setblocking(False)
        server.bind(str(path))
        try:
            path.chmod(0o600)
            server.listen(1)
            yield server
        finally:
            path.unlink()


def _listen(address: Address, shared: bool) -> socket.socket:
    with _explained(address):
        if not shared:
            # Without SO_REUSEPORT this fails also where a stranger would let others share its port.
            with _bind(address, reuse_port=False):
                pass
        bound = _bind(address, reuse_port=True)
        try:
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
        return bound


def _bind(address: Address, reuse_port: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            # As `render` tells HAProxy: "::" is every address of both kinds, and any other one is itself alone.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != "::")
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind((address.host, address.port))
    except OSError:
        bound.close()
        raise
    return bound


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"another process listens on {address} already",
                f"find it with: ss -ltnp 'sport = :{address.port}'; end it, or choose another listen address",
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"{address} may not be listened on by this user", "choose a port above 1023, or start Perdure as root"
            ) from error
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"cannot listen on {address}: {reason}", "give an address of this machine") from error


def _address_of(found: socket.socket) -> Address | None:
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    name = found.getsockname()
    return Address(name[0], name[1])


def _ask_for_sockets(stats_path: Path) -> list[socket.socket]:
    descriptors: list[int] = []
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(RECOVER_TIMEOUT_S)
            asking.connect(str(stats_path))
            asking.sendall(_REQUEST)
            (count,) = _COUNT.unpack(asking.recv(_COUNT.size, socket.MSG_WAITALL))
            while len(descriptors) < count:
                data, received, _, _ = socket.recv_fds(asking, BATCH * 512, BATCH)
                if not data:
                    raise ConnectionError("HAProxy ended the hand-over early")
                descriptors += received
                asking.sendall(_COUNT.pack(len(descriptors)))
    except (OSError, struct.error) as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise UnavailableError(f"HAProxy did not hand over its sockets: {error}", "see haproxy.log") from error
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for found in sockets:
        found.setblocking(False)
    return sockets
