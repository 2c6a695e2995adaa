"""The keeper as the daemon has it: a process for each service, which may die at any time."""

import asyncio
import gc
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from keepers import (
    COMMAND,
    FILES,
    SQLITE,
    all_ended,
    children,
    commands,
    names,
    notes,
    own_names,
    source,
    sql,
    until_a_command_runs,
    worker,
)

from perdure.adapters.state.client import Keepers
from perdure.model.errors import ConfigError, CorruptionError, RefusedError, UnavailableError
from perdure.model.snapshot import Keeping, Kept, Manifest, Pin, Proof, StateKind, TableLoss
from perdure.ports.keeper import Keeper, aside_of


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keepers]:
    keepers = Keepers(tmp_path / "snapshots", lambda service: "")
    yield keepers
    await keepers.close()
    assert children() == []


async def test_a_rollback_from_the_first_snapshot_to_the_undoing_of_it(keeper: Keeper, tmp_path: Path) -> None:
    aside, before, file = (str(tmp_path / name) for name in ("aside", "before", "rescue"))
    of = notes(tmp_path / "1")
    assert await keeper.kept("notes") == []
    first = await keeper.take(of, 1, 1)
    assert (first.id, first.service, first.slot, first.kind) == ("s-0001", "notes", "notes/1", StateKind.SQLITE)
    sql(tmp_path / "1", "INSERT INTO t VALUES(2, 'b'); UPDATE t SET text = 'c' WHERE id = 1")
    assert await keeper.restore(of, first.id, aside) == first
    loss = await keeper.compare(of, aside, first.taken_at)
    assert loss.tables == (TableLoss("t", 1, 1, 0),)
    assert await keeper.rescue(of, aside, file) == 2
    await keeper.switch(of, aside, before)
    assert sql(tmp_path / "1", "SELECT * FROM t") == [(1, "a")]
    assert await keeper.applied(of) == first
    assert await keeper.reinsert(of, file, ["t"]) == (2, [])
    assert sql(tmp_path / "1", "SELECT * FROM t") == [(1, "c"), (2, "b")]
    await keeper.switch(of, before, aside)
    assert sql(tmp_path / "1", "SELECT * FROM t") == [(1, "c"), (2, "b")]
    assert await keeper.applied(of) is None
    assert await keeper.recover(of) is None
    assert own_names(tmp_path / "1") == []


async def test_what_lies_beside_a_slot_is_removed_but_for_what_is_kept(keeper: Keeper, tmp_path: Path) -> None:
    of = notes(tmp_path / "1")
    beside = Path(aside_of(of))
    assert beside.parent == tmp_path
    await keeper.tidy(of, [])
    first = await keeper.take(of, 1, 1)
    for name in ("r1-new", "r2-new"):
        await keeper.restore(of, first.id, str(beside / name))
    assert await keeper.rescue(of, str(beside / "r1-new"), str(beside / "r1-rows")) == 0
    await keeper.tidy(of, [str(beside / "r2-new")])
    assert names(beside) == ["r2-new"]
    assert sql(tmp_path / "1", "SELECT * FROM t") == [(1, "a")]


async def test_what_is_learned_of_a_snapshot_is_kept(keeper: Keeper, tmp_path: Path) -> None:
    of = notes(tmp_path / "1")
    first, second = await keeper.take(of, 1, 1), await keeper.take(of, 2, 1)
    await keeper.note("notes", first.id, Pin(None, "safety"), None)
    await keeper.note("notes", first.id, None, Proof(5.0, 1.0))
    await keeper.mark("notes", "good", second.id)
    assert list(await keeper.kept("notes")) == [
        Kept(first, Pin(None, "safety"), Proof(5.0, 1.0)),
        Kept(second, marks=("good",)),
    ]
    with pytest.raises(RefusedError, match="epoch 2 was seen"):
        await keeper.take(of, 1, 1)
    with pytest.raises(RefusedError):
        await keeper.remove("notes", [first.id])
    with pytest.raises(RefusedError):
        await keeper.remove("notes", [second.id])
    await keeper.unmark("notes", "good")
    await keeper.unmark("notes", "good")
    assert [one.marks for one in await keeper.kept("notes")] == [(), ()]
    await keeper.unpin("notes", first.id)
    assert await keeper.remove("notes", [first.id]) > 0
    await keeper.verify("notes", second.id)
    await keeper.transfer_out("notes", second.id, str(tmp_path / "file"))
    third = await keeper.transfer_in("notes", str(tmp_path / "file"))
    assert (third.id, third.digest, third.taken_at) == ("s-0003", second.digest, second.taken_at)
    with pytest.raises(UnavailableError, match="no snapshot s-0009"):
        await keeper.verify("notes", "s-0009")


