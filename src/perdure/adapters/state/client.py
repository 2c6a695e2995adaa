"""The keeper as the daemon sees it: a process for each service, started when it is needed, and again when it died.

Calls of one service are done one after the other, in the order in which they were made; those of different services run
side by side. A caller who gives up does not stop what he began: it goes on, and the next call waits for it, unless he
abandons it: then the process is killed. It is killed too when somebody is in a hurry and it does what can be repeated.
`process` is the other end.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from perdure.adapters.state import protocol
from perdure.model import codec
from perdure.model.errors import UnavailableError
from perdure.model.snapshot import Kept, Loss, Manifest, Pin, Proof
from perdure.ports.keeper import EndedError, Source

ERROR_BYTES = 4_096
END_TIMEOUT_S = 5.0
REPEATABLE = frozenset({"restore", "compare", "rescue", "prove"})
"""Calls that leave nothing but what is aside, and may take minutes."""


class Worker:
    """The process of one service."""

    def __init__(self, directory: Path, service: str) -> None:
        self._directory = directory
        self._service = service
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._said = b""
        self._calls: set[asyncio.Task[Any]] = set()
        self._abandoned = 0
        """Counts how often; a call of before is not begun any more."""
        self._repeatable: set[asyncio.Task[Any]] = set()
        """Of the calls, those that may be ended and made again."""
        self._hurried: set[asyncio.Task[Any]] = set()
        """Of those, the ones that are to end."""
        self._working: asyncio.Task[Any] | None = None
        """The call that has the turn."""
        self._killed: Process | None = None

    async def call(self, name: str, arguments: dict[str, Any], *, repeatable: bool = False) -> Any:
        """The result of a call; EndedError when the process dies in it. `repeatable`: `hurry` ends it."""
        done = self._done(protocol.Call(name, arguments), self._abandoned)
        task = asyncio.create_task(done, name=f"{name} of {self._service}")
        self._calls.add(task)
        if repeatable:
            self._repeatable.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def abandon(self) -> None:
        """Kill the process if it works, and fail all calls that were made so far; returns when it is gone, and its
        commands are killed."""
        self._abandoned += 1
        calls = set(self._calls)
        if calls and self._process is not None:
            self._kill(self._process)
        if calls:
            await asyncio.wait(calls)

    async def hurry(self) -> None:
        """Fail all repeatable calls that were made so far, and kill the process if it is in one of them; returns when
        that one has ended. Other calls are left alone."""
        self._hurried |= self._repeatable
        working = self._working
        if working is None or working not in self._repeatable:
            return
        if self._process is not None:
            self._kill(self._process)
        await asyncio.wait([working])

    async def close(self) -> None:
        """End the process; calls that wait for it fail."""
        for task in self._calls:
            if not self._turn.locked():
                task.cancel()
        while self._calls:
            if self._process is not None:
                self._kill(self._process)
            for task in self._calls:
                task.cancel()
            await asyncio.wait(self._calls, timeout=END_TIMEOUT_S)
        if self._process is not None:
            self._kill(self._process)
            await self._buried(self._process)

    async def _done(self, call: protocol.Call, abandoned: int) -> Any:
        async with self._turn:
            self._working = asyncio.current_task()
            try:
                self._require_wanted(call, abandoned)
                process = await self._started()
                self._require_wanted(call, abandoned)
                return protocol.result(await self._asked(process, call))
            finally:
                self._working = None

    async def _asked(self, process: Process, call: protocol.Call) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(call.encode())
            await process.stdin.drain()
            line = await process.stdout.readline()
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        if not line.endswith(b"\n"):
            self._kill(process)
            raise await self._dead(process, call.name)
        return line

    def _ended(self, task: asyncio.Task[Any]) -> None:
        for among in (self._calls, self._repeatable, self._hurried):
            among.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may have given up: then nobody else asks for it

    def _require_wanted(self, call: protocol.Call, abandoned: int) -> None:
        if abandoned != self._abandoned:
            raise UnavailableError(
                f"the keeper of {self._service} was asked to {call.name}, and that was given up",
                "try again: something else could not wait for it",
            )
        if self._working in self._hurried:
            raise EndedError(
                f"the keeper of {self._service} was asked to {call.name}, and that was put off",
                "try again: something else could not wait for it",
            )

    async def _started(self) -> Process:
        known = self._process
        if known is not None and known.returncode is None and known is not self._killed:
            return known
        if known is not None:
            await self._buried(known)
        command = (sys.executable, "-m", "perdure.adapters.state.process", os.fspath(self._directory), self._service)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=protocol.LINE_BYTES_MAX, start_new_session=True
            )
        except OSError as error:
            raise UnavailableError(
                f"cannot start the keeper of {self._service}: {error.strerror}", "look at the limits on processes"
            ) from error
        self._process = process
        self._said = b""
        self._listening = asyncio.create_task(self._listen(process), name=f"what the keeper of {self._service} says")
        return process

    async def _listen(self, process: Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(ERROR_BYTES):
            self._said = (self._said + chunk)[-ERROR_BYTES:]

    async def _dead(self, process: Process, name: str) -> EndedError:
        code = await process.wait()
        await self._buried(process)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        lines = self._said.decode("utf-8", "replace").split("\n")
        said = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
        return EndedError(
            f"the keeper of {self._service} ended while it was asked to {name} ({how}){said}",
            "try again: it is started anew, and nothing half counts",
        )

    async def _buried(self, process: Process) -> None:
        """Wait for its end, and for the last that it said."""
        await process.wait()
        self._process = None
        if self._listening is not None:
            with suppress(asyncio.CancelledError):
                await self._listening
            self._listening = None
        if process.stdin is not None:
            process.stdin.close()

    def _kill(self, process: Process) -> None:
        self._killed = process  # it may answer once more, and is asked nothing any more
        # Not `process.kill`: asyncio's asks first whether it has ended, and so takes its exit code from who waits.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


class Shelves:
    """Implements `ports.keeper.Archive`. `key_file_of`: the key file of a service, empty for none."""

    def __init__(self, directory: Path, key_file_of: Callable[[str], str]) -> None:
        self._directory = directory.absolute()
        self._key_file_of = key_file_of
        self._workers: dict[str, Worker] = {}
        self._closed = False

    async def kept(self, service: str) -> Sequence[Kept]:
        return [codec.decode(Kept, one) for one in await self._on_vault("kept", service)]

    async def verify(self, service: str, snapshot: str) -> None:
        await self._on_vault("verify", service, snapshot=snapshot)

    async def note(self, service: str, snapshot: str, pin: Pin | None, proof: Proof | None) -> None:
        await self._on_vault("note", service, snapshot=snapshot, pin=codec.encode(pin), proof=codec.encode(proof))

    async def unpin(self, service: str, snapshot: str) -> None:
        await self._on_vault("unpin", service, snapshot=snapshot)

    async def mark(self, service: str, name: str, snapshot: str) -> None:
        await self._on_vault("mark", service, name=name, snapshot=snapshot)

    async def unmark(self, service: str, name: str) -> None:
        await self._on_vault("unmark", service, name=name)

    async def remove(self, service: str, snapshots: Sequence[str]) -> int:
        return int(await self._on_vault("remove", service, snapshots=list(snapshots)))

    async def transfer_out(self, service: str, snapshot: str, file: str) -> None:
        await self._on_vault("transfer_out", service, snapshot=snapshot, file=file)

    async def transfer_in(self, service: str, file: str) -> Manifest:
        return codec.decode(Manifest, await self._on_vault("transfer_in", service, file=file))

    async def abandon(self, service: str) -> None:
        worker = self._workers.get(service)
        if worker is not None:
            await worker.abandon()

    async def hurry(self, service: str) -> None:
        worker = self._workers.get(service)
        if worker is not None:
            await worker.hurry()

    async def close(self) -> None:
        self._closed = True
        for worker in self._workers.values():
            await worker.close()

    async def _on_vault(self, call: str, service: str, **arguments: Any) -> Any:
        return await self._call(call, service, {"key_file": self._key_file_of(service), **arguments})

    async def _call(self, name: str, service: str, arguments: dict[str, Any]) -> Any:
        if self._closed:
            raise UnavailableError("the keepers of state were ended", "start the daemon again: `perdure up`")
        worker = self._workers.setdefault(service, Worker(self._directory, service))
        return await worker.call(name, arguments, repeatable=name in REPEATABLE)


class Keepers(Shelves):
    """Implements `ports.keeper.Keeper`: what is kept is under `directory`, a directory for each service."""

    async def take(self, source: Source, epoch: int, data_epoch: int) -> Manifest:
        return codec.decode(Manifest, await self._on_slot("take", source, epoch=epoch, data_epoch=data_epoch))

    async def apply(self, source: Source, snapshot: str, running: bool) -> None:
        await self._on_slot("apply", source, snapshot=snapshot, running=running)

    async def applied(self, source: Source) -> Manifest | None:
        found = await self._on_slot("applied", source)
        return None if found is None else codec.decode(Manifest, found)

    async def restore(self, source: Source, snapshot: str, aside: str) -> Manifest:
        return codec.decode(Manifest, await self._on_slot("restore", source, snapshot=snapshot, aside=aside))

    async def prove(self, source: Source, snapshot: str) -> Proof:
        return codec.decode(Proof, await self._on_slot("prove", source, snapshot=snapshot))

    async def compare(self, source: Source, aside: str, taken_at: float) -> Loss:
        return codec.decode(Loss, await self._on_slot("compare", source, aside=aside, taken_at=taken_at))

    async def rescue(self, source: Source, aside: str, file: str) -> int:
        return int(await self._on_slot("rescue", source, aside=aside, file=file))

    async def reinsert(self, source: Source, file: str, tables: Sequence[str]) -> tuple[int, Sequence[str]]:
        count, conflicts = await self._on_slot("reinsert", source, file=file, tables=list(tables))
        return int(count), [str(sentence) for sentence in conflicts]

    async def switchable(self, source: Source, incoming: str, outgoing: str) -> None:
        await self._on_slot("switchable", source, incoming=incoming, outgoing=outgoing)

    async def switch(self, source: Source, incoming: str, outgoing: str) -> None:
        await self._on_slot("switch", source, incoming=incoming, outgoing=outgoing)

    async def tidy(self, source: Source, kept: Sequence[str]) -> None:
        await self._on_slot("tidy", source, kept=list(kept))

    async def recover(self, source: Source) -> bool | None:
        found = await self._on_slot("recover", source)
        return None if found is None else bool(found)

    async def _on_slot(self, call: str, source: Source, **arguments: Any) -> Any:
        return await self._call(call, source.service, {"source": codec.encode(source), **arguments})
