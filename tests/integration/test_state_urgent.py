"""What a takeover and a rollback need of the keepers: to be done next, asked before, told what is halfway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from keepers import COMMAND, SQLITE, children, names, notes, source, sql, until_a_command_runs, worker

from perdure.adapters.state.client import Keepers
from perdure.model.errors import UnavailableError
from perdure.model.snapshot import StateKind
from perdure.ports.keeper import EndedError, HalfwayError, aside_of

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keepers]:
    keepers = Keepers(tmp_path / "snapshots", lambda service: "")
    yield keepers
    await keepers.close()
    assert children() == []


async def until_it_restores(directory: Path) -> None:
    def begun() -> bool:
        return directory.exists() and bool(names(directory))

    while not begun():  # noqa: ASYNC110 - there is no event: another process does it
        await asyncio.sleep(0.005)


async def test_what_can_be_repeated_gives_way_to_what_somebody_waits_for(keeper: Keepers, tmp_path: Path) -> None:
    of, beside = notes(tmp_path / "1"), tmp_path / "back"
    manifest = await keeper.take(of, 1, 1)
    slow = replace(of, keeping=replace(SQLITE, check=ENDLESS))
    restoring = asyncio.create_task(keeper.restore(slow, manifest.id, str(beside / "r1-new")))
    await until_it_restores(beside)
    comparing = asyncio.create_task(keeper.compare(of, str(beside / "r1-new"), 0.0))
    applying = asyncio.create_task(keeper.apply(source(tmp_path / "2"), manifest.id, False))
    await asyncio.sleep(0)
    await asyncio.wait_for(keeper.hurry("notes"), 10)
    with pytest.raises(EndedError, match="ended while it was asked to restore"):
        await restoring
    with pytest.raises(EndedError, match="asked to compare, and that was put off"):
        await comparing
    await applying
    assert sql(tmp_path / "2", "SELECT * FROM t") == [(1, "a")]
    assert not (beside / "r1-new").exists()
    assert await keeper.restore(of, manifest.id, str(beside / "r1-new")) == manifest
    assert names(beside) == ["r1-new"]


async def test_hurry_leaves_alone_what_cannot_be_repeated_and_what_comes_later(keeper: Keepers, tmp_path: Path) -> None:
    go, of = tmp_path / "go", notes(tmp_path / "1")
    manifest = await keeper.take(of, 1, 1)
    waiting = replace(COMMAND, take=("sh", "-c", f"while ! test -e {go}; do sleep 0.01; done; echo x"))
    taking = asyncio.create_task(keeper.take(source(tmp_path / "2", waiting), 1, 1))
    await until_a_command_runs()
    proving = asyncio.create_task(keeper.prove(of, manifest.id))
    await asyncio.sleep(0)
    before = worker().pid
    await asyncio.wait_for(keeper.hurry("notes"), 10)
    later = asyncio.create_task(keeper.prove(of, manifest.id))
    await asyncio.sleep(0)
    assert not taking.done()
    go.touch()
    assert (await taking).kind is StateKind.COMMAND
    with pytest.raises(EndedError, match="asked to prove"):
        await proving
    assert (await later).problem == ""
    assert worker().pid == before
    await keeper.hurry("notes")
    await keeper.hurry("never asked")
    assert worker().pid == before


async def test_a_process_that_is_killed_after_its_last_answer_is_asked_nothing_more(
    keeper: Keepers, tmp_path: Path
) -> None:
    assert await keeper.kept("notes") == []
    one = keeper._workers["notes"]
    assert one._process is not None
    one._kill(one._process)
    # The loop had no time to see that it is dead.
    assert await keeper.kept("notes") == []


async def test_what_a_switch_would_raise_is_known_before(keeper: Keepers, tmp_path: Path) -> None:
    of = notes(tmp_path / "1")
    beside = Path(aside_of(of))
    manifest = await keeper.take(of, 1, 1)
    incoming, outgoing = str(beside / "r1-new"), str(beside / "r1-old")
    with pytest.raises(UnavailableError, match="nothing to switch to"):
        await keeper.switchable(of, incoming, outgoing)
    await keeper.restore(of, manifest.id, incoming)
    await keeper.switchable(of, incoming, outgoing)
    with pytest.raises(UnavailableError, match="exists"):
        await keeper.switchable(of, incoming, incoming)
    with closing(apsw.Connection(str(tmp_path / "1" / "notes.db"))) as connection:
        connection.execute("BEGIN IMMEDIATE").fetchall()
        await keeper.switchable(of, incoming, outgoing)
    assert names(beside) == ["r1-new"]
    await keeper.switch(of, incoming, outgoing)
    await keeper.switchable(of, incoming, outgoing)
    assert sql(tmp_path / "1", "SELECT * FROM t") == [(1, "a")]


async def test_a_state_between_two_is_said_as_such_and_what_it_needs_is_not_removed(
    keeper: Keepers, tmp_path: Path
) -> None:
    of = source(tmp_path / "1", replace(COMMAND, restore=("sh", "-c", "cat > /dev/null; echo half > state; false")))
    (tmp_path / "1" / "state").write_text("state")
    manifest = await keeper.take(of, 1, 1)
    incoming, outgoing = (f"{aside_of(of)}/{name}" for name in ("r1-new", "r1-old"))
    await keeper.restore(of, manifest.id, incoming)
    for attempt in (
        lambda: keeper.switch(of, incoming, outgoing),
        lambda: keeper.recover(of),
        lambda: keeper.apply(of, manifest.id, False),
    ):
        with pytest.raises(HalfwayError, match="notes/1 may be fed half"):
            await attempt()
    await keeper.tidy(of, [])
    assert names(Path(aside_of(of))) == ["r1-new", "r1-old"]
    whole = replace(of, keeping=COMMAND)
    assert await keeper.recover(whole) is False
    assert (tmp_path / "1" / "state").read_text() == "state"
    await keeper.tidy(of, [])
    assert names(Path(aside_of(of))) == []
