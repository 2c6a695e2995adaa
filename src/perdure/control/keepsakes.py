"""What the API says of snapshots, and the commands that take, pin and mark them.

A command goes to the keeper at once, for it changes nothing that runs; what it did is an event. Neighbours: `preserve`
takes snapshots by itself, `api` serves this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perdure.control.lineage import lag_s
from perdure.control.preserve import Preserver
from perdure.control.world import ServiceState, SlotState
from perdure.model.errors import ConfigError, RefusedError, UnavailableError
from perdure.model.replica import SERVING, Slot
from perdure.model.snapshot import Kept, Pin
from perdure.prevent import marker
from perdure.prevent import snapshot as retention

PIN_WHY = "by command"
WANTED_S = 86_400.0
"""What was taken or imported by command is kept at least so long."""


@dataclass(slots=True)
class Keepsakes:
    """Snapshots by command; `name` words are those of services and snapshots."""

    preserver: Preserver

    async def listed(self, name: str) -> list[dict[str, Any]]:
        """All snapshots of a service, the newest first."""
        service = self._service(name)
        wall = self.preserver.clock.wall()
        return [document(one, wall) for one in reversed(await self.preserver.keeper.kept(service.name))]

    async def shown(self, name: str, snapshot: str) -> dict[str, Any]:
        """All that is known of one snapshot."""
        service = self._service(name)
        kept = await self.preserver.keeper.kept(service.name)
        found = next((one for one in kept if one.manifest.id == snapshot), None)
        if found is None:
            raise UnavailableError(f"there is no snapshot {snapshot} of {name}", f"perdure snapshot list {name}")
        return {**document(found, self.preserver.clock.wall()), **_more(service, found)}

    async def take(self, target: str) -> list[str]:
        """Take a snapshot now, of the active replica, or of a slot that is named."""
        name, _, number = target.partition("/")
        service = self._service(name)
        slot = self._slot(service, target) if number else self._active(service)
        async with self.preserver.at_rest(service):
            manifest = await self.preserver.take(service, slot)
            if slot.slot.number == service.term.owner:
                await self._keep(service, manifest.id, "taken by command")
        return [f"{manifest.id} was taken of {manifest.slot}: {manifest.size_bytes:,} bytes in {manifest.took_s:.2f} s"]

    async def verify(self, name: str, snapshot: str) -> list[str]:
        """Read all of a snapshot, and restore it aside."""
        service = self._service(name)
        await self.preserver.keeper.verify(service.name, snapshot)
        proof = await self.preserver.prove(service, snapshot)
        if proof.problem:
            sentence = f"{snapshot} is whole, and cannot be restored: {proof.problem}"
            raise UnavailableError(sentence, f"choose another one: perdure snapshot list {name}")
        return [f"{snapshot} is whole, and was restored aside and checked in {proof.took_s:.2f} s"]

    async def pin(self, name: str, snapshot: str, pinned: bool) -> list[str]:
        """Keep a snapshot until it is unpinned."""
        service = self._service(name)
        if pinned:
            await self.preserver.keeper.note(service.name, snapshot, Pin(None, PIN_WHY), None)
        else:
            await self.preserver.keeper.unpin(service.name, snapshot)
        return [f"{snapshot} is kept until it is unpinned" if pinned else f"{snapshot} is kept as any other"]

    async def mark(self, name: str, word: str, snapshot: str | None) -> list[str]:
        """Give a snapshot a name, by default to one that is taken now."""
        service = self._service(name)
        if marker.automatic(word):
            sentence = f"names such as {word} are given by Perdure, and taken away after a few hours"
            raise RefusedError(sentence, "choose another name")
        async with self.preserver.at_rest(service):
            if snapshot is None:
                snapshot = (await self.preserver.take(service, self._active(service))).id
            await self.preserver.keeper.mark(service.name, word, snapshot)
        return [f"{snapshot} of {service.name} is {word!r} now, and is kept as long as it has a name"]

    async def unmark(self, name: str, word: str) -> list[str]:
        """Take a name away from the snapshot that has it."""
        service = self._service(name)
        kept = await self.preserver.keeper.kept(service.name)
        found = next((one.manifest.id for one in kept if word in one.marks), None)
        if found is None:
            raise UnavailableError(f"no snapshot of {name} is marked {word}", f"perdure snapshot list {name}")
        await self.preserver.keeper.unmark(service.name, word)
        return [f"{found} of {name} is no longer marked {word}"]

    async def transfer_out(self, name: str, snapshot: str, file: str) -> list[str]:
        """Write a snapshot to a file that stands alone."""
        await self.preserver.keeper.transfer_out(self._service(name).name, snapshot, file)
        return [f"{snapshot} was written to {file}"]

    async def transfer_in(self, name: str, file: str) -> list[str]:
        """Read a snapshot from such a file."""
        service = self._service(name)
        async with self.preserver.at_rest(service):
            manifest = await self.preserver.keeper.transfer_in(service.name, file)
            await self._keep(service, manifest.id, "imported")
        return [f"{file} is {manifest.id} now"]

    async def _keep(self, service: ServiceState, snapshot: str, why: str) -> None:
        """Somebody wanted it, so it does not go at once, though it may hold what others hold, or be old."""
        pin = Pin(self.preserver.clock.wall() + WANTED_S, why)
        await self.preserver.keeper.note(service.name, snapshot, pin, None)

    def _service(self, name: str) -> ServiceState:
        service = self.preserver.world.services.get(name)
        if service is None:
            known = ", ".join(sorted(self.preserver.world.services)) or "none"
            raise ConfigError(f"there is no service {name!r} (there are: {known})", "perdure status")
        if service.desired.service.state is None:
            raise RefusedError(
                f"{name} declares no state, so nothing of it is kept", f"add [service.{name}.state]: perdure docs state"
            )
        return service

    def _slot(self, service: ServiceState, target: str) -> SlotState:
        try:
            slot = service.slots.get(Slot.parse(target).number)
        except ValueError:
            slot = None
        if slot is None:
            raise ConfigError(f"there is no slot {target}", "perdure status")
        return slot

    def _active(self, service: ServiceState) -> SlotState:
        slot = service.slots.get(service.term.owner or 0)
        if slot is None or slot.replica is None or slot.replica.state not in SERVING:
            raise UnavailableError(f"no replica of {service.name} is active now", f"perdure explain {service.name}")
        return slot


def document(kept: Kept, wall: float) -> dict[str, Any]:
    """A snapshot as JSON."""
    manifest, proof = kept.manifest, kept.proof
    return {
        "id": manifest.id,
        "slot": manifest.slot,
        "epoch": manifest.epoch,
        "data_epoch": manifest.data_epoch,
        "taken_at": manifest.taken_at,
        "age_s": round(max(0.0, wall - manifest.taken_at), 3),
        "took_s": round(manifest.took_s, 3),
        "size_bytes": manifest.size_bytes,
        "stored_bytes": manifest.stored_bytes,
        "pinned": retention.pinned(kept, wall),
        "marks": list(kept.marks),
        "proven": None
        if proof is None
        else {"at": proof.at, "took_s": round(proof.took_s, 3), "problem": proof.problem},
    }


def _more(service: ServiceState, kept: Kept) -> dict[str, Any]:
    """What `document` leaves out: where it comes from, its content, why it is kept, and whose state is at it."""
    manifest, pin = kept.manifest, kept.pin
    applied = sorted(service.preserved.applied.items())
    return {
        "service": manifest.service,
        "kind": manifest.kind.value,
        "parent": manifest.parent,
        "digest": manifest.digest,
        "pin": {"until": pin.until, "why": pin.why} if pin is not None else None,
        "slots": [f"{service.name}/{number}" for number, one in applied if one.id == manifest.id],
    }


def told(service: ServiceState, wall: float) -> dict[str, Any] | None:
    """What `status` says of the state of a service; None when it declares none."""
    if service.desired.service.state is None:
        return None
    kept, last = service.preserved.kept, _last(service)
    proven = [one for one in kept if one.proof is not None and not one.proof.problem]
    proof = max(proven, key=lambda one: one.proof.at if one.proof is not None else 0.0, default=None)
    return {
        "snapshots": len(kept) if kept or service.preserved.known else None,
        "last": document(last, wall) if last is not None else None,
        "proven": document(proof, wall) if proof is not None else None,
        "problem": service.preserved.problem or None,
    }


def copied_s(service: ServiceState) -> float | None:
    """How long the last state takes to another slot, by the last snapshot and the last slot that was brought to one.

    None: not seen yet.
    """
    if service.desired.service.state is None or service.desired.replicas < 2:
        return 0.0
    last, bring_s = _last(service), service.preserved.bring_s
    return last.manifest.took_s + bring_s if last is not None and bring_s is not None else None


def _last(service: ServiceState) -> Kept | None:
    return max(service.preserved.kept, key=lambda one: one.manifest.taken_at, default=None)


def of_slot(service: ServiceState, slot: SlotState, wall: float) -> Mapping[str, Any]:
    """What `status` says of the state of a slot."""
    if service.desired.service.state is None:
        return {}
    applied = service.preserved.applied.get(slot.slot.number)
    lag = lag_s(service, slot, wall)
    return {
        "snapshot": applied.id if applied is not None else None,
        "lag_s": round(lag, 3) if lag is not None else None,
    }
