"""Telling simulated replicas their role: each takes what it is told after a moment. Keeps `ports.role.Roles`."""

import asyncio
from dataclasses import dataclass, field

from perdure.model.errors import UnavailableError
from perdure.model.service import Service
from perdure.ports.role import Duty, Listener
from perdure.sim.kernel import Kernel
from perdure.sim.life import Life

TAKES_S = 0.005


@dataclass(slots=True)
class SimulatedRoles:
    """The roles as one life of the daemon writes them; the files survive it."""

    kernel: Kernel
    life: Life
    written: dict[str, Duty] = field(default_factory=dict)
    """Slot -> its role file; the disk's."""

    def prepare(self, service: Service, slot: str) -> str:
        """See the port."""
        return f"/slots/{slot}/state"

    def write(self, duty: Duty) -> None:
        """See the port."""
        self.life.act()
        self.written[duty.slot] = duty

    async def tell(self, duty: Duty, listener: Listener) -> None:
        """See the port; a process that is gone, or stopped, takes nothing."""
        self.write(duty)
        await asyncio.sleep(TAKES_S)
        self.life.check()
        runs = self.kernel.at_port(listener.port)
        if runs is None or not runs.listening:
            raise UnavailableError(f"{duty.slot} did not take its role: connection refused")

    def variables(self, service: str, slot: str) -> tuple[tuple[str, str], ...]:
        """See the port."""
        return (("PERDURE_STATE", f"/slots/{slot}/state"),)
