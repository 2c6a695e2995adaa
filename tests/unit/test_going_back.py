"""Going back: the moment that is meant, the plan and its token, and what is told when a step does not work."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from test_controller import MemoryStore
from test_preserve import KEEPING, Case

from perdure.control import going_back, moments, persist
from perdure.control.controller import Controller
from perdure.control.going_back import PLAN_LASTS_S, UNDO_S, Rollbacks
from perdure.model import codec
from perdure.model.errors import (
    ConfigError,
    ConflictError,
    CorruptionError,
    PerdureError,
    RefusedError,
    UnavailableError,
)
from perdure.model.rollback import Outcome, Rollback
from perdure.model.snapshot import Kept, Manifest, StateKind
from perdure.ports.keeper import EndedError
from perdure.ports.store import Record


def kept(number: int, taken_at: float, *marks: str) -> Kept:
    id_ = f"s-{number:04d}"
    manifest = Manifest(id_, "web", "web/1", StateKind.SQLITE, None, 1, 0, taken_at, 0.1, 1, 1, id_)
    return Kept(manifest, marks=marks)


NOON = datetime.fromisoformat("2026-11-25 12:00:00").timestamp()
KEPT = (kept(1, NOON - 7200.0, "v1"), kept(2, NOON - 600.0), kept(3, NOON - 60.0, "v2", "s-0001-again"))


@pytest.mark.parametrize(
    ("to", "id_"),
    [
        ("v1", "s-0001"),
        ("s-0002", "s-0002"),
        ("s-0001-again", "s-0003"),
        ("5m", "s-0002"),
        ("0.5m", "s-0003"),
        ("2h", "s-0001"),
        ("2026-11-25 11:55", "s-0002"),
        ("2026-11-25T11:59:30", "s-0003"),
        (datetime.fromtimestamp(NOON - 3600.0).astimezone().isoformat(), "s-0001"),
    ],
)
def test_a_moment_is_a_marker_a_snapshot_how_long_ago_or_a_time(to: str, id_: str) -> None:
    assert moments.find(KEPT, to, NOON, "web").manifest.id == id_


@pytest.mark.parametrize(("to", "kind"), [("v3", ConfigError), ("s-0009", UnavailableError), ("3h", UnavailableError)])
def test_a_moment_of_which_nothing_is_kept_is_an_error_with_a_remedy(to: str, kind: type[PerdureError]) -> None:
    with pytest.raises(kind) as told:
        moments.find(KEPT, to, NOON, "web")
    assert "v1, v2" in told.value.sentence or "snapshot list web" in told.value.hint


class Back(Case):
    """A service with one snapshot marked `then`, and a word written since; commands change what is wanted at once."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.controller = Controller(self.store, self.clock.wall)
        self.rollbacks = Rollbacks(self.preserver, self.controller, self.learned)
        self.store.records[persist.service_key("web")] = Record(codec.encode(self.service.desired), 1)

    async def learned(self, revision: int) -> None:
        document = self.store.records[persist.service_key("web")].value
        self.service.desired = persist.read_desired(document)

    async def begin(self) -> None:
        self.shelf.write("web/1", "a")
        await self.step()
        await self.preserver.keeper.mark("web", "then", "s-0001")
        self.shelf.write("web/1", "b")
        self.clock.at += 5.0

    async def agree(self) -> Rollback:
        plan = await self.rollbacks.plan("web", "then")
        await self.rollbacks.carry_out("web", plan["token"])
        return self.last

    async def exchanged(self, done: bool = True) -> None:
        """What the loop does of it: the data are exchanged, and a new term has begun."""
        if done:
            assert await self.preserver.exchanged(self.service, self.service.slots[1], self.last)
        history = self.last.data_epoch if done else self.service.term.data_epoch
        self.service.term = replace(self.service.term, data_epoch=history, rollback=self.last.number)
        self.service.preserved.applied.pop(1, None)

    @property
    def last(self) -> Rollback:
        assert self.service.desired.rollback is not None
        return self.service.desired.rollback


