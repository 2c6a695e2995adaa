"""The controller: carries out commands by writing what is wanted, durably, and nothing else.

`api` calls it; the agent follows the store. A command is acknowledged when it is on disk, so it survives the daemon.
Each command is one compare-and-swap on the service's document; a lost race is told to the user, not retried in silence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from perdure.control import applying, persist, release_records
from perdure.control.release_records import Records
from perdure.model import codec
from perdure.model.errors import ConfigError, RefusedError
from perdure.model.event import Event, Severity
from perdure.model.owner import Handover
from perdure.model.release import number_of
from perdure.model.replica import Slot
from perdure.model.service import Deployment
from perdure.model.standing import Desired
from perdure.ports.store import Document, Record, Store, Transaction


@dataclass(slots=True)
class Controller:
    """Writes `desired/*`; `wall` gives Unix time for the events."""

    store: Store
    wall: Callable[[], float]
    records: Records
    revision: int = 0
    """The store's revision after the last command."""

    async def apply(self, deployment: Deployment, starting: bool = False) -> list[str]:
        """Want what the file declares, and nothing else; returns a sentence for each service that changes.

        What would be another release of a service that runs is refused: `releasing` lets it in. `starting`: a daemon
        applies the file that it found; then such a service goes on with the release that it has, and how many replicas
        somebody scaled an unchanged service to was an acknowledged command, and stays.
        """
        async with self.records.turn:
            return await self._apply(deployment, starting)

    async def _apply(self, deployment: Deployment, starting: bool) -> list[str]:
        known = (await self.store.read(persist.DESIRED)).records
        if not starting:
            applying.refuse(known, deployment)
        put: dict[str, Document] = {}
        sentences: list[str] = []
        more: list[tuple[str, str]] = []
        for service in deployment.services:
            last = known.get(persist.release_key(service.name))
            record = known.get(persist.service_key(service.name))
            numbers = [one.number for one in (await self.records.of(service.name)).values()]
            highest = max([int(last.value["number"]) if last else 0, *numbers])
            desired, sentence = applying.applied(service, record, highest)
            if record is None or desired.release != persist.read_desired(record.value).release:
                release = await self.records.make(service, number_of(desired.release))
                desired = replace(desired, service=release.service)
                put |= dict([release_records.document(release)])
            elif starting:
                desired, sentence = applying.resumed(desired, persist.read_desired(record.value), service, sentence)
            if starting and record is not None:
                more.append(applying.declares_more(desired, service))
            if sentence:
                put[persist.service_key(service.name)] = codec.encode(desired)
                sentences.append(sentence)
        declared = {persist.service_key(service.name) for service in deployment.services}
        delete = [key for key in known if key.startswith(persist.SERVICES) and key not in declared]
        for key in delete:
            name = key.removeprefix(persist.SERVICES)
            put[persist.release_key(name)] = {
                "number": applying.next_release(persist.read_desired(known[key].value)) - 1
            }
            sentences.append(f"{name} is no longer declared: it is drained and ended")
        expect = {key: _revision(known.get(key)) for key in [*put, *delete] if not key.startswith(persist.RECORDS)}
        events = [self.event("C01", sentence.split()[0], sentence) for sentence in sentences]
        untold = [(name, sentence) for name, sentence in more if sentence]
        events += [self.event("C15", name, sentence, Severity.WARNING) for name, sentence in untold]
        if events:
            self.revision = await self.store.commit(Transaction(expect, put, delete, events, durable=True))
        return [*sentences, *(sentence for _, sentence in untold)]

    async def read(self, service: str) -> Desired:
        """What is wanted of a service now; ConfigError when there is none of that name."""
        return persist.read_desired((await self.record(service)).value)

    async def restart(self, target: str) -> list[str]:
        """Replace the replicas of a service, one after the other, or the one of a slot."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            applying.settled(desired, service)
            newest = max([desired.generation, *(generation for _, generation in desired.slot_generations)]) + 1
            if number is None:
                return replace(desired, generation=newest, slot_generations=())
            others = tuple(pair for pair in desired.slot_generations if pair[0] != number)
            return replace(desired, slot_generations=(*others, (number, newest)))

        what = f"{target} is restarted" + (", one replica after the other" if number is None else "")
        return await self.change("C02", service, number, change, what)

    async def drain(self, target: str) -> list[str]:
        """Take a slot, or all slots of a service, out of traffic until they are undrained."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            chosen = desired.slots if number is None else [number]
            return replace(desired, drained=tuple(sorted({*desired.drained, *chosen})))

        return await self.change("C03", service, number, change, f"{target} is drained")

    async def undrain(self, target: str) -> list[str]:
        """Give a slot, or all slots of a service, traffic again."""
        service, number = _target(target)

        def change(desired: Desired) -> Desired:
            kept = () if number is None else tuple(slot for slot in desired.drained if slot != number)
            return replace(desired, drained=kept)

        return await self.change("C04", service, number, change, f"{target} gets traffic again")

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
            applying.settled(desired, service)
            return applying.scaled(desired, replicas)

        return await self.change("C05", service, None, change, f"{service} is scaled to {replicas}")

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
        return await self.change("C07", service, number, change, what)

    async def stop_all(self) -> list[str]:
        """Want nothing to run; the next `apply` wants it again."""
        snapshot = await self.store.read(persist.SERVICES)
        put = {
            key: codec.encode(replace(persist.read_desired(record.value), stopped=True))
            for key, record in snapshot.records.items()
        }
        expect = {key: record.revision for key, record in snapshot.records.items()}
        events = [self.event("C06", "daemon", "everything is ended by command")]
        self.revision = await self.store.commit(Transaction(expect, put, events=events, durable=True))
        return ["everything is ended: " + ", ".join(key.removeprefix(persist.SERVICES) for key in sorted(put))]

    async def change(
        self, rule: str, service: str, number: int | None, change: Callable[[Desired], Desired], sentence: str
    ) -> list[str]:
        """Write what `change` makes of what is wanted of a service, with an event; `number` names a slot of it."""
        record = await self.record(service)
        desired = persist.read_desired(record.value)
        if number is not None and number not in desired.slots:
            slots = ", ".join(f"{service}/{one}" for one in desired.slots) or "none"
            raise ConfigError(f"there is no slot {service}/{number} (there are {slots})", "perdure status")
        subject = service if number is None else f"{service}/{number}"
        await self.write(record, change(desired), self.event(rule, subject, sentence))
        return [sentence]

    async def write(
        self, before: Record, desired: Desired, event: Event, more: Mapping[str, Document] | None = None
    ) -> None:
        """Replace what is wanted of a service, if it is still what it was `before`; `more` documents go with it."""
        key = persist.service_key(desired.service.name)
        put = {key: codec.encode(desired), **(more or {})}
        self.revision = await self.store.commit(Transaction({key: before.revision}, put, events=[event], durable=True))

    def event(self, rule: str, subject: str, sentence: str, severity: Severity = Severity.INFO) -> Event:
        """An event that happens now."""
        return Event(rule, subject, sentence, severity=severity, wall_at=self.wall())

    async def record(self, service: str) -> Record:
        """The document of what is wanted of a service; ConfigError when there is none of that name."""
        key = persist.service_key(service)
        record = (await self.store.read(key)).records.get(key)
        if record is None:
            names = (await self.store.read(persist.SERVICES)).records
            known = ", ".join(sorted(name.removeprefix(persist.SERVICES) for name in names)) or "none"
            raise ConfigError(f"there is no service {service!r} (there are: {known})", "perdure status")
        return record


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
