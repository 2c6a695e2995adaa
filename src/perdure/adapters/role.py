"""Tells warm replicas that they are active: by the role file of the slot, a signal, a command, or a request.

Each slot has a directory of its own, `slots/SERVICE/NUMBER`, with the role file and, below it, the replica's own state
(`$PERDURE_STATE`); it belongs to whom the service runs as. The file is replaced as a whole, so whoever reads it sees
the old role or the new one. `control.own` calls it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from perdure.adapters.prober.command import Commands
from perdure.adapters.runner import environment
from perdure.model.check import Check, CheckKind
from perdure.model.errors import ConfigError, UnavailableError
from perdure.model.evidence import Outcome
from perdure.model.replica import Slot
from perdure.model.service import Role, Service
from perdure.ports.prober import Target
from perdure.ports.role import Duty, Listener
from perdure.ports.runner import Runner

FILE = "role.json"
STATE = "state"
HINT = "see what the service wrote: `perdure logs`"


@dataclass(slots=True)
class RoleFiles:
    """Implements `ports.role.Roles`; `directory` holds the slots' directories."""

    directory: Path
    runner: Runner

    def prepare(self, service: Service, slot: str) -> str:
        """See the port."""
        try:
            return str(self._prepared(service, slot))
        except OSError as error:
            sentence = f"there can be no directory for {slot}: {error.strerror} ({self._slot(slot)})"
            raise UnavailableError(sentence, "make room, or let Perdure's user write there") from error

    def write(self, duty: Duty) -> None:
        """See the port."""
        where = self._slot(duty.slot)
        document = {"role": duty.role, "epoch": duty.epoch, "service": duty.service.name, "slot": duty.slot}
        try:
            self._prepared(duty.service, duty.slot)
            aside = where / f".{FILE}.new"
            aside.write_text(json.dumps(document) + "\n")
            aside.chmod(0o644)
            aside.replace(where / FILE)
        except OSError as error:
            sentence = f"the role of {duty.slot} cannot be written: {error.strerror} ({where})"
            raise UnavailableError(sentence, "make room, or let Perdure's user write there") from error

    async def tell(self, duty: Duty, listener: Listener) -> None:
        """See the port."""
        self.write(duty)
        role = duty.service.role
        if role is None:
            return
        if role.signal is not None:
            self.runner.signal(listener.process, role.signal)
        if role.command:
            await self._run(role, duty, listener)
        if role.http is not None:
            await _post(role, duty, listener)

    def variables(self, service: str, slot: str) -> tuple[tuple[str, str], ...]:
        """See the port."""
        where = self._slot(slot)
        return (("PERDURE_ROLE_FILE", str(where / FILE)), ("PERDURE_STATE", str(where / STATE)))

    def _slot(self, slot: str) -> Path:
        parsed = Slot.parse(slot)
        return self.directory / parsed.service / str(parsed.number)

    def _prepared(self, service: Service, slot: str) -> Path:
        """Make the slot's directories; others may pass through them, and read nothing but the role."""
        where = self._slot(slot)
        for one in (self.directory, where.parent, where):
            one.mkdir(mode=0o711, exist_ok=True)
            one.chmod(0o711)
        state = where / STATE
        if state.exists():
            return state
        state.mkdir(mode=0o700)
        try:
            identity = environment.resolve(service.user, service.group)
        except ConfigError as error:
            raise UnavailableError(error.sentence, error.hint) from error
        if identity is not None:
            self.directory.parent.chmod(0o751)  # its own user may pass through, and no more
            os.chown(state, identity.uid, identity.gid)
        return state

    async def _run(self, role: Role, duty: Duty, listener: Listener) -> None:
        commands, service = Commands(), duty.service
        told = {**dict(listener.environment), "PERDURE_ROLE": duty.role, "PERDURE_EPOCH": str(duty.epoch)}
        target = Target(listener.port, tuple(told.items()), service.directory, service.user, service.group)
        try:
            answer = await commands.probe(Check(CheckKind.COMMAND, command=role.command), target, role.timeout_s)
        finally:
            await commands.close()
        if answer.outcome is not Outcome.GOOD:
            raise UnavailableError(f"{duty.slot} did not take its role: {role.command[0]}: {answer.excerpt}", HINT)


async def _post(role: Role, duty: Duty, listener: Listener) -> None:
    url = f"http://127.0.0.1:{listener.port}{role.http}"
    timeout = aiohttp.ClientTimeout(total=role.timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.post(url, json={"role": duty.role, "epoch": duty.epoch}, allow_redirects=False) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or f"no answer within {role.timeout_s:g} s"
        raise UnavailableError(f"{duty.slot} did not take its role: POST {role.http}: {why}", HINT) from error
    if not 200 <= status < 300:
        raise UnavailableError(f"{duty.slot} did not take its role: POST {role.http}: HTTP {status}", HINT)
