"""Commands about releases: deploy, roll back, abort, stop waiting, acknowledge. They write what is wanted, durably.

A deploy makes the releases first (files copied and laid out), then writes the rollouts of all its services in one
transaction; `rollouts` carries them out from there, whoever dies. A rollback never waits for steps: what is on trial
loses its traffic in the write that acknowledges the command.
Neighbours: `controller` for all other commands, `release_records` for the records, `recover.roll_out` for the plan.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from perdure.control import persist, release_records
from perdure.control.applying import next_release, same_mode
from perdure.control.controller import Controller
from perdure.control.release_records import Records
from perdure.model import codec
from perdure.model.deploy import Step, Strategy
from perdure.model.errors import ConfigError, ConflictError, RefusedError
from perdure.model.release import ENDED, Arm, Phase, Release, Rollout
from perdure.model.rollback import Outcome
from perdure.model.service import Service
from perdure.model.standing import Desired
from perdure.ports.clock import Clock
from perdure.ports.store import Document, Record, Transaction
from perdure.recover import roll_back, roll_out, rollout_facts


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a deploy may be told on the command line."""

    strategy: Strategy | None = None
    """None: as declared."""
    message: str = ""
    observe: bool = False
    force: bool = False
    """Also what was rolled back before, and what runs already."""


