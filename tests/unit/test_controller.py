"""Commands: each is one durable compare-and-swap on what is wanted, with an event that says so."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from facts import HEALTHZ, service

import releases
from perdure.control import persist
from perdure.control.controller import Controller
from perdure.model.errors import ConfigError, ConflictError, RefusedError
from perdure.model.event import Event
from perdure.model.owner import Handover
from perdure.model.service import Address, Deployment, Limits, Mode, Retry, Service
from perdure.model.standing import Desired
from perdure.ports.store import Change, Record, Snapshot, Transaction

WEB = service()
API = service(name="api", replicas=2)


class MemoryStore:
    """The store's contract on a dictionary: atomic, revisioned, with compare-and-swap."""

    def __init__(self) -> None:
        self.revision = 0
        self.records: dict[str, Record] = {}
        self.told: list[Event] = []
        self.transactions: list[Transaction] = []
        self.before_commit: Callable[[], None] = lambda: None

    async def read(self, prefix: str) -> Snapshot:
        return Snapshot(self.revision, {key: one for key, one in self.records.items() if key.startswith(prefix)})

    async def commit(self, transaction: Transaction) -> int:
        self.before_commit()
        for key, revision in transaction.expect.items():
            known = self.records.get(key)
            if (known.revision if known is not None else 0) != revision:
                raise ConflictError(f"{key} was changed by somebody else")
        self.revision += 1
        self.records |= {key: Record(document, self.revision) for key, document in transaction.put.items()}
        for key in transaction.delete:
            self.records.pop(key, None)
        self.told += transaction.events
        self.transactions.append(transaction)
        return self.revision

    def watch(self, prefix: str, after: int) -> AsyncIterator[Change]:
        raise AssertionError("the controller watches nothing")

    async def events(self, after: int, limit: int, service: str | None = None) -> Sequence[Event]:
        return self.told[after : after + limit]

    async def close(self) -> None:
        self.records.clear()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def controller(store: MemoryStore) -> Controller:
    return Controller(store, lambda: 1_700_000_000.0, releases.records(store))


def wanted(store: MemoryStore, name: str = "web") -> Desired:
    return persist.read_desired(store.records[persist.service_key(name)].value)


async def test_what_the_file_declares_is_wanted_durably(store: MemoryStore, controller: Controller) -> None:
    assert await controller.apply(Deployment((WEB, API))) == [
        "web is new: it is started",
        "api is new: it is started",
    ]
    assert wanted(store) == Desired(WEB, "web@1", 3)
    assert [(one.rule, one.subject, one.wall_at) for one in store.told] == [
        ("C01", "web", 1_700_000_000.0),
        ("C01", "api", 1_700_000_000.0),
    ]
    assert all(one.durable for one in store.transactions)


async def test_applying_the_same_file_again_changes_nothing(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB,)))
    assert await controller.apply(Deployment((WEB,))) == []
    assert len(store.transactions) == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (replace(WEB, replicas=5), "web is scaled from 3 to 5"),
        (replace(WEB, retry=Retry(attempts=1)), "web is changed without touching its replicas"),
        (replace(WEB, checks=(replace(HEALTHZ, interval_s=2.0),)), "web is changed without touching its replicas"),
        (replace(WEB, listen=Address("", 80)), "web is changed without touching its replicas"),
        (replace(WEB, limits=Limits(memory_bytes=9)), "web is changed without touching its replicas"),
    ],
)
async def test_what_no_process_is_made_of_applies_to_what_runs(
    store: MemoryStore, controller: Controller, changed: Service, sentence: str
) -> None:
    await controller.apply(Deployment((WEB,)))
    assert await controller.apply(Deployment((changed,))) == [sentence]
    assert (wanted(store).release, wanted(store).service) == ("web@1", changed)


ANOTHER_RELEASE = [
    (replace(WEB, command=("serve", "-v")), "command"),
    (replace(WEB, environment=(("A", "secret"),), user="x"), "env, user"),
    (replace(WEB, limits=Limits(open_files=9)), "limits.open_files"),
]


@pytest.mark.parametrize(("changed", "what"), ANOTHER_RELEASE)
async def test_what_a_process_is_made_of_is_another_release_and_needs_a_deploy(
    store: MemoryStore, controller: Controller, changed: Service, what: str
) -> None:
    await controller.apply(Deployment((WEB, API)))
    with pytest.raises(RefusedError) as refused:
        await controller.apply(Deployment((changed, replace(API, replicas=7))))
    assert (refused.value.sentence, refused.value.hint) == (
        f"this would be another release of web ({what})",
        "perdure deploy web",
    )
    assert (wanted(store).service, wanted(store, "api").service) == (WEB, API)


