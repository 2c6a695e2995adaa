"""Which documents say what the agent observes, and how they are read back after the daemon died.

`observed/slot/web/2` holds the slot's replica and memory, `observed/balancer` HAProxy's process;
`desired/service/web` is written by `controller` alone. Monotonic instants are only worth something in the same boot,
so documents carry its id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from perdure.control.world import Capsule, ServiceState, SlotState
from perdure.model import codec
from perdure.model.replica import Process, Replica, Slot
from perdure.model.service import Restart
from perdure.model.standing import Desired, History
from perdure.model.verdict import Conviction
from perdure.ports.store import Document

BALANCER = "observed/balancer"
SLOTS = "observed/slot/"
DESIRED = "desired/"
SERVICES = DESIRED + "service/"
RELEASES = DESIRED + "release/"
RECORDS = "releases/"


class HasProcess(Protocol):
    """What is recorded of the balancer."""

    process: Process | None

    def servers(self) -> dict[str, int]:
        """Servers reserved for each service."""


def service_key(name: str) -> str:
    """The key of what is wanted of a service."""
    return SERVICES + name


def release_key(name: str) -> str:
    """The key of the number of the last release of a service that is no longer declared."""
    return RELEASES + name


def records_of(service: str) -> str:
    """The prefix of the keys of a service's releases."""
    return f"{RECORDS}{service}/"


def record_key(service: str, number: int) -> str:
    """The key of a release; they sort as they were made."""
    return f"{records_of(service)}{number:08d}"


def slot_key(slot: Slot) -> str:
    """The key of what is observed of a slot."""
    return SLOTS + str(slot)


def documents(slots: Sequence[SlotState], carrier: HasProcess) -> dict[str, Document | None]:
    """The documents of these slots, and the balancer's, as they are now."""
    found: dict[str, Document | None] = {slot_key(slot.slot): slot_document(slot) for slot in slots if slot.replica}
    found[BALANCER] = balancer_document(carrier)
    return found


def gone(service: ServiceState) -> dict[str, Document | None]:
    """The documents to delete with a service that is no longer declared."""
    return {slot_key(slot.slot): None for slot in service.slots.values()}


def slot_document(slot: SlotState) -> Document:
    """One slot as a document."""
    return {
        "replica": codec.encode(slot.replica),
        "history": codec.encode(slot.history),
        "conviction": codec.encode(slot.conviction),
        "capsule": codec.encode(slot.capsule),
        "ready_at": slot.ready_at,
        "start_s": slot.start_s,
        "unsaved": slot.unsaved,
        "end_wanted": slot.end_wanted,
        "last_rule": slot.last_rule,
        "last_sentence": slot.last_sentence,
    }


def balancer_document(carrier: HasProcess) -> Document:
    """The balancer as a document."""
    return {"process": codec.encode(carrier.process), "servers": carrier.servers()}


def read_slot(document: Mapping[str, Any], slot: Slot, restart: Restart, now: float) -> SlotState:
    """A slot as an earlier daemon left it; instants that lie ahead of `now` are from before a reboot, and become
    `now`: then nothing runs, and nothing has to wait.
    """
    replica = codec.decode(Replica, document["replica"])
    history = codec.decode(History, document["history"])
    if replica.since_at > now:
        replica = replace(replica, since_at=now, stop_deadline_at=None)
        history = replace(history, next_start_at=now)
    if history.next_start_at > now + restart.backoff_s_max:
        history = replace(history, next_start_at=now)
    if history.readmitted_at is not None and history.readmitted_at > now:
        history = replace(history, readmitted_at=None)
    conviction = document.get("conviction")
    capsule = document.get("capsule")
    ready_at = document.get("ready_at")
    return SlotState(
        slot,
        replica,
        history=history,
        conviction=codec.decode(Conviction, conviction) if conviction is not None else None,
        capsule=codec.decode(Capsule, capsule) if capsule is not None else None,
        ready_at=min(ready_at, now) if ready_at is not None else None,
        start_s=document.get("start_s"),
        unsaved=bool(document.get("unsaved")),
        end_wanted=bool(document.get("end_wanted")),
        last_rule=str(document.get("last_rule", "")),
        last_sentence=str(document.get("last_sentence", "")),
    )


def read_balancer(document: Mapping[str, Any]) -> tuple[Process | None, dict[str, int]]:
    """The balancer's process and reserved servers, as an earlier daemon left them."""
    process = document.get("process")
    return (codec.decode(Process, process) if process is not None else None), dict(document.get("servers", {}))


def read_desired(document: Mapping[str, Any]) -> Desired:
    """What is wanted of a service."""
    return codec.decode(Desired, document)