@dataclass(slots=True)
class Releasing:
    """Carries out the commands about releases; `clock` stamps what is written."""

    controller: Controller
    records: Records
    clock: Clock
    owner: Callable[[str], int | None]
    """Which slot of an active-passive service is active; None: none is."""
    serves: Callable[[str, str], bool]
    """Whether a replica of this service and this release serves."""

    async def deploy(self, declared: Mapping[str, Service], names: Sequence[str], wishes: Wishes) -> list[str]:
        """Begin to let in what the file declares, of these services (none named: of all that differ)."""
        async with self.records.turn:
            return await self._deploy(declared, names, wishes)

    async def _deploy(self, declared: Mapping[str, Service], names: Sequence[str], wishes: Wishes) -> list[str]:
        known = (await self.records.store.read(persist.SERVICES)).records
        put: dict[str, Document] = {}
        expect: dict[str, int] = {}
        begun: list[Rollout] = []
        sentences: dict[str, str] = {}
        for name in dict.fromkeys(names) or sorted(declared):
            record, service = _both(known, declared, name)
            desired = persist.read_desired(record.value)
            before = await self.records.of(name)
            if not (names or wishes.force or await self._differs(desired, service)):
                continue
            _may(desired, wishes)
            same_mode(desired, service)
            draft = await self.records.draft(service, _next(desired, before), wishes.message)
            _refuse_again(before.get(desired.release), draft, before.values(), wishes)
            release = await self.records.laid_out(draft)
            rollout = self._rollout(desired, release, wishes)
            after = roll_out.settled(replace(desired, rollout=rollout), rollout)
            put |= {persist.service_key(name): codec.encode(after)} | dict([release_records.document(release)])
            if desired.release not in before:
                put |= dict([release_records.document(release_records.assumed(desired))])
            expect[persist.service_key(name)] = record.revision
            begun.append(rollout)
            sentence = f"{release.name} is deployed ({rollout.strategy}), after {rollout.old.release}"
            sentences[name] = sentence + _again(desired, release, before)
        if not begun:
            raise RefusedError("nothing differs from what runs", "change the file, or: perdure deploy NAME --force")
        group = tuple(sorted(one.new.service.name for one in begun)) if len(begun) > 1 else ()
        for one in begun:
            key = persist.service_key(one.new.service.name)
            put[key] = codec.encode(replace(persist.read_desired(put[key]), rollout=replace(one, group=group)))
        events = [self.controller.event("C10", name, sentence) for name, sentence in sentences.items()]
        self.controller.revision = await self.records.store.commit(
            Transaction(expect, put, events=events, durable=True)
        )
        return [*sentences.values()]

    async def roll_back(self, service: str, name: str | None = None, *, force: bool = False) -> list[str]:
        """Go back to an earlier release at once: without steps, tests or waiting; by `force` also to one that was
        thrown out.
        """
        async with self.records.turn:  # or what is chosen could be dropped before it is written that it is wanted
            return await self._roll_back(service, name, force)

    async def _roll_back(self, service: str, name: str | None, force: bool) -> list[str]:
        desired = await self.controller.read(service)
        rollout = desired.rollout
        if rollout is not None and name is None:
            _not_again(desired, rollout)
        if rollout is not None and rollout.undecided and name in (None, rollout.old.release):
            return await self.abort(service)
        releases = await self.records.of(service)
        target = await self.records.named(service, name) if name else _before(desired, releases)
        if rollout is not None and rollout.undecided:
            raise ConflictError(_under_way(rollout), f"perdure abort {service}")
        if target.name == desired.release:
            raise RefusedError(f"{target.name} is what runs", f"perdure releases {service}")
        if name and target.verdict and not force:
            sentence = f"{target.name} was rolled back itself: {target.verdict}"
            raise RefusedError(sentence, f"perdure rollback {service} {target.name} --force")
        warm = desired.other
        if rollout is not None and warm is not None and warm.release == target.name and not rollout.in_place:
            why = f"{rollout.new.release} is taken back by command"
            return await self._take_back(service, rollout, why)

        def change(before: Desired) -> Desired:
            _may(before, Wishes(force=True))
            begun = self._rollout(before, target, Wishes(), back=True)
            return replace(before, rollout=begun)

        return await self.controller.change("C11", service, None, change, f"{service} goes back to {target.name}")

    async def abort(self, service: str) -> list[str]:
        """End a rollout that is on trial: the release before keeps everything."""
        rollout = (await self.controller.read(service)).rollout
        if rollout is None or not rollout.undecided:
            sentence = f"nothing of {service} is on trial"
            raise RefusedError(sentence, f"to go back to the release before: perdure rollback {service}")
        return await self._take_back(service, rollout, "somebody aborted it")

    async def promote(self, service: str) -> list[str]:
        """Wait no more: each step of the rollout goes on as soon as its replicas serve and its tests have passed."""

        def change(desired: Desired) -> Desired:
            if desired.rollout is None or not desired.rollout.under_way:
                raise RefusedError(f"nothing of {service} is on trial", f"perdure releases {service}")
            return replace(desired, rollout=replace(desired.rollout, skip=True))

        return await self.controller.change("C13", service, None, change, f"the rollout of {service} waits no more")

    async def acknowledge(self, service: str) -> list[str]:
        """Somebody has seen that a release was rolled back: it is shown in red no more."""

        def change(desired: Desired) -> Desired:
            if desired.rollout is None or not desired.rollout.failed:
                raise RefusedError(f"nothing of {service} was rolled back", f"perdure releases {service}")
            return replace(desired, rollout=replace(desired.rollout, acknowledged=True))

        return await self.controller.change("C14", service, None, change, f"the rollback of {service} is acknowledged")

    async def _take_back(self, service: str, expected: Rollout, why: str) -> list[str]:
        def change(desired: Desired) -> Desired:
            rollout = desired.rollout
            if rollout is None or rollout.number != expected.number or rollout.phase in {*ENDED, Phase.GOING_BACK}:
                sentence = f"{expected.new.release} of {service} has gone back, or is done, meanwhile"
                raise ConflictError(sentence, f"perdure deploy --status {service}")
            wished = replace(rollout, aborted=rollout.undecided, acknowledged=True)
            gone = roll_back.taken_back(wished, why, self.clock.now(), free_slots(desired))
            return roll_out.settled(desired, gone)

        sentence = f"{expected.new.release} goes back to {expected.old.release}: {why}"
        return await self.controller.change("C12", service, None, change, sentence)

    async def _differs(self, desired: Desired, service: Service) -> bool:
        """Whether the file declares another release than what runs, or the files that it was made of have changed."""
        if not release_records.same(desired.service, service):
            return True
        if service.files is None:
            return False
        record = (await self.records.of(service.name)).get(desired.release)
        return record is None or await self.records.bundles.pack(service.files) != record.files

    def _rollout(self, desired: Desired, release: Release, wishes: Wishes, *, back: bool = False) -> Rollout:
        service = _brought_back(desired.service, release.service) if back else release.service
        strategy = Strategy.BLUE_GREEN if back else wishes.strategy or service.deploy.strategy
        if not rollout_facts.beside(service):
            if wishes.strategy not in (None, Strategy.ROLLING):
                sentence = (
                    f"{service.name} cannot run two releases side by side: {rollout_facts.why_not_beside(service)}"
                )
                raise RefusedError(sentence, f"perdure deploy {service.name} --strategy rolling")
            strategy = Strategy.ROLLING
        replicas = desired.replicas if back else _replicas(desired, service, strategy)
        now = self.clock.now()
        rollout = Rollout(
            number=(desired.rollout.number if desired.rollout is not None else 0) + 1,
            old=self._old_arm(desired),
            new=Arm(release.name, service),
            strategy=strategy,
            steps=(Step(1.0, 0.0),)
            if back and strategy is Strategy.BLUE_GREEN
            else roll_out.plan(service.deploy, strategy, replicas, one_active=service.one_active),
            replicas=replicas,
            phase_at=now,
            progress_at=now,
            began_wall=self.controller.wall(),
            observe=wishes.observe,
            message=release.message,
            back=back,
        )
        if service.one_active:
            return replace(rollout, new=replace(rollout.new, slots=self._successors(desired)))
        count = roll_out.needed(rollout, -1, replicas)
        slots = rollout.old.slots if rollout.in_place else free_slots(desired)
        return replace(rollout, new=replace(rollout.new, slots=slots[:count]))

    def _old_arm(self, desired: Desired) -> Arm:
        """After which release it is let in: what counts, or what was thrown out and is all that clients have."""
        last, name = desired.rollout, desired.service.name
        going = last if last is not None and last.phase is Phase.GOING_BACK and last.new.slots else None
        if going and self.serves(name, going.new.release) and not self.serves(name, going.old.release):
            return going.new
        return Arm(desired.release, desired.service, desired.numbers)

    def _successors(self, desired: Desired) -> tuple[int, ...]:
        """Slots of an active-passive service in which the new release stands by: all but the active one's."""
        owner, name = self.owner(desired.service.name), desired.service.name
        if owner is None:
            raise RefusedError(f"no replica of {name} is active", f"perdure explain {name}")
        others = tuple(number for number in desired.numbers if number not in (owner, *desired.drained))
        return others or (owner,)


