"""Which replicas a HAProxy that was replaced still talks to.

It finishes its requests, answers on no runtime socket any more, and so cannot be asked; but the kernel knows its
connections. Listing them takes time that grows with their number, so that a look waits nine times as long as the one
before took. `haproxy` puts the answer into its readings, and `control.world` takes it for requests in flight.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import psutil

from perdure.model.replica import Process
from perdure.ports.clock import Clock

REST_FACTOR = 9.0


class Lingering:
    """Remembers the last look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: frozenset[int] = frozenset()
        self._look_again_at = 0.0

    async def ports(self, replaced: Sequence[Process]) -> frozenset[int]:
        """The remote ports of all established connections of these processes, as of the last look."""
        if not replaced:
            return frozenset()
        begun_at = self._clock.now()
        if begun_at >= self._look_again_at:
            self._found = await asyncio.to_thread(_remote_ports, replaced)
            ended_at = self._clock.now()
            self._look_again_at = ended_at + REST_FACTOR * (ended_at - begun_at)
        return self._found


def _remote_ports(processes: Sequence[Process]) -> frozenset[int]:
    found: set[int] = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            connections = psutil.Process(process.pid).net_connections(kind="tcp")
            found |= {one.raddr.port for one in connections if one.raddr and one.status == psutil.CONN_ESTABLISHED}
    return frozenset(found)
