"""Commands about releases, on a real store and real files, with the decider's part played by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.adapters.bundle.files import BundleFiles
from perdure.adapters.clock import SystemClock
from perdure.adapters.store.sqlite import SQLiteStore
from perdure.control.controller import Controller
from perdure.control.release_records import Records
from perdure.control.releasing import Releasing, Wishes
from perdure.control.rollouts import Rollouts
from perdure.control.world import ServiceState, World
from perdure.detect import suspect
from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Files
from perdure.model.errors import ConflictError, RefusedError
from perdure.model.release import Phase
from perdure.model.service import Address, Deployment, Retry, Service
from perdure.model.standing import Desired
from perdure.recover import roll_out

PORTS = range(21_000, 21_100)
ELSEWHERE = Address("127.0.0.1", 9090)


@dataclass
class Shop:
    """A service whose releases are told apart by a variable, and by a file when it has some."""

    records: Records
    controller: Controller
    releasing: Releasing
    source: Path
    clock: SystemClock
    serving: set[str]
    """Releases of which a replica serves."""

    def web(self, version: str, *, files: bool = False, **changed: Any) -> Service:
        own = Files(str(self.source), (".",)) if files else None
        made = Service("web", ("serve",), listen=Address("127.0.0.1", 8080), replicas=1, directory=str(self.source))
        return replace(made, environment=(("VERSION", version),), files=own, **changed)

    async def apply(self, service: Service, *, starting: bool = False) -> list[str]:
        return await self.controller.apply(Deployment((service,), PORTS), starting=starting)

    async def deploy(self, service: Service, *, force: bool = False) -> list[str]:
        return await self.releasing.deploy({"web": service}, ["web"], Wishes(force=force))

    async def becomes(self, phase: Phase, **changed: Any) -> None:
        """What the decider would write."""

        def change(desired: Desired) -> Desired:
            assert desired.rollout is not None
            new = replace(desired.rollout.new, slots=changed.pop("slots", (1,)))
            return roll_out.settled(desired, replace(desired.rollout, phase=phase, new=new, **changed))

        await self.controller.change("C13", "web", None, change, "by hand")

    async def let_in(self, service: Service) -> None:
        await self.deploy(service)
        await self.becomes(Phase.DONE)

    async def desired(self) -> Desired:
        return await self.controller.read("web")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    source, state = tmp_path / "source", tmp_path / "state"
    source.mkdir()
    state.mkdir()
    (source / "serve.py").write_text("1")
    store = await SQLiteStore.open(state / "db")
    clock = SystemClock()
    records = Records(store, BundleFiles(state / "releases"), clock.wall, lambda service: None)
    controller = Controller(store, clock.wall, records)
    serving: set[str] = set()
    releasing = Releasing(controller, records, clock, lambda name: None, lambda name, release: release in serving)
    yield Shop(records, controller, releasing, source, clock, serving)
    await store.close()


async def test_tidying_up_never_takes_the_files_of_a_release_that_is_being_made(shop: Shop) -> None:
    await shop.apply(shop.web("1", files=True))
    await shop.let_in(shop.web("2", files=True))
    unused: Callable[..., Any] = SimpleNamespace
    world = World({"web": ServiceState(await shop.desired(), suspect.policy(shop.web("2")))})
    rollouts = Rollouts(shop.clock, world, shop.controller, shop.records, unused(), unused, unused, unused, unused)
    (shop.source / "large").write_bytes(b"x" * 20_000_000)
    deploy = asyncio.create_task(shop.deploy(shop.web("3", files=True)))
    looks = 0
    async for _ in _until(deploy):
        await rollouts.look(world.services["web"])
        looks += shop.records.turn.locked()
    await rollouts.look(world.services["web"])
    rollout = (await shop.desired()).rollout
    assert looks > 0 and rollout is not None and rollout.new.release == "web@3"
    assert await asyncio.to_thread(Path(str(rollout.new.service.directory), "large").stat)


async def _until(task: asyncio.Task[Any]) -> AsyncIterator[None]:
    """Once in each turn of the loop, until the task is done."""
    while not task.done():
        yield
        await asyncio.wait([task], timeout=0.0)
    await task


async def test_releases_of_a_service_that_is_declared_again_are_not_forgotten(shop: Shop) -> None:
    await shop.apply(shop.web("1", files=True))
    await shop.records.forget("web")
    assert [*await shop.records.of("web")] == ["web@1"], "it is wanted"
    await shop.controller.apply(Deployment((), PORTS))
    await shop.records.forget("web")
    assert [*await shop.records.of("web")] == []


@pytest.mark.parametrize("files", [False, True])
async def test_a_number_never_means_two_releases(shop: Shop, files: bool) -> None:
    """A rollback by command, then the daemon is ended, the file edited, and the daemon started."""
    await shop.apply(shop.web("1", files=files))
    await shop.let_in(shop.web("2", files=files))
    await shop.let_in(shop.web("3", files=files))
    await shop.releasing.roll_back("web")
    await shop.becomes(Phase.DONE)
    before = (await shop.records.of("web"))["web@3"]
    await shop.controller.stop_all()
    (shop.source / "serve.py").write_text("4")
    await shop.apply(shop.web("4", files=files), starting=True)
    assert (await shop.desired()).release == "web@4"
    assert (await shop.records.of("web"))["web@3"] == before


async def test_an_earlier_program_comes_back_at_the_present_address_with_as_many_replicas(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    await shop.let_in(shop.web("2"))
    await shop.apply(replace(shop.web("2"), replicas=6, listen=ELSEWHERE))
    await shop.releasing.roll_back("web")
    rollout = (await shop.desired()).rollout
    assert rollout is not None
    assert (rollout.new.release, rollout.replicas, rollout.new.service.listen) == ("web@1", 6, ELSEWHERE)
    assert rollout.new.service.environment == (("VERSION", "1"),)


async def test_what_is_reloaded_while_a_release_is_watched_stays_when_it_goes_back(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    await shop.deploy(shop.web("2"))
    await shop.becomes(Phase.WATCHING)
    await shop.apply(replace(shop.web("2"), listen=ELSEWHERE))
    rollout = (await shop.desired()).rollout
    assert rollout is not None
    assert {arm.service.listen for arm in (rollout.old, rollout.new)} == {ELSEWHERE}
    assert rollout.old.service.environment == (("VERSION", "1"),)


async def test_a_rollback_without_a_name_after_one_by_itself_goes_no_further(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    await shop.let_in(shop.web("2"))
    await shop.deploy(shop.web("3"))
    await shop.becomes(Phase.ROLLED_BACK, ended_for="it fails", slots=())
    with pytest.raises(RefusedError, match="web@3 was taken back to web@2 already"):
        await shop.releasing.roll_back("web")
    await shop.releasing.roll_back("web", "web@1")
    rollout = (await shop.desired()).rollout
    assert rollout is not None and rollout.new.release == "web@1"


async def test_going_back_twice_by_command_goes_further_back_and_not_forth(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    for version in ("2", "3"):
        await shop.let_in(shop.web(version))
    for target in ("web@2", "web@1"):
        assert await shop.releasing.roll_back("web") == [f"web goes back to {target}"]
        await shop.becomes(Phase.DONE)


async def test_while_a_release_goes_back_a_better_one_can_be_deployed_by_force(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    await shop.deploy(shop.web("2"))
    await shop.becomes(Phase.GOING_BACK, ended_for="it fails", slots=(2,))
    with pytest.raises(ConflictError, match="web@2 is going back just now") as refused:
        await shop.deploy(shop.web("3"))
    assert "--force" in refused.value.hint
    with pytest.raises(ConflictError) as moving:
        await shop.controller.scale("web", 2)
    assert "abort" not in moving.value.hint, "nothing is on trial"
    await shop.deploy(shop.web("3"), force=True)
    rollout = (await shop.desired()).rollout
    assert rollout is not None and (rollout.old.release, rollout.new.release) == ("web@1", "web@3")


async def test_what_was_thrown_out_stays_while_a_better_one_is_let_in_when_it_is_all_that_serves(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    await shop.deploy(shop.web("2"))
    await shop.becomes(Phase.GOING_BACK, ended_for="it fails", slots=(2,))
    shop.serving.add("web@2")
    await shop.deploy(shop.web("3"), force=True)
    desired = await shop.desired()
    assert desired.rollout is not None
    assert (desired.release, desired.numbers, desired.rollout.old.release) == ("web@2", (2,), "web@2")
    assert desired.rollout.new.release == "web@3" and 2 not in desired.rollout.new.slots


async def test_what_is_asked_of_a_release_is_not_asked_of_the_one_before(shop: Shop) -> None:
    first, second = Check(CheckKind.HTTP, "/healthz"), Check(CheckKind.HTTP, "/v2/healthz")
    await shop.apply(shop.web("1", checks=(first,)))
    await shop.deploy(shop.web("2", checks=(second,)))
    await shop.becomes(Phase.WATCHING)
    slower = replace(second, timeout_s=9.0)
    await shop.apply(shop.web("2", checks=(slower,), retry=Retry(attempts=1)))
    rollout = (await shop.desired()).rollout
    assert rollout is not None
    assert (rollout.old.service.checks, rollout.new.service.checks) == ((first,), (slower,))
    assert rollout.old.service.retry.attempts == rollout.new.service.retry.attempts == 1


async def test_scaling_down_while_a_release_is_watched_holds_for_the_one_before(shop: Shop) -> None:
    await shop.apply(shop.web("1", replicas=3))
    await shop.deploy(shop.web("2", replicas=3))
    await shop.becomes(Phase.WATCHING, slots=(4, 5, 6))
    await shop.controller.scale("web", 1)
    rollout = (await shop.desired()).rollout
    assert rollout is not None
    assert (rollout.old.slots, rollout.new.slots, rollout.replicas) == ((1,), (4,), 1)


async def test_once_nothing_more_is_to_end_of_it_commands_are_taken_again(shop: Shop) -> None:
    await shop.apply(shop.web("1"))
    await shop.deploy(shop.web("2"))
    await shop.becomes(Phase.GOING_BACK, ended_for="it fails", slots=())
    assert await shop.controller.scale("web", 2) == ["web is scaled to 2"]
    rollout = (await shop.desired()).rollout
    assert rollout is not None and len(rollout.old.slots) == rollout.replicas == 2


async def test_while_the_release_before_is_recalled_nobody_who_asks_for_the_new_one_gets_the_old_one(
    shop: Shop,
) -> None:
    await shop.apply(shop.web("1"))
    await shop.deploy(shop.web("2"))
    await shop.becomes(Phase.RECALLED, slots=(2,))
    before = await shop.desired()
    with pytest.raises((ConflictError, RefusedError)):
        await shop.releasing.roll_back("web", "web@2")
    assert await shop.desired() == before