def free_slots(desired: Desired) -> tuple[int, ...]:
    """Slots that no release has, the lowest first; enough for all that may come."""
    taken = {*desired.numbers, *desired.slots}
    return tuple(number for number in range(1, 2 * len(taken) + 2 * desired.replicas + 2) if number not in taken)


def _both(known: Mapping[str, Record], declared: Mapping[str, Service], name: str) -> tuple[Record, Service]:
    if name not in declared:
        sentence = f"the file declares no service {name!r} (it declares: {', '.join(sorted(declared))})"
        raise ConfigError(sentence, "name one of them; without a name, all that differ are deployed")
    record = known.get(persist.service_key(name))
    if record is None:
        raise ConfigError(f"{name} does not run yet: there is nothing to replace", "perdure reload")
    return record, declared[name]


def _may(desired: Desired, wishes: Wishes) -> None:
    """Raise what stands against a new rollout."""
    name, rollout, data = desired.service.name, desired.rollout, desired.rollback
    if desired.stopped:
        raise RefusedError(f"{name} is stopped", "perdure up")
    if rollout is not None and rollout.under_way:
        raise ConflictError(_under_way(rollout), f"perdure deploy --status {name}; to end it: perdure abort {name}")
    if rollout is not None and rollout.moving and not (wishes.force and rollout.phase is Phase.GOING_BACK):
        force = ", or deploy over it: --force" if rollout.phase is Phase.GOING_BACK else ""
        sentence = f"{rollout.new.release} is {rollout.phase.value} just now"
        raise ConflictError(sentence, f"perdure deploy --status {name}{force}")
    if data is not None and data.outcome is Outcome.OPEN:
        raise ConflictError(f"{data.name} of {name} is being carried out: its data go back", f"perdure status {name}")