@pytest.mark.parametrize(("changed", "what"), ANOTHER_RELEASE)
async def test_a_daemon_that_starts_goes_on_with_the_release_that_runs(
    store: MemoryStore, controller: Controller, changed: Service, what: str
) -> None:
    await controller.apply(Deployment((WEB,)))
    changed = replace(changed, retry=Retry(attempts=1))
    assert await controller.apply(Deployment((changed,)), starting=True) == [
        "web is changed without touching its replicas",
        f"web goes on with web@1; the file declares another release ({what}): perdure deploy web",
    ]
    assert [one.rule for one in store.told[1:]] == ["C01", "C15"]
    assert (wanted(store).release, wanted(store).service) == ("web@1", replace(WEB, retry=Retry(attempts=1)))


async def test_what_runs_does_not_become_active_passive(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB,)))
    other = replace(WEB, mode=Mode.ACTIVE_PASSIVE, retry=Retry(attempts=1))
    with pytest.raises(ConflictError, match="web runs as active-active, and cannot become active-passive") as refused:
        await controller.apply(Deployment((other,)))
    assert "take it out of the file" in refused.value.hint
    [sentence] = await controller.apply(Deployment((other,)), starting=True)
    assert sentence.startswith("web goes on as active-active; the file declares it as active-passive: take it out")
    assert wanted(store).service == WEB
    await controller.stop_all()
    await controller.apply(Deployment((other,)), starting=True)
    assert wanted(store).service.mode is Mode.ACTIVE_PASSIVE


async def test_what_was_stopped_starts_as_the_file_says_now(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB,)))
    await controller.stop_all()
    changed = replace(WEB, command=("serve", "-v"))
    assert await controller.apply(Deployment((changed,)), starting=True) == ["web is started as web@2"]
    assert (wanted(store).release, wanted(store).service) == ("web@2", changed)
    assert list(await releases.records(store).of("web")) == ["web@1", "web@2"]


async def test_a_service_that_is_no_longer_declared_is_ended(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB, API)))
    assert await controller.apply(Deployment((WEB,))) == ["api is no longer declared: it is drained and ended"]
    assert {key for key in store.records if key.startswith("desired/")} == {
        "desired/service/web",
        "desired/release/api",
    }


async def test_a_service_that_is_declared_again_is_another_release_for_its_old_replicas_may_not_have_ended(
    store: MemoryStore, controller: Controller
) -> None:
    for number in (1, 2, 3):
        await controller.apply(Deployment((WEB, API)))
        assert wanted(store, "api").release == f"api@{number}"
        await controller.apply(Deployment((WEB,)))


async def test_a_restart_asks_for_a_newer_generation_of_all_or_of_one(
    store: MemoryStore, controller: Controller
) -> None:
    await controller.apply(Deployment((WEB,)))
    assert await controller.restart("web/2") == ["web/2 is restarted"]
    assert [wanted(store).generation_of(number) for number in (1, 2, 3)] == [1, 2, 1]
    assert await controller.restart("web") == ["web is restarted, one replica after the other"]
    assert [wanted(store).generation_of(number) for number in (1, 2, 3)] == [3, 3, 3]
    assert [(one.rule, one.subject) for one in store.told[1:]] == [("C02", "web/2"), ("C02", "web")]


async def test_slots_are_drained_and_undrained(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB,)))
    await controller.drain("web/2")
    await controller.drain("web/1")
    assert wanted(store).drained == (1, 2)
    await controller.undrain("web/1")
    assert wanted(store).drained == (2,)
    await controller.drain("web")
    assert wanted(store).drained == (1, 2, 3)
    await controller.undrain("web")
    assert wanted(store).drained == ()
    assert [one.rule for one in store.told[1:]] == ["C03", "C03", "C04", "C03", "C04"]


async def test_scaling_down_forgets_the_drained_slots_that_go(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB,)))
    await controller.drain("web/3")
    assert await controller.scale("web", 2) == ["web is scaled to 2"]
    assert (wanted(store).replicas, wanted(store).drained) == (2, ())
    assert store.told[-1].rule == "C05"


async def test_a_daemon_that_starts_keeps_the_scale_that_was_commanded_and_a_reload_does_not(
    store: MemoryStore, controller: Controller
) -> None:
    await controller.apply(Deployment((WEB,)))
    await controller.scale("web", 5)
    assert await controller.apply(Deployment((WEB,)), starting=True) == []
    assert wanted(store).replicas == 5
    assert await controller.apply(Deployment((WEB,))) == ["web is scaled from 5 to 3"]