@pytest.mark.parametrize("running", [False, True], ids=["cold", "warm"])
async def test_passive_databases_follow(keeper: Keeper, tmp_path: Path, running: bool) -> None:
    active, passive = notes(tmp_path / "1"), source(tmp_path / "2")
    for number in range(10, 13):
        sql(tmp_path / "1", f"INSERT INTO t VALUES({number}, 'x')")
        manifest = await keeper.take(active, 1, 1)
        await keeper.apply(passive, manifest.id, running)
        assert await keeper.applied(passive) == manifest
        assert sql(tmp_path / "2", "SELECT * FROM t") == sql(tmp_path / "1", "SELECT * FROM t")


@pytest.mark.parametrize("keeping", [FILES, COMMAND], ids=["files", "command"])
async def test_directories_and_streams_go_the_same_way(keeper: Keeper, tmp_path: Path, keeping: Keeping) -> None:
    of, passive = source(tmp_path / "1", keeping), source(tmp_path / "2", keeping)
    state = tmp_path / "1" / "state"
    state.write_text("first")
    first = await keeper.take(of, 1, 1)
    await keeper.apply(passive, first.id, True)
    assert (tmp_path / "2" / "state").read_text() == "first"
    state.write_text("second")
    aside, before = str(tmp_path / "aside"), str(tmp_path / "before")
    await keeper.restore(of, first.id, aside)
    loss = await keeper.compare(of, aside, first.taken_at)
    assert loss.changed == (("state",) if keeping is FILES else ())
    assert loss.size_then == 5
    with pytest.raises(RefusedError, match="no rows"):
        await keeper.rescue(of, aside, str(tmp_path / "rescue"))
    await keeper.switch(of, aside, before)
    assert state.read_text() == "first"
    await keeper.switch(of, before, aside)
    assert state.read_text() == "second"


async def test_state_of_another_kind_is_refused(keeper: Keeper, tmp_path: Path) -> None:
    manifest = await keeper.take(notes(tmp_path / "1"), 1, 1)
    with pytest.raises(RefusedError, match="holds state of the kind sqlite"):
        await keeper.apply(source(tmp_path / "2", FILES), manifest.id, False)


async def test_a_restore_that_fails_its_check_leaves_nothing_and_changes_nothing(
    keeper: Keeper, tmp_path: Path
) -> None:
    of = notes(tmp_path / "1", replace(SQLITE, check="SELECT count(*) > 5 FROM t"))
    manifest = await keeper.take(of, 1, 1)
    before = (tmp_path / "1" / "notes.db").read_bytes()
    with pytest.raises(CorruptionError, match="fails its check"):
        await keeper.restore(of, manifest.id, str(tmp_path / "aside"))
    assert not (tmp_path / "aside").exists()
    assert (tmp_path / "1" / "notes.db").read_bytes() == before
    with pytest.raises(UnavailableError, match="exists"):
        await keeper.restore(of, manifest.id, str(tmp_path / "1"))


async def test_paths_that_lead_out_are_refused(keeper: Keeper, tmp_path: Path) -> None:
    for path, says in (("../notes.db", "leads out"), ("/etc/passwd", "leads out"), (".", "names no database")):
        with pytest.raises(ConfigError, match=says):
            await keeper.take(source(tmp_path / "1", replace(SQLITE, path=path)), 1, 1)