def _not_again(desired: Desired, rollout: Rollout) -> None:
    """Raise ConflictError or RefusedError when "the release before" is not what somebody means who has just seen, or
    does not know yet, that it was gone back to.
    """
    name, back = desired.service.name, rollout.phase in (Phase.GOING_BACK, Phase.ROLLED_BACK, Phase.ABORTED)
    if rollout.back and rollout.under_way:
        sentence = f"{name} goes back to {rollout.new.release} already"
        raise ConflictError(
            sentence, f"perdure deploy --status {name}; to keep {rollout.old.release}: perdure abort {name}"
        )
    if back and not rollout.back and desired.release == rollout.old.release:
        sentence = f"{rollout.new.release} was taken back to {desired.release} already"
        raise RefusedError(
            sentence, f"to go further, name a release (perdure releases {name}): perdure rollback {name} NAME"
        )


def _brought_back(now: Service, then: Service) -> Service:
    """What an earlier release is brought back as: its program and how one tells whether it is well; its address, limits
    and the like have been changed for other reasons since.
    """
    parts = {one: getattr(then, one) for one in (*release_records.FIELDS, *release_records.TOLD_BY)}
    limits = replace(now.limits, open_files=then.limits.open_files)
    deploy = replace(now.deploy, breaks_data=then.deploy.breaks_data)
    return replace(now, limits=limits, deploy=deploy, **parts)


def _under_way(rollout: Rollout) -> str:
    told = f" ({rollout.message})" if rollout.message else ""
    return f"the rollout of {rollout.new.release}{told} is under way"


def _refuse_again(running: Release | None, release: Release, before: Iterable[Release], wishes: Wishes) -> None:
    if wishes.force:
        return
    if running is not None and running.content == release.content:
        sentence = f"{running.name} is what the file declares: there is nothing to deploy"
        raise RefusedError(sentence, f"to deploy it again: perdure deploy {release.service.name} --force")
    for one in before:
        if one.content == release.content and one.verdict:
            sentence = f"the same was rolled back as {one.name}: {one.verdict}"
            raise RefusedError(sentence, f"change it, or: perdure deploy {release.service.name} --force")


def _again(desired: Desired, release: Release, before: Mapping[str, Release]) -> str:
    """What to add when somebody took the same back a moment ago: the file may only have been left as it was."""
    last = desired.rollout
    taken_back = last is not None and last.phase in (Phase.ROLLED_BACK, Phase.ABORTED) and before.get(last.new.release)
    if not taken_back or taken_back.content != release.content or taken_back.verdict:
        return ""
    return f"; the same was taken back by command as {taken_back.name}"


def _before(desired: Desired, releases: Mapping[str, Release]) -> Release:
    """The release before the one that runs: of the last rollout, or the newest older one that was not thrown out."""
    rollout = desired.rollout
    forward = rollout is not None and not rollout.back and rollout.new.release == desired.release
    if rollout is not None and forward and rollout.old.release in releases:
        return releases[rollout.old.release]
    running = int(desired.release.rpartition("@")[2])
    older = [one for one in releases.values() if one.number < running and not one.verdict]
    if not older:
        raise RefusedError(f"there is no release before {desired.release}", f"perdure releases {desired.service.name}")
    return older[-1]


def _next(desired: Desired, before: Mapping[str, Release]) -> int:
    return next_release(desired, max((one.number for one in before.values()), default=0))


def _replicas(desired: Desired, service: Service, strategy: Strategy) -> int:
    """How many replicas the new release gets: as many as the old one was scaled to, unless the file says another number
    by now. A rolling change has as many as there are slots.
    """
    scaled = service.replicas == desired.service.replicas or strategy is Strategy.ROLLING
    return desired.replicas if scaled else service.replicas
