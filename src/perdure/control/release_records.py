"""The records of releases: made once, with the files that belong to them, and never changed but for their verdict.

`controller` and `releasing` make them, `rollouts` enters why one was rolled back. A record is written in the same
transaction as what is wanted of its service, so nothing can be wanted that nobody knows, and after its files.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perdure.control import persist
from perdure.model import codec
from perdure.model.bundle import Entry
from perdure.model.errors import ConfigError, ConflictError
from perdure.model.release import Release
from perdure.model.service import Service
from perdure.model.standing import Desired
from perdure.ports.bundle import Account, Bundles
from perdure.ports.store import Document, Store, Transaction
from perdure.recover import difference

FIELDS = ("command", "environment", "directory", "files", "user", "group", "port", "heartbeat")
"""What a release consists of besides `limits.open_files`: a change of one of these needs new processes."""
TOLD_BY = ("checks", "role", "digest", "canary")
"""How one tells whether a program is well, and talks to it: an earlier one may know nothing of it."""
WORDS = {"environment": "env"}


@dataclass(slots=True)
class Records:
    """The releases of all services. `wall` gives Unix time, `account` whom a service runs as (None: as the daemon)."""

    store: Store
    bundles: Bundles
    wall: Callable[[], float]
    account: Callable[[Service], Account | None]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from when a release is laid out until its record is written, and while releases are dropped."""

    async def make(self, declared: Service, number: int) -> Release:
        """A new release of what the file declares now, ready to run."""
        return await self.laid_out(await self.draft(declared, number))

    async def draft(self, declared: Service, number: int, message: str = "") -> Release:
        """What would be a new release: its files are copied, and nothing can run in it yet."""
        digest = await self.bundles.pack(declared.files) if declared.files is not None else ""
        content = difference.content_digest(declared, digest)
        return Release(f"{declared.name}@{number}", declared, self.wall(), message, digest, content)

    async def laid_out(self, release: Release) -> Release:
        """The same with a directory of its own, when it has files."""
        service = release.service
        if not release.files:
            return release
        order = (release.files, service.name, release.number, self.account(service))
        try:
            directory = await self.bundles.lay_out(*order)
        except ConflictError:
            # A daemon that died before it wrote the record has left it: nothing can run in what nobody knows.
            known = await self.of(service.name)
            await self.bundles.retain(service.name, [one.number for one in known.values()])
            directory = await self.bundles.lay_out(*order)
        return replace(release, service=replace(service, directory=directory))

    async def of(self, service: str) -> dict[str, Release]:
        """All releases of a service that are kept, the oldest first, by name."""
        found = (await self.store.read(persist.records_of(service))).records.values()
        releases = [codec.decode(Release, one.value) for one in found]
        return {one.name: one for one in sorted(releases, key=lambda one: one.number)}

    async def listing(self, release: Release) -> Sequence[Entry]:
        """The files of a release; none of one that has none of its own."""
        return await self.bundles.listing(release.files) if release.files else ()

    async def tidy(self, service: str, running: Collection[str], keep: int) -> None:
        """Forget releases, and their files, but for those that run, that are wanted or may be gone back to by now, and
        the newest `keep` that were never thrown out.
        """
        key = persist.service_key(service)
        async with self.turn:
            wanted = (await self.store.read(key)).records.get(key)
            if wanted is None:
                return
            desired, known = persist.read_desired(wanted.value), await self.of(service)
            rollout = desired.rollout
            arms = (rollout.old.release, rollout.new.release) if rollout is not None else ()
            good = [name for name, release in known.items() if not release.verdict]
            stays = {*good[-max(1, keep) :], *running, *arms, desired.release}
            dropped = [release for name, release in known.items() if name not in stays]
            await self._drop(service, dropped, [known[name] for name in known if name in stays])

    async def forget(self, service: str) -> None:
        """Forget all releases of a service that is not wanted any more, unless it is wanted again by now."""
        async with self.turn:
            key = persist.service_key(service)
            if key not in (await self.store.read(key)).records:
                await self._drop(service, list((await self.of(service)).values()), [])

    async def _drop(self, service: str, dropped: Sequence[Release], kept: Sequence[Release]) -> None:
        """Forget some, and the files that none of those that are `kept` needs."""
        if dropped:
            keys = [document(release)[0] for release in dropped]
            await self.store.commit(Transaction(delete=keys))
        await self.bundles.retain(service, [release.number for release in kept])

    async def named(self, service: str, name: str) -> Release:
        """One release; ConfigError with those that there are."""
        found = await self.of(service)
        wanted = name if "@" in name else f"{service}@{name}"
        if wanted not in found:
            sentence = f"there is no release {wanted!r} (there are: {', '.join(found) or 'none'})"
            raise ConfigError(sentence, f"perdure releases {service}")
        return found[wanted]


def document(release: Release) -> tuple[str, Document]:
    """A release as a key and its document."""
    service = release.name.rpartition("@")[0]
    return persist.record_key(service, release.number), codec.encode(release)


def declared(service: Service) -> Service:
    """What the file said of a service that runs: the directory is that of its sources."""
    return replace(service, directory=service.files.source) if service.files is not None else service


def differences(running: Service, wanted: Service) -> list[str]:
    """In which of these a declaration differs from what runs, as far as the file tells; in the words of the file."""
    before = declared(running)
    found = [WORDS.get(name, name) for name in FIELDS if getattr(before, name) != getattr(wanted, name)]
    return found + ["limits.open_files"] * (before.limits.open_files != wanted.limits.open_files)


def same(running: Service, wanted: Service) -> bool:
    """Whether a declaration is what runs already, as far as the file tells."""
    return not differences(running, wanted)


def kept(running: Service, wanted: Service) -> Service:
    """A new declaration, but for what a release consists of: that stays as it runs."""
    parts: Mapping[str, object] = {name: getattr(running, name) for name in FIELDS}
    limits = replace(wanted.limits, open_files=running.limits.open_files)
    return replace(wanted, limits=limits, **parts)  # type: ignore[arg-type]


def assumed(desired: Desired) -> Release:
    """The record of what runs, for a store that was written before there were records."""
    return Release(desired.release, desired.service, 0.0)
