"""Logs of replicas for the API: the last lines of slots, and what is written from now on.

The replicas hold their files open themselves; here they are only read, and rotated by size once in a while.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.control.world import World
from perdure.model.errors import ConfigError
from perdure.model.replica import Slot
from perdure.ports.runner import Runner

LOOK_EVERY_S = 0.2
ROTATE_EVERY_S = 5.0
CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The log files of all slots, in one directory."""

    directory: Path
    runner: Runner

    def slots(self, world: World, target: str) -> list[Slot]:
        """The slots that `web` or `web/2` names; ConfigError when there are none."""
        name, _, number = target.partition("/")
        service = world.services.get(name)
        numbers = sorted(service.slots) if service is not None else []
        chosen = [Slot(name, key) for key in numbers if not number or str(key) == number]
        if not chosen:
            names = ", ".join(sorted(world.services)) or "none"
            raise ConfigError(f"there is no service or slot {target!r} (services: {names})", "perdure status")
        return chosen

    def last(self, slots: Sequence[Slot], lines: int) -> list[dict[str, Any]]:
        """The last lines of each slot, slot by slot, oldest first."""
        return [{"slot": str(slot), "line": line} for slot in slots for line in self.runner.last_lines(slot, lines)]

    async def follow(self, slots: Sequence[Slot], first: Sequence[dict[str, Any]]) -> AsyncIterator[str]:
        """`first`, then every line that is written from now on, as NDJSON, for ever."""
        positions = {slot: self._size(slot) for slot in slots}
        rests = dict.fromkeys(slots, b"")
        for known in first:
            yield json.dumps(known) + "\n"
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for slot in slots:
                for line in self._new_lines(slot, positions, rests):
                    yield json.dumps({"slot": str(slot), "line": line}) + "\n"

    def _path(self, slot: Slot) -> Path:
        return self.directory / f"{slot.service}.{slot.number}.log"

    def _size(self, slot: Slot) -> int:
        path = self._path(slot)
        return path.stat().st_size if path.exists() else 0

    def _new_lines(self, slot: Slot, positions: dict[Slot, int], rests: dict[Slot, bytes]) -> list[str]:
        size = self._size(slot)
        if size < positions[slot]:
            positions[slot] = 0
        if size == positions[slot]:
            return []
        with self._path(slot).open("rb") as file:
            file.seek(positions[slot])
            data = file.read(CHUNK_BYTES)
        positions[slot] += len(data)
        *lines, rests[slot] = (rests[slot] + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


async def rotate(world: World, runner: Runner) -> None:
    """Rotate logs that grew beyond their size, for ever."""
    while True:
        for service, slot in list(world.slots()):
            log = service.desired.service.log
            runner.rotate_logs(slot.slot, log.size_bytes, log.count)
        await asyncio.sleep(ROTATE_EVERY_S)