@pytest.fixture
async def back() -> Back:
    case = Back()
    await case.begin()
    return case


async def refused(kind: type[PerdureError], call: Any) -> str:
    with pytest.raises(kind) as told:
        await call
    return told.value.sentence


async def test_a_plan_says_what_would_be_lost_and_changes_nothing(back: Back) -> None:
    plan = await back.rollbacks.plan("web", "then")
    assert (plan["snapshot"], plan["loss"]["added"], plan["undoes"]) == ("s-0001", ["b"], None)
    assert back.service.desired.rollback is None and back.shelf.states["web/1"] == ("a", "b")
    assert plan["token"].startswith("r1-") and plan["undo_until"] == back.clock.wall() + UNDO_S
    back.shelf.write("web/1", "c")
    other = await back.rollbacks.plan("web", "then")
    assert other["token"] != plan["token"], "it names another loss"
    await refused(RefusedError, back.rollbacks.carry_out("web", plan["token"]))


async def test_done_undone_and_rescued(back: Back) -> None:
    rollback = await back.agree()
    assert back.service.preserved.held and rollback.safety == "s-0002"
    safety = [one for one in back.service.preserved.kept if one.manifest.id == rollback.safety]
    assert (await back.preserver.keeper.kept("web"))[1].pin is not None and safety
    assert "is being carried out" in await refused(ConflictError, back.rollbacks.plan("web", "then"))
    await back.step(20.0)
    assert len(back.ids) == 2, "nothing is begun meanwhile"
    await back.exchanged()
    await back.rollbacks.step(back.service)
    assert back.last.outcome is Outcome.DONE and back.shelf.states["web/1"] == ("a",)
    await back.rollbacks.step(back.service)
    assert back.last.rescued == 1 and "D15" in back.told.rules
    assert (await back.rollbacks.rescue("web", []))[0] == "1 of 1 rows are back in web"
    assert (await back.rollbacks.rescue("web", []))[1:] == [
        "1 are not, for the present row is another one:",
        "  b is there",
    ]
    back.shelf.write("web/1", "c")
    plan = await back.rollbacks.plan_undo("web")
    assert (plan["undoes"], plan["snapshot"], plan["loss"]["added"]) == ("r1", None, ["c"])
    await back.rollbacks.carry_out("web", plan["token"])
    await back.exchanged()
    await back.rollbacks.step(back.service)
    assert back.shelf.states["web/1"] == ("a", "b") and back.last.undoes == 1
    told = going_back.told(back.service, back.clock.wall() + 60.0)
    assert told is not None and (told["name"], told["outcome"], told["undoes"], told["undo_s"]) == (
        "r2",
        "done",
        "r1",
        UNDO_S - 60.0,
    )


async def test_a_plan_that_is_too_old_or_of_another_owner_is_not_carried_out(back: Back) -> None:
    token = (await back.rollbacks.plan("web", "then"))["token"]
    back.clock.at += PLAN_LASTS_S + 1.0
    assert "too old" in await refused(RefusedError, back.rollbacks.carry_out("web", token))
    await back.rollbacks.step(back.service)
    assert back.shelf.asides == {}, "what was restored for it is removed"
    token = (await back.rollbacks.plan("web", "then"))["token"]
    back.service.term = replace(back.service.term, owner=2)
    assert "another slot" in await refused(ConflictError, back.rollbacks.carry_out("web", token))
    assert back.service.desired.rollback is None and not back.service.preserved.held


async def test_a_present_that_is_damaged_is_kept_as_it_is(back: Back) -> None:
    plan = await back.rollbacks.plan("web", "then")
    back.shelf.damaged.add("web/1")
    await back.rollbacks.carry_out("web", plan["token"])
    assert back.last.safety == "" and "D17" in back.told.rules