async def test_ending_everything_lasts_until_the_file_is_applied_again(
    store: MemoryStore, controller: Controller
) -> None:
    await controller.apply(Deployment((WEB, API)))
    assert await controller.stop_all() == ["everything is ended: api, web"]
    assert wanted(store).stopped and wanted(store, "api").stopped
    assert (store.told[-1].rule, store.told[-1].subject) == ("C06", "daemon")
    assert await controller.apply(Deployment((WEB, API))) == ["web is started", "api is started"]
    assert not wanted(store).stopped


COMMANDS: list[Callable[[Controller], Awaitable[list[str]]]] = [
    lambda controller: controller.apply(Deployment((replace(WEB, replicas=4),))),
    lambda controller: controller.restart("web"),
    lambda controller: controller.drain("web/1"),
    lambda controller: controller.undrain("web"),
    lambda controller: controller.scale("web", 2),
    lambda controller: controller.stop_all(),
]


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_that_lost_the_race_is_refused_and_changes_nothing(
    store: MemoryStore, controller: Controller, command: Callable[[Controller], Awaitable[list[str]]]
) -> None:
    await controller.apply(Deployment((WEB,)))
    key = persist.service_key("web")

    def somebody_else() -> None:
        store.revision += 1
        store.records[key] = Record(store.records[key].value, store.revision)

    store.before_commit = somebody_else
    with pytest.raises(ConflictError):
        await command(controller)
    assert wanted(store) == Desired(WEB, "web@1", 3)


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_is_on_disk_before_it_is_acknowledged(
    store: MemoryStore, controller: Controller, command: Callable[[Controller], Awaitable[list[str]]]
) -> None:
    await controller.apply(Deployment((WEB,)))
    await command(controller)
    assert len(store.transactions) == 2
    assert store.transactions[1].durable and store.transactions[1].events


@pytest.mark.parametrize("target", ["webb", "web/4", "web/x", "web/0", "/1"])
async def test_a_target_that_does_not_exist_is_named(store: MemoryStore, controller: Controller, target: str) -> None:
    await controller.apply(Deployment((WEB, API)))
    with pytest.raises(ConfigError) as caught:
        await controller.drain(target)
    assert target in caught.value.sentence
    assert caught.value.hint
    assert len(store.transactions) == 1


async def test_what_exists_is_listed_when_a_service_is_unknown(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((WEB, API)))
    with pytest.raises(ConfigError, match=r"there is no service 'shop' \(there are: api, web\)"):
        await controller.restart("shop")


@pytest.mark.parametrize("replicas", [0, -1, 1001])
async def test_a_number_of_replicas_that_makes_no_sense_is_refused(controller: Controller, replicas: int) -> None:
    await controller.apply(Deployment((WEB,)))
    with pytest.raises(ConfigError, match="1 to 1000 replicas"):
        await controller.scale("web", replicas)


async def test_another_slot_is_to_be_active_each_command_anew(store: MemoryStore, controller: Controller) -> None:
    notes = service(name="notes", mode=Mode.ACTIVE_PASSIVE)
    await controller.apply(Deployment((notes,)))
    assert await controller.promote("notes/2") == ["notes/2 is to be active"]
    assert await controller.promote("notes", accept_loss=True) == ["another slot of notes is to be active"]
    desired = persist.read_desired(store.records["desired/service/notes"].value)
    assert desired.handover == Handover(2, None, accept_loss=True)
    assert store.told[-1].rule == "C07"


@pytest.mark.parametrize(
    ("declared", "target", "words"),
    [
        (service(), "web/2", "active-active"),
        (service(mode=Mode.ACTIVE_PASSIVE, replicas=1), "web", "one slot only"),
        (service(mode=Mode.ACTIVE_PASSIVE), "web/3", "drained"),
    ],
)
async def test_who_cannot_be_active_is_refused(
    controller: Controller, declared: Service, target: str, words: str
) -> None:
    await controller.apply(Deployment((declared,)))
    await controller.drain("web/3" if declared.replicas == 3 else "web/1")
    with pytest.raises(RefusedError) as caught:
        await controller.promote(target)
    assert words in caught.value.sentence and caught.value.hint


async def test_a_service_with_a_fixed_port_cannot_be_scaled_out(store: MemoryStore, controller: Controller) -> None:
    await controller.apply(Deployment((replace(WEB, port=9000, replicas=1),)))
    with pytest.raises(RefusedError, match="fixed port 9000"):
        await controller.scale("web", 2)
    assert wanted(store).replicas == 1
