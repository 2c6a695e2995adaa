"""Going back: the moment that is meant, the plan and its token, and what is told when a step does not work."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from facts import replica
from test_controller import MemoryStore
from test_preserve import KEEPING, Case

import releases
from perdure.control import moments, persist, rollback_documents
from perdure.control.controller import Controller
from perdure.control.going_back import RESCUE_AGAIN_S, RESCUE_TRIES, UNDO_S, Rollbacks
from perdure.control.rollback_documents import PLAN_LASTS_S
from perdure.model import codec
from perdure.model.errors import (
    ConfigError,
    ConflictError,
    CorruptionError,
    PerdureError,
    RefusedError,
    UnavailableError,
)
from perdure.model.replica import State
from perdure.model.rollback import Outcome, Rollback
from perdure.model.snapshot import Kept, Manifest, StateKind
from perdure.ports.keeper import EndedError, HalfwayError
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
        self.controller = Controller(self.store, self.clock.wall, releases.records(self.store))
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

    def fails(self, times: int) -> None:
        """The replica of slot 1 has ended, so often in a row."""
        self.end(1)
        self.service.slots[1].history = replace(self.service.slots[1].history, failures=times)

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
    assert back.service.preserved.held == 0 and rollback.safety == "s-0002"
    safety = [one for one in back.service.preserved.kept if one.manifest.id == rollback.safety]
    assert (await back.preserver.keeper.kept("web"))[1].pin is not None and safety
    assert "is being carried out" in await refused(ConflictError, back.rollbacks.plan("web", "then"))
    await back.step(20.0)
    assert len(back.ids) == 2, "nothing is begun meanwhile"
    await back.exchanged()
    await back.rollbacks.step(back.service)
    assert back.last.outcome is Outcome.DONE and back.shelf.states["web/1"] == ("a",)
    assert "still being written" in await refused(UnavailableError, back.rollbacks.rescue("web", []))
    await back.rollbacks.step(back.service)
    assert back.last.rescued == 1 and "D15" in back.told.rules
    assert (await back.rollbacks.rescue("web", []))[0] == "1 of 1 rows are back in web"
    assert (await back.rollbacks.rescue("web", []))[1:] == [
        "what could not be put back:",
        "  b is there",
    ]
    back.shelf.write("web/1", "c")
    plan = await back.rollbacks.plan_undo("web")
    assert (plan["undoes"], plan["snapshot"], plan["loss"]["added"]) == ("r1", None, ["c"])
    await back.rollbacks.carry_out("web", plan["token"])
    await back.exchanged()
    await back.rollbacks.step(back.service)
    assert back.shelf.states["web/1"] == ("a", "b") and back.last.undoes == 1
    told = rollback_documents.told(back.service, back.clock.wall() + 60.0)
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
    await back.rollbacks.carry_out("web", plan["token"], without_safety=True)
    assert back.last.safety == "" and "D17" in back.told.rules


async def test_what_could_not_be_exchanged_has_failed_and_the_next_one_has_a_number_of_its_own(back: Back) -> None:
    await back.agree()
    await back.exchanged(done=False)
    await back.rollbacks.step(back.service)
    assert back.last.outcome is Outcome.FAILED and back.shelf.states["web/1"] == ("a", "b")
    assert "nothing to undo" in await refused(RefusedError, back.rollbacks.plan_undo("web"))
    assert (await back.agree()).number == 2


async def test_data_with_which_nobody_can_serve_are_taken_back(back: Back) -> None:
    await back.agree()
    await back.exchanged()
    back.fails(5)
    await back.rollbacks.step(back.service)
    back.fails(6)
    await back.rollbacks.step(back.service)
    assert "D13" not in back.told.rules, "what failed before does not count"
    back.fails(7)
    await back.rollbacks.step(back.service)
    assert "D13" in back.told.rules and (back.last.undoes, back.last.trial) == (1, False)
    assert "is being carried out" in await refused(ConflictError, back.rollbacks.plan("web", "then"))
    await back.exchanged()
    back.fails(9)
    await back.rollbacks.step(back.service)
    assert (back.last.number, back.last.outcome) == (2, Outcome.DONE), "there is nothing left to try"
    assert back.shelf.states["web/1"] == ("a", "b")
    assert (await back.rollbacks.plan("web", "then"))["rollback"] == "r3", "and others can be tried"


async def test_what_was_kept_for_undoing_outlives_a_rollback_that_fails(back: Back) -> None:
    await back.agree()
    await back.exchanged()
    await back.rollbacks.step(back.service)
    await back.rollbacks.step(back.service)
    await back.agree()
    await back.exchanged(done=False)
    await back.rollbacks.step(back.service)
    await back.rollbacks.step(back.service)
    assert back.last.outcome is Outcome.FAILED and back.shelf.asides["/slots/web/1/back/r1-old"] == ("a", "b")
    plan = await back.rollbacks.plan_undo("web")
    assert (plan["undoes"], plan["loss"]["removed"]) == ("r1", ["b"])
    await back.rollbacks.carry_out("web", plan["token"])
    await back.exchanged()
    await back.rollbacks.step(back.service)
    assert back.shelf.states["web/1"] == ("a", "b")
    again = await back.rollbacks.plan_undo("web")
    assert again["undoes"] == "r3", "r1 was undone already"


async def test_a_replica_that_answered_and_was_drained_has_taken_the_data(back: Back) -> None:
    await back.agree()
    await back.exchanged()
    back.service.slots[1].replica = replica(1, State.DRAINING, epoch=back.service.term.epoch)
    await back.rollbacks.step(back.service)
    assert back.last.outcome is Outcome.DONE


async def test_a_state_that_is_declared_no_more_ends_nothing_but_the_rollback(back: Back) -> None:
    rollback = await back.agree()
    declared = replace(back.service.desired.service, state=None)
    back.service.desired = replace(back.service.desired, service=declared)
    assert await back.preserver.exchanged(back.service, back.service.slots[1], rollback) is False
    await back.step(20.0)


async def test_what_a_former_owner_held_is_not_the_state_of_any_moment(back: Back) -> None:
    back.shelf.write("web/2", "a fork")
    aside = await back.preserver.take(back.service, back.service.slots[2])
    back.clock.at += 60.0
    plan = await back.rollbacks.plan("web", "10s")
    assert plan["snapshot"] == "s-0001" and aside.id == "s-0002"
    assert (await back.rollbacks.plan("web", aside.id))["snapshot"] == aside.id, "who names it means it"


async def test_whether_it_was_exchanged_is_asked_again_when_the_keeper_ended_in_it(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollback = await back.agree()
    slot = back.service.slots[1]
    with monkeypatch.context() as ended:
        for error in (EndedError("the keeper ended"), HalfwayError("it is half"), CorruptionError("the journal is")):

            async def ends(*_: object, error: PerdureError = error) -> None:
                raise error

            ended.setattr(type(back.preserver.keeper), "switch", ends)
            assert await back.preserver.exchanged(back.service, slot, rollback) is None
            assert await back.preserver.exchanged(back.service, slot, rollback) is None
    assert await back.preserver.exchanged(back.service, slot, rollback) is True
    assert await back.preserver.exchanged(back.service, slot, rollback) is True, "done again it changes nothing"
    assert await back.preserver.exchanged(back.service, slot, replace(rollback, slot=2)) is False
    told = [rule for rule in back.told.rules if rule > "D10"]
    assert told == ["D11", "D11", "D11", "D12"], "each of them once"


async def test_rows_that_cannot_be_written_down_are_told_and_what_fails_for_a_while_is_told_once(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    await back.agree()
    await back.exchanged()
    back.service.preserved.kept = ()
    del back.shelf.kept["web"]
    await back.rollbacks.step(back.service)
    for tries in range(RESCUE_TRIES):
        assert (back.last.rescue_file, "D14" in back.told.rules) == ("/slots/web/1/back/r1-rows", False), tries
        await back.rollbacks.step(back.service)
        await back.rollbacks.step(back.service)  # too soon
        back.clock.at += RESCUE_AGAIN_S
    assert back.last.rescue_file == "" and "D14" in back.told.rules

    async def broken(*_: object) -> None:
        raise CorruptionError("the disk does not work")

    monkeypatch.setattr(type(back.preserver.keeper), "tidy", broken)
    back.clock.at += UNDO_S
    await back.rollbacks.step(back.service)
    await back.rollbacks.step(back.service)
    assert back.told.rules.count("D16") == RESCUE_TRIES, "once for each try but the last, and once for the tidying"
    assert "nothing to undo" in await refused(RefusedError, back.rollbacks.plan_undo("web"))


async def test_who_has_no_state_or_no_owner_has_nothing_to_go_back_to(back: Back) -> None:
    await refused(ConfigError, back.rollbacks.plan("api", "then"))
    back.service.term = replace(back.service.term, owner=None)
    await refused(UnavailableError, back.rollbacks.plan("web", "then"))
    declared = replace(back.service.desired.service, state=None)
    back.service.desired = replace(back.service.desired, service=declared)
    await refused(RefusedError, back.rollbacks.plan("web", "then"))
    assert KEEPING.every_s and "C08" not in [event.rule for event in back.store.told]
    assert "D18" not in [event.rule for event in back.store.told]
