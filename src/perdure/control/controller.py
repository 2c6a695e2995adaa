"""The controller: carries out commands by writing what is wanted, durably, and nothing else.

`api` calls it; the agent follows the store. A command is acknowledged when it is on disk, so it survives the daemon.
Each command is one compare-and-swap on the service's document; a lost race is told to the user, not retried in silence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from perdure.control import persist
from perdure.model import codec
from perdure.model.errors import ConfigError, ConflictError, RefusedError
from perdure.model.event import Event, Severity
from perdure.model.owner import Handover
from perdure.model.replica import Slot
from perdure.model.rollback import Outcome, Rollback
from perdure.model.service import Deployment, Service
from perdure.model.standing import Desired
from perdure.ports.store import Document, Record, Store, Transaction

NEW_RELEASE_FIELDS = (
    "command",
    "environment",
    "directory",
    "user",
    "group",
    "port",
    "heartbeat",
)
"""A change of one of these needs new processes; everything else applies to the running ones."""


@dataclass(slots=True)
class Controller:
    """Writes `desired/*`; `wall` gives Unix time for the events."""

    store: Store
    wall: Callable[[], float]
    revision: int = 0
    """The store's revision after the last command."""

    async def apply(self, deployment: Deployment, starting: bool = False) -> list[str]:
        """Want what the file declares, and nothing else; returns a sentence for each service that changes.

        `starting`: a daemon applies the file that it found; how many replicas somebody scaled an unchanged service to
        was an acknowledged command, and stays.
        """
        known = (await self.store.read(persist.DESIRED)).records
        put: dict[str, Document] = {}
        sentences: list[str] = []
        for service in deployment.services:
            last = known.get(persist.release_key(service.name))
            record = known.get(persist.service_key(service.name))
            desired, sentence = _applied(service, record, int(last.value["number"]) if last else 0, starting)
            if sentence:
                put[persist.service_key(service.name)] = codec.encode(desired)
                sentences.append(sentence)
        declared = {persist.service_key(service.name) for service in deployment.services}
        delete = [key for key in known if key.startswith(persist.SERVICES) and key not in declared]
        for key in delete:
            name = key.removeprefix(persist.SERVICES)
            put[persist.release_key(name)] = {"number": _release_number(persist.read_desired(known[key].value))}
            sentences.append(f"{name} is no longer declared: it is drained and ended")
        expect = {key: _revision(known.get(key)) for key in [*put, *delete]}
        events = [self._event("C01", sentence.split()[0], sentence) for sentence in sentences]
        if sentences:
            self.revision = await self.store.commit(Transaction(expect, put, delete, events, durable=True))
        return sentences

    async def restart(self, target: str) -> list[str]:
        """Replace the replicas of a service, one after the other, or the one of a slot."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            newest = max([desired.generation, *(generation for _, generation in desired.slot_generations)]) + 1
            if number is None:
                return replace(desired, generation=newest, slot_generations=())
            others = tuple(pair for pair in desired.slot_generations if pair[0] != number)
            return replace(desired, slot_generations=(*others, (number, newest)))

        what = f"{target} is restarted" + (", one replica after the other" if number is None else "")
        return await self._change("C02", service, number, change, what)

    async def drain(self, target: str) -> list[str]:
        """Take a slot, or all slots of a service, out of traffic until they are undrained."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            chosen = range(1, desired.replicas + 1) if number is None else [number]
            return replace(desired, drained=tuple(sorted({*desired.drained, *chosen})))

        return await self._change("C03", service, number, change, f"{target} is drained")

    async def undrain(self, target: str) -> list[str]:
        """Give a slot, or all slots of a service, traffic again."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            kept = () if number is None else tuple(slot for slot in desired.drained if slot != number)
            return replace(desired, drained=kept)

        return await self._change("C04", service, number, change, f"{target} gets traffic again")

    async def scale(self, service: str, replicas: int) -> list[str]:
        """Want another number of replicas, until the file is applied again."""
        if not 1 <= replicas <= 1000:
            raise ConfigError(
                f"a service has 1 to 1000 replicas, not {replicas}", "to end a service, remove it from the file"
            )

        def change(desired: Desired) -> Desired:
            if desired.service.port is not None and replicas > 1:
                raise RefusedError(
                    f"{service} has the fixed port {desired.service.port}, so it can have only one replica",
                    "let the program take its port from $PORT, and remove `port` from the file",
                )
            return replace(desired, replicas=replicas, drained=tuple(n for n in desired.drained if n <= replicas))

        return await self._change("C05", service, None, change, f"{service} is scaled to {replicas}")

    async def promote(self, target: str, accept_loss: bool = False) -> list[str]:
        """Want another slot of an active-passive service to be active: a named one, or whichever is best."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            if not desired.service.one_active:
                raise RefusedError(
                    f"{service} is active-active: all its replicas get requests",
                    'only services with mode = "active-passive" have an active replica',
                )
            if desired.replicas < 2:
                raise RefusedError(f"{service} has one slot only: nobody stands by", f"perdure scale {service}=2")
            if number in desired.drained:
                raise RefusedError(f"{target} is drained: it gets no traffic", f"perdure undrain {target}")
            last = desired.handover.number if desired.handover is not None else 0
            return replace(desired, handover=Handover(last + 1, number, accept_loss))

        what = f"{target} is to be active" if number is not None else f"another slot of {service} is to be active"
        return await self._change("C07", service, number, change, what)

    async def roll_back(self, service: str, rollback: Rollback) -> list[str]:
        """Want older data for a service, as planned; ConflictError when another rollback was asked for meanwhile."""

        def change(desired: Desired) -> Desired:
            _follows(desired, rollback)
            return replace(desired, rollback=rollback, earlier=_remembered(desired, rollback, self.wall()))

        return await self._change("C08", service, None, change, f"{service} goes back to {rollback.target}")

    async def conclude(self, service: str, rollback: Rollback, sentence: str) -> None:
        """Write down what became of a rollback."""

        def change(desired: Desired) -> Desired:
            if desired.rollback is None or desired.rollback.number != rollback.number:
                raise ConflictError(f"{rollback.name} of {service} is not the last rollback any more", "perdure status")
            return replace(desired, rollback=rollback)

        await self._change("D18", service, None, change, sentence)

    async def stop_all(self) -> list[str]:
        """Want nothing to run; the next `apply` wants it again."""
        snapshot = await self.store.read(persist.SERVICES)
        put = {
            key: codec.encode(replace(persist.read_desired(record.value), stopped=True))
            for key, record in snapshot.records.items()
        }
        expect = {key: record.revision for key, record in snapshot.records.items()}
        events = [self._event("C06", "daemon", "everything is ended by command")]
        self.revision = await self.store.commit(Transaction(expect, put, events=events, durable=True))
        return ["everything is ended: " + ", ".join(key.removeprefix(persist.SERVICES) for key in sorted(put))]

    async def _change(
        self, rule: str, service: str, number: int | None, change: Callable[[Desired], Desired], sentence: str
    ) -> list[str]:
        key = persist.service_key(service)
        snapshot = await self.store.read(key)
        record = snapshot.records.get(key)
        if record is None:
            names = sorted(
                name.removeprefix(persist.SERVICES) for name in (await self.store.read(persist.SERVICES)).records
            )
            known = ", ".join(names) or "none"
            raise ConfigError(f"there is no service {service!r} (there are: {known})", "perdure status")
        desired = persist.read_desired(record.value)
        if number is not None and number > desired.replicas:
            slots = f"{service}/1 to {service}/{desired.replicas}"
            raise ConfigError(f"there is no slot {service}/{number} (there are {slots})", "perdure status")
        document = codec.encode(change(desired))
        subject = service if number is None else f"{service}/{number}"
        events = [self._event(rule, subject, sentence)]
        self.revision = await self.store.commit(
            Transaction({key: record.revision}, {key: document}, events=events, durable=True)
        )
        return [sentence]

    def _event(self, rule: str, subject: str, sentence: str) -> Event:
        return Event(rule, subject, sentence, severity=Severity.INFO, wall_at=self.wall())


