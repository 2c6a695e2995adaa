"""Telling a warm replica that it is active now."""

from dataclasses import dataclass
from typing import Protocol

from perdure.model.replica import Process
from perdure.model.service import Service


@dataclass(frozen=True, slots=True)
class Duty:
    """What a replica is to know of its role. `role` is `active` or `passive`."""

    service: Service
    slot: str
    role: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Listener:
    """The replica that is told: its process, its port, and the environment that it was given."""

    process: Process
    port: int
    environment: tuple[tuple[str, str], ...] = ()


class Roles(Protocol):
    """The role of each slot, where its replica can read it."""

    def prepare(self, service: Service, slot: str) -> str:
        """Make the directory for the state of a slot (`PERDURE_STATE`) when it is missing, for whom the service runs
        as; its path. UnavailableError when that cannot be done."""

    def write(self, duty: Duty) -> None:
        """Write the role file of a slot, atomically; UnavailableError when the disk does not take it."""

    async def tell(self, duty: Duty, listener: Listener) -> None:
        """Write the file, and do what the service declares; UnavailableError when the replica did not take it."""

    def variables(self, service: str, slot: str) -> tuple[tuple[str, str], ...]:
        """Where a replica finds its role file and its own directory (`PERDURE_ROLE_FILE`, `PERDURE_STATE`)."""