async def test_what_cannot_be_copied_for_another_reason_is_not_replaced(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await back.rollbacks.plan("web", "then")

    async def full(*_: object) -> None:
        raise UnavailableError("no space left on the device", "make room")

    monkeypatch.setattr(type(back.preserver.keeper), "take", full)
    assert "no space" in await refused(UnavailableError, back.rollbacks.carry_out("web", plan["token"]))
    assert back.service.desired.rollback is None and not back.service.preserved.held


async def test_what_could_not_be_exchanged_has_failed_and_the_next_one_has_a_number_of_its_own(back: Back) -> None:
    await back.agree()
    await back.exchanged(done=False)
    await back.rollbacks.step(back.service)
    assert back.last.outcome is Outcome.FAILED and back.shelf.states["web/1"] == ("a", "b")
    assert "r1 is failed" in await refused(RefusedError, back.rollbacks.plan_undo("web"))
    assert (await back.agree()).number == 2


async def test_data_with_which_nobody_can_serve_are_taken_back(back: Back) -> None:
    await back.agree()
    await back.exchanged()
    back.end(1)
    back.service.slots[1].history = replace(back.service.slots[1].history, failures=2)
    await back.rollbacks.step(back.service)
    assert "D13" in back.told.rules and (back.last.undoes, back.last.trial) == (1, False)
    await back.exchanged()
    back.service.slots[1].history = replace(back.service.slots[1].history, failures=9)
    await back.rollbacks.step(back.service)
    assert back.last.number == 2 and back.shelf.states["web/1"] == ("a", "b"), "it is not taken back again"


async def test_whether_it_was_exchanged_is_asked_again_when_the_keeper_ended_in_it(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollback = await back.agree()
    slot = back.service.slots[1]
    with monkeypatch.context() as ended:

        async def ends(*_: object) -> None:
            raise EndedError("the keeper of web ended", "try again")

        ended.setattr(type(back.preserver.keeper), "switch", ends)
        assert await back.preserver.exchanged(back.service, slot, rollback) is None
    assert await back.preserver.exchanged(back.service, slot, rollback) is True
    assert await back.preserver.exchanged(back.service, slot, rollback) is True, "done again it changes nothing"
    assert await back.preserver.exchanged(back.service, slot, replace(rollback, slot=2)) is False
    assert [rule for rule in back.told.rules if rule > "D10"] == ["D11", "D12"]


async def test_rows_that_cannot_be_written_down_are_told_and_what_fails_for_a_while_is_told_once(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    await back.agree()
    await back.exchanged()
    back.service.preserved.kept = ()
    del back.shelf.kept["web"]
    await back.rollbacks.step(back.service)
    await back.rollbacks.step(back.service)
    assert back.last.rescue_file == "" and "D14" in back.told.rules

    async def broken(*_: object) -> None:
        raise CorruptionError("the disk does not work")

    monkeypatch.setattr(type(back.preserver.keeper), "tidy", broken)
    back.clock.at += UNDO_S
    await back.rollbacks.step(back.service)
    await back.rollbacks.step(back.service)
    assert back.told.rules.count("D16") == 1
    assert "is not kept" in await refused(RefusedError, back.rollbacks.plan_undo("web"))


async def test_who_has_no_state_or_no_owner_has_nothing_to_go_back_to(back: Back) -> None:
    await refused(ConfigError, back.rollbacks.plan("api", "then"))
    back.service.term = replace(back.service.term, owner=None)
    await refused(UnavailableError, back.rollbacks.plan("web", "then"))
    declared = replace(back.service.desired.service, state=None)
    back.service.desired = replace(back.service.desired, service=declared)
    await refused(RefusedError, back.rollbacks.plan("web", "then"))
    assert KEEPING.every_s and "C08" not in [event.rule for event in back.store.told]
    assert "D18" not in [event.rule for event in back.store.told]