def _applied(service: Service, record: Record | None, last_release: int, starting: bool) -> tuple[Desired, str]:
    """What is wanted after applying a declared service, and a sentence if that is a change.

    `last_release` is the number of its last release when it was declared before, or 0: its replicas may still be
    finishing, and a name must not mean two things.
    """
    if record is None:
        release = f"{service.name}@{last_release + 1}"
        return Desired(service, release, service.replicas), f"{service.name} is new: it is started"
    before = persist.read_desired(record.value)
    last = before.rollback
    if last is not None and last.outcome is Outcome.OPEN and before.service.state != service.state and not starting:
        sentence = f"{last.name} of {service.name} is being carried out, so its [state] cannot be changed now"
        raise ConflictError(sentence, f"wait for it: perdure status {service.name}; then: perdure reload")
    scaled = before.replicas != service.replicas
    if before.service == service and not before.stopped and (starting or not scaled):
        return before, ""
    release, sentence = before.release, f"{service.name} is changed without touching its replicas"
    if any(getattr(before.service, name) != getattr(service, name) for name in NEW_RELEASE_FIELDS) or (
        before.service.limits.open_files != service.limits.open_files
    ):
        release = f"{service.name}@{_release_number(before) + 1}"
        sentence = f"{service.name} is replaced by {release}, one replica after the other"
    elif before.stopped:
        sentence = f"{service.name} is started"
    elif scaled:
        sentence = f"{service.name} is scaled from {before.replicas} to {service.replicas}"
    drained = tuple(number for number in before.drained if number <= service.replicas)
    after = replace(before, service=service, release=release, replicas=service.replicas, drained=drained, stopped=False)
    return after, sentence


def _follows(desired: Desired, rollback: Rollback) -> None:
    last = desired.rollback
    if last is not None and rollback.number <= last.number:
        raise ConflictError("another rollback was asked for meanwhile", "look at it: perdure status; then plan anew")


def _remembered(desired: Desired, rollback: Rollback, wall: float) -> tuple[Rollback, ...]:
    """The rollbacks before this one of which something is kept; one that it takes back was on trial until now."""
    kept = [one for one in desired.rollbacks if one.outcome is not Outcome.FAILED and wall < one.undo_until]
    return tuple(
        replace(one, outcome=Outcome.TAKEN_BACK) if one.outcome is Outcome.OPEN and not rollback.trial else one
        for one in kept
    )


def _release_number(desired: Desired) -> int:
    return int(desired.release.rpartition("@")[2])


def _target(target: str) -> tuple[str, int | None]:
    """`web` or `web/2` as a service and perhaps a slot's number."""
    if "/" not in target:
        return target, None
    try:
        slot = Slot.parse(target)
    except ValueError:
        raise ConfigError(f"{target!r} is neither a service nor a slot", "write web, or web/2") from None
    return slot.service, slot.number


def _revision(record: Record | None) -> int:
    return record.revision if record is not None else 0