async def test_encrypted_snapshots_need_the_key_and_nobody_is_told_it(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(secrets.token_hex(32) + "\n")
    keeping = replace(SQLITE, key_file=str(key_file))
    keepers = Keepers(tmp_path / "snapshots", lambda service: str(key_file))
    try:
        of = notes(tmp_path / "1", keeping)
        manifest = await keepers.take(of, 1, 1)
        await keepers.verify("notes", manifest.id)
        await keepers.restore(of, manifest.id, str(tmp_path / "aside"))
        assert all(b"CREATE TABLE" not in path.read_bytes() for path in (tmp_path / "snapshots").rglob("*.pack"))
        with pytest.raises(RefusedError):
            await keepers.take(replace(of, keeping=SQLITE), 1, 1)
        key_file.write_text("1234")
        with pytest.raises(ConfigError) as raised:
            await keepers.verify("notes", manifest.id)
        assert "1234" not in raised.value.sentence + raised.value.hint
    finally:
        await keepers.close()


async def test_a_process_that_is_killed_fails_the_call_and_is_started_again(keeper: Keepers, tmp_path: Path) -> None:
    slow = replace(COMMAND, take=("sh", "-c", "sleep 600; true"))
    call = asyncio.create_task(keeper.take(source(tmp_path / "1", slow), 1, 1))
    await until_a_command_runs()
    running = commands()
    later = asyncio.create_task(keeper.kept("notes"))
    await asyncio.sleep(0)
    worker().kill()
    with pytest.raises(UnavailableError, match=r"the keeper of notes ended while it was asked to take \(signal 9\)"):
        await call
    assert await later == []
    assert all_ended(running)
    assert await keeper.take(notes(tmp_path / "2"), 1, 1)


async def test_a_process_that_is_killed_between_calls_is_started_again(keeper: Keepers, tmp_path: Path) -> None:
    of = notes(tmp_path / "1")
    manifest = await keeper.take(of, 1, 1)
    worker().kill()
    for _ in range(20):
        try:
            kept = await keeper.kept("notes")
        except UnavailableError:
            continue
        break
    assert [one.manifest for one in kept] == [manifest]


async def test_calls_of_one_service_wait_for_each_other_and_those_of_another_do_not(
    keeper: Keepers, tmp_path: Path
) -> None:
    lock = tmp_path / "go"
    waiting = replace(COMMAND, take=("sh", "-c", f"while ! test -e {lock}; do sleep 0.01; done; echo x"))
    slow = asyncio.create_task(keeper.take(source(tmp_path / "1", waiting), 1, 1))
    await asyncio.sleep(0)
    behind = asyncio.create_task(keeper.kept("notes"))
    assert await keeper.kept("other") == []
    assert not behind.done()
    lock.touch()
    manifest = await slow
    assert [one.manifest for one in await behind] == [manifest]


async def test_who_gives_up_stops_nothing(keeper: Keepers, tmp_path: Path) -> None:
    of = source(tmp_path / "1", replace(COMMAND, take=("sh", "-c", "sleep 0.2; echo x")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.take(of, 1, 1), 0.05)
    assert [one.manifest.id for one in await keeper.kept("notes")] == ["s-0001"]


async def test_what_is_abandoned_has_no_effect_any_more(keeper: Keepers, tmp_path: Path) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    late = f"cat > /dev/null; touch {began}; while ! test -e {go}; do sleep 0.01; done; echo late > state"
    of = source(tmp_path / "1", replace(COMMAND, take=("echo", "x"), restore=("sh", "-c", late)))
    manifest = await keeper.take(of, 1, 1)
    call = asyncio.create_task(keeper.apply(of, manifest.id, False))
    while not began.exists():  # noqa: ASYNC110 - there is no event: another process does it
        await asyncio.sleep(0.005)
    running = [worker(), *worker().children(recursive=True)]
    call.cancel()
    behind = asyncio.create_task(keeper.kept("notes"))
    await asyncio.sleep(0)
    await keeper.abandon("notes")
    assert not keeper._workers["notes"]._calls and children() == []
    go.touch()
    with pytest.raises(UnavailableError, match="asked to kept, and that was given up"):
        await behind
    assert all_ended(running)
    assert not (tmp_path / "1" / "state").exists()
    assert await keeper.applied(of) is None
    assert [one.manifest for one in await keeper.kept("notes")] == [manifest]
    await keeper.abandon("notes")
    await keeper.abandon("never asked")
    assert await keeper.kept("notes")


async def test_a_call_that_fails_after_its_caller_gave_up_is_no_complaint_of_asyncio(
    keeper: Keepers, tmp_path: Path
) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    of = source(tmp_path / "1", replace(COMMAND, take=("sh", "-c", "sleep 600; true")))
    call = asyncio.create_task(keeper.take(of, 1, 1))
    await until_a_command_runs()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    worker().kill()
    assert await keeper.kept("notes") == []
    del call
    gc.collect()
    assert complaints == []


async def test_closing_ends_what_is_going_on(tmp_path: Path) -> None:
    keepers = Keepers(tmp_path / "snapshots", lambda service: "")
    slow = replace(COMMAND, take=("sh", "-c", "sleep 600; true"))
    calls = [asyncio.create_task(keepers.take(source(tmp_path / "1", slow), 1, 1)) for _ in range(2)]
    await until_a_command_runs()
    running = commands()
    await keepers.close()
    assert all_ended(running)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, UnavailableError | asyncio.CancelledError) for one in results)
    assert children() == []
    with pytest.raises(UnavailableError, match="were ended"):
        await keepers.kept("notes")


DAEMON = """
import asyncio, sys
from pathlib import Path
from perdure.adapters.state.client import Keepers

async def main():
    keepers = Keepers(Path(sys.argv[1]), lambda service: "")
    await keepers.kept("notes")
    (worker,) = keepers._workers.values()
    print(worker._process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(tmp_path)], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_process_dies_with_the_daemon(daemon: subprocess.Popen[bytes]) -> None:
    assert daemon.stdout is not None
    pid = int(daemon.stdout.readline())
    assert psutil.pid_exists(pid)
    # Stopped, it cannot see the end of its input: only the kernel can end it.
    os.kill(pid, signal.SIGSTOP)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    until_at = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until_at
        time.sleep(0.005)


async def test_bulk_work_yields_to_the_service_and_what_somebody_waits_for_does_not(
    keeper: Keepers, tmp_path: Path
) -> None:
    nice = ("sh", "-c", "nice > state; cat state")
    of = source(tmp_path / "1", replace(COMMAND, take=nice, restore=("sh", "-c", "cat > /dev/null; nice > state")))
    manifest = await keeper.take(of, 1, 1)
    assert (tmp_path / "1" / "state").read_text() == "19\n"
    await keeper.apply(of, manifest.id, False)
    assert int((tmp_path / "1" / "state").read_text()) == os.getpriority(os.PRIO_PROCESS, 0)
    assert isinstance(manifest, Manifest)
