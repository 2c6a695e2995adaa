"""What an earlier daemon left running: replicas and a balancer go on serving when their daemon is dead.

`up` must not take their addresses for somebody else's, and `down` must not say that nothing runs. Read from the run
records that each replica wrote at its start and from the balancer's sockets; the next daemon adopts them properly.
"""

import json
import socket
from pathlib import Path

from perdure.control.paths import Paths
from perdure.model.service import Address, Deployment

_GONE = ("Z", "X", "x")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def replicas(paths: Paths) -> list[int]:
    """The pids of replicas that still run, first processes only."""
    return [pid for record in sorted(paths.run.glob("*.json")) if (pid := _pid(record)) is not None]


def balancer_runs(paths: Paths) -> bool:
    """Whether a balancer of this deployment still accepts on its admin socket."""
    return any(_answers(path) for path in paths.run.glob("haproxy-*.sock"))


def addresses(paths: Paths, deployment: Deployment) -> frozenset[Address]:
    """The addresses of the deployment that its own leftovers may hold, so that the check does not call them taken."""
    held: list[Address] = []
    if balancer_runs(paths):
        held += [service.listen for service in deployment.services if service.listen is not None]
    if replicas(paths):
        held += [Address("127.0.0.1", service.port) for service in deployment.services if service.port is not None]
    return frozenset(held)


def _pid(record: Path) -> int | None:
    """The process that a record names, if it is the same one and still runs on this boot of the machine."""
    try:
        document = json.loads(record.read_bytes())
        pid = int(document["pid"])
        if document["boot_id"] != _BOOT_ID.read_text().strip():
            return None
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        same = int(fields[19]) == int(document["started_ticks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if same and fields[0] not in _GONE else None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        try:
            asking.connect(str(path))
        except OSError:
            return False
    return True
