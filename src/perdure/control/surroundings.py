"""What Perdure adds to the environment of a replica: its port, its names, and where it may send heartbeats."""

from dataclasses import dataclass

from perdure.control.world import SlotState
from perdure.model.service import Service
from perdure.prevent import balance


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where this daemon listens for heartbeats: an HTTP port on loopback, and notify sockets (empty: none)."""

    beat_port: int = 0
    notify_socket: str = ""
    open_notify_socket: str = ""
    """For services that run as another user: the first one lies in a directory that only Perdure's user may enter."""

    def of(self, service: Service, slot: SlotState) -> tuple[tuple[str, str], ...]:
        """The variables for the replica that is in `slot` now."""
        replica = slot.replica
        assert replica is not None
        variables = {
            "PORT": str(replica.port),
            "HOST": balance.REPLICA_HOST,
            "PERDURE_SERVICE": service.name,
            "PERDURE_SLOT": str(slot.slot),
            "PERDURE_RUN": str(replica.run),
            "PERDURE_RELEASE": replica.release,
        }
        if service.heartbeat is not None:
            variables["WATCHDOG_USEC"] = str(int(service.heartbeat.every_s * 1_000_000))
            if self.beat_port:
                variables["PERDURE_HEARTBEAT_URL"] = f"http://127.0.0.1:{self.beat_port}/beat/{replica.token}"
            notify_socket = self.notify_socket if service.user is None else self.open_notify_socket
            if notify_socket:
                variables["NOTIFY_SOCKET"] = notify_socket
        return tuple(variables.items())
