"""The SQLite store keeps the contract of `ports.store`, on real files."""

import asyncio
import json
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.adapters.store import tables
from perdure.adapters.store.sqlite import WATCH_BATCH, SQLiteStore
from perdure.model.errors import ConflictError, UnavailableError
from perdure.model.event import Event, Severity
from perdure.ports.store import Change, Snapshot, Store, Transaction


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    opened = await SQLiteStore.open(tmp_path / "perdure.db")
    yield opened
    await opened.close()


def values(snapshot: Snapshot) -> dict[str, Any]:
    return {key: record.value for key, record in snapshot.records.items()}


def numbers(events: Sequence[Event]) -> list[int]:
    return [event.number for event in events]


def modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


async def take(store: Store, prefix: str, after: int, count: int) -> list[Change]:
    """The first changes of a watch, which must come within a second."""
    found: list[Change] = []
    async with asyncio.timeout(1.0), aclosing(cast(Any, store.watch(prefix, after))) as changes:
        async for change in changes:
            found.append(change)
            if len(found) == count:
                break
    return found


def test_it_is_a_store(tmp_path: Path) -> None:
    kind: type[Store] = SQLiteStore
    assert kind is SQLiteStore


async def test_a_new_store_is_empty_private_and_in_a_directory_of_its_own_files(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    store = await SQLiteStore.open(path)
    assert await store.read("") == Snapshot(0, {})
    await store.commit(Transaction(put={"a": {}}, durable=True))
    assert modes(tmp_path) == {f"perdure.db{end}": 0o600 for end in ("", "-wal", "-shm", "-mark")}
    await store.close()
    assert modes(tmp_path) == {"perdure.db": 0o600, "perdure.db-mark": 0o600}


async def test_a_store_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    await (await SQLiteStore.open(path)).close()
    path.chmod(0o644)
    await (await SQLiteStore.open(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("durable", [True, False])
async def test_what_was_committed_is_read_back_after_reopening(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "perdure.db"
    store = await SQLiteStore.open(path)
    document = {"text": 'quote " and \\ and é \udce9 \x00', "list": [1, 2.5, None, True], "nested": {"a": {}}}
    first = await store.commit(Transaction(put={"k/1": document, "k/2": {}}, durable=durable))
    second = await store.commit(Transaction(put={"k/2": {"n": 2}}, durable=durable))
    assert (first, second) == (1, 2)
    await store.close()
    again = await SQLiteStore.open(path)
    snapshot = await again.read("k/")
    assert snapshot.revision == 2
    assert values(snapshot) == {"k/1": document, "k/2": {"n": 2}}
    assert [record.revision for record in snapshot.records.values()] == [1, 2]
    await again.close()


async def test_a_prefix_is_taken_literally(store: SQLiteStore) -> None:
    keys = ["a%b/1", "a_b/1", "axb/1", "a", "a/", "a0", "b", 'quo"te', "é/1"]
    await store.commit(Transaction(put={key: {} for key in keys}))
    for prefix in [*keys, "", "a%", "a_", "c"]:
        assert list((await store.read(prefix)).records) == sorted(key for key in keys if key.startswith(prefix))


async def test_a_document_may_change_after_the_call_without_changing_the_store(store: SQLiteStore) -> None:
    document = {"n": 1}
    committing = asyncio.ensure_future(store.commit(Transaction(put={"a": document})))
    await asyncio.sleep(0)
    document["n"] = 2
    await committing
    assert values(await store.read("")) == {"a": {"n": 1}}


async def test_a_failed_expectation_changes_nothing(store: SQLiteStore) -> None:
    await store.commit(Transaction(put={"a": {"n": 1}, "b": {}}))
    event = Event("R01", "web", "happened")
    failing: list[dict[str, int]] = [{"a": 0}, {"a": 2}, {"c": 1}, {"a": 1, "b": 0}]
    for expect in failing:
        with pytest.raises(ConflictError) as caught:
            await store.commit(Transaction(expect=expect, put={"a": {"n": 2}}, delete=["b"], events=[event]))
        assert caught.value.hint
    snapshot = await store.read("")
    assert (snapshot.revision, values(snapshot)) == (1, {"a": {"n": 1}, "b": {}})
    assert await store.events(0, 10) == []


async def test_expectations_hold_for_present_and_missing_keys(store: SQLiteStore) -> None:
    await store.commit(Transaction(expect={"a": 0}, put={"a": {}}))
    await store.commit(Transaction(expect={"a": 1, "b": 0}, put={"b": {}}))
    await store.commit(Transaction(expect={"b": 2}, delete=["b"]))
    assert await store.commit(Transaction(expect={"b": 0}, put={"b": {}})) == 4


async def test_of_many_who_compare_and_swap_at_once_exactly_one_wins_each_round(store: SQLiteStore) -> None:
    async def add_one() -> None:
        while True:
            record = (await store.read("n")).records.get("n")
            count, revision = (record.value["n"], record.revision) if record else (0, 0)
            try:
                await store.commit(Transaction(expect={"n": revision}, put={"n": {"n": count + 1}}))
            except ConflictError:
                continue
            return

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert values(await store.read("n")) == {"n": {"n": 20}}
    assert (await store.read("n")).revision == 20


async def test_calls_are_done_in_the_order_in_which_they_were_made(store: SQLiteStore) -> None:
    commits = [store.commit(Transaction(put={"a": {"n": n}}, durable=n % 7 == 0)) for n in range(50)]
    committing = asyncio.gather(*commits)
    await asyncio.sleep(0)
    snapshot = await store.read("")
    assert await committing == list(range(1, 51))
    assert values(snapshot) == {"a": {"n": 49}}


async def test_a_document_that_is_not_json_is_a_bug_and_changes_nothing(store: SQLiteStore) -> None:
    documents: list[dict[str, Any]] = [{"n": float("nan")}, {"n": float("inf")}, {"n": {1, 2}}]
    for document in documents:
        with pytest.raises((TypeError, ValueError)):
            await store.commit(Transaction(put={"a": document}))
    assert (await store.read("")).revision == 0


async def test_events_are_numbered_without_gaps_and_come_back_whole(store: SQLiteStore) -> None:
    first = Event(
        "R01", "web/2", "it's \udce9 \x00", {"n": 1, "f": 0.1, "b": True, "z": None}, Severity.ALARM, 1.7e9 + 1 / 3
    )
    await store.commit(Transaction(events=[first, Event("R02", "daemon", "two")]))
    with pytest.raises(ConflictError):
        await store.commit(Transaction(expect={"a": 9}, events=[Event("R03", "web", "never")]))
    await store.commit(Transaction(events=[Event("R04", "web", "three")], durable=True))
    found = await store.events(0, 10)
    assert [event.number for event in found] == [1, 2, 3]
    assert (found[0].facts, found[0].wall_at, found[0].severity) == (first.facts, first.wall_at, Severity.ALARM)
    assert [event.sentence for event in found] == ["it's \\udce9 \x00", "two", "three"]


async def test_events_are_read_from_a_number_from_the_end_and_by_service(store: SQLiteStore) -> None:
    subjects = ["web", "web/1", "webby", "api/1", "web/2", "daemon"] * 5
    await store.commit(Transaction(events=[Event("R01", subject, "x") for subject in subjects]))
    assert numbers(await store.events(27, 10)) == [28, 29, 30]
    assert numbers(await store.events(3, 2)) == [4, 5]
    assert numbers(await store.events(-3, 10)) == [28, 29, 30]
    assert numbers(await store.events(-3, 2)) == [28, 29]
    assert numbers(await store.events(-99, 2)) == [1, 2]
    assert numbers(await store.events(0, 0)) == []
    assert numbers(await store.events(0, -1)) == []
    assert {event.subject for event in await store.events(0, 99, "web")} == {"web", "web/1", "web/2"}
    assert numbers(await store.events(-2, 10, "web")) == [26, 29]
    assert numbers(await store.events(-99, 10, "api")) == [4, 10, 16, 22, 28]
    assert await store.events(-5, 10, "missing") == []


async def test_a_watch_gives_what_happened_before_and_after_it_began(store: SQLiteStore) -> None:
    await store.commit(Transaction(put={"a/1": {"n": 1}, "b/1": {}}))
    await store.commit(Transaction(put={"a/2": {"n": 2}}, delete=["a/1", "a/missing"]))
    watching = asyncio.ensure_future(take(store, "a/", 0, 4))
    await asyncio.sleep(0)
    await store.commit(Transaction(put={"b/2": {}}))
    await store.commit(Transaction(put={"a/3": {"n": 3}}))
    found = await watching
    seen = [(change.key, change.record and dict(change.record.value), change.revision) for change in found]
    assert seen == [("a/1", {"n": 1}, 1), ("a/2", {"n": 2}, 2), ("a/1", None, 2), ("a/3", {"n": 3}, 4)]
    assert all(change.record is None or change.record.revision == change.revision for change in found)


async def test_a_watch_sees_a_commit_at_once(store: SQLiteStore) -> None:
    watcher = asyncio.ensure_future(take(store, "a", 0, 1))
    await asyncio.sleep(0)
    await store.read("")  # The first look of the watcher is done before this one.
    began_at = time.monotonic()
    await store.commit(Transaction(put={"a": {}}))
    await watcher
    assert time.monotonic() - began_at < 0.2


async def test_a_watch_sees_a_commit_whose_caller_gave_up(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = asyncio.ensure_future(take(store, "a", 0, 1))
    await store.read("")
    begun, go_on = threading.Event(), threading.Event()
    commit = tables.Tables.commit

    def slow_commit(self: tables.Tables, writes: tables.Writes) -> tuple[int, bool]:
        begun.set()
        assert go_on.wait(1.0)
        return commit(self, writes)

    monkeypatch.setattr(tables.Tables, "commit", slow_commit)
    task = asyncio.ensure_future(store.commit(Transaction(put={"a": {}})))
    assert await asyncio.to_thread(begun.wait, 1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert [change.revision for change in await watcher] == [1]


async def test_a_watch_does_not_look_again_until_there_is_something_to_see(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    changes = tables.Tables.changes

    def counted(self: tables.Tables, prefix: str, after: tables.Place, limit: int) -> Any:
        looks.append(prefix)
        return changes(self, prefix, after, limit)

    monkeypatch.setattr(tables.Tables, "changes", counted)
    watching = asyncio.ensure_future(take(store, "a", 0, 2))
    for key in ("a", "b", "b", "b"):
        await store.commit(Transaction(put={key: {}}))
    for _ in range(20):
        await store.read("")
    assert 1 <= len(looks) <= 2
    await store.commit(Transaction(put={"a": {}}))
    await watching
    assert len(looks) <= 3


async def test_a_watch_that_falls_behind_within_a_transaction_is_told_and_does_not_skip(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(cast(Any, store.watch("a/", 0))) as changes:
        await store.commit(Transaction(put={f"a/{n:04}": {} for n in range(WATCH_BATCH + 100)}))
        seen = [await anext(changes) for _ in range(WATCH_BATCH)]
        monkeypatch.setattr(tables, "CHANGES_KEPT", 20)
        monkeypatch.setattr(tables, "TRIM_BATCH", 5)
        for n in range(10):
            await store.commit(Transaction(put={f"a/late{n}": {}}))
        with pytest.raises(ConflictError):
            await anext(changes)
    assert len(seen) == WATCH_BATCH


async def test_slow_watchers_do_not_hold_up_commits_and_still_get_everything_in_order(store: SQLiteStore) -> None:
    async with aclosing(cast(Any, store.watch("a/", 0))) as changes:
        await store.commit(Transaction(put={"a/0": {}}))
        seen = [await anext(changes)]
        for n in range(1, 1200):
            await store.commit(Transaction(put={f"a/{n}": {}}))
        async with asyncio.timeout(5.0):
            while len(seen) < 1200:
                seen.append(await anext(changes))
    assert [change.revision for change in seen] == list(range(1, 1201))


async def test_a_large_transaction_reaches_a_watcher_whole(store: SQLiteStore) -> None:
    await store.commit(Transaction(put={f"a/{n}": {"n": n} for n in range(1234)}))
    found = await take(store, "a/", 0, 1234)
    assert [change.record and change.record.value["n"] for change in found] == list(range(1234))


async def test_a_watch_from_a_revision_that_is_no_longer_kept_or_not_yet_there_is_a_conflict(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHANGES_KEPT", 20)
    monkeypatch.setattr(tables, "TRIM_BATCH", 5)
    for n in range(60):
        await store.commit(Transaction(put={"a": {"n": n}}))
    for after in (0, 61):
        with pytest.raises(ConflictError) as caught:
            await take(store, "a", after, 1)
        assert caught.value.hint
    assert len(await take(store, "a", 40, 20)) == 20
    kept = await store._call(lambda opened: opened._value("SELECT count(*) FROM changes"))
    assert 20 <= kept <= 25


async def test_a_watch_of_a_quiet_prefix_survives_any_number_of_changes_elsewhere(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHANGES_KEPT", 20)
    monkeypatch.setattr(tables, "TRIM_BATCH", 5)
    watching = asyncio.ensure_future(take(store, "quiet/", 0, 1))
    for n in range(200):
        await store.commit(Transaction(put={"busy": {"n": n}}))
    await store.commit(Transaction(put={"quiet/1": {}}))
    assert [change.key for change in await watching] == ["quiet/1"]


async def test_the_histories_are_bounded_and_the_numbers_go_on(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "EVENTS_KEPT", 50)
    monkeypatch.setattr(tables, "TRIM_BATCH", 10)
    for _ in range(30):
        await store.commit(Transaction(events=[Event("R01", "web", "x")] * 7))
    numbers = [event.number for event in await store.events(0, 1000)]
    assert numbers == list(range(numbers[0], 211))
    assert 50 <= len(numbers) <= 60


async def test_a_restart_also_cuts_the_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "EVENTS_KEPT", 5)
    for _ in range(10):
        store = await SQLiteStore.open(tmp_path / "perdure.db")
        await store.commit(Transaction(events=[Event("R01", "web", "x")] * 10))
        await store.close()
    store = await SQLiteStore.open(tmp_path / "perdure.db")
    assert [event.number for event in await store.events(0, 1000)] == [96, 97, 98, 99, 100]
    await store.close()


async def test_a_closed_store_refuses_and_ends_its_watches_and_its_thread(tmp_path: Path) -> None:
    threads = threading.active_count()
    store = await SQLiteStore.open(tmp_path / "perdure.db")
    watching = asyncio.ensure_future(take(store, "a", 0, 1))
    await store.read("")
    last = asyncio.ensure_future(store.commit(Transaction(put={"b": {}})))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await last == 1
    with pytest.raises(UnavailableError, match="closed"):
        await watching
    with pytest.raises(UnavailableError, match="closed"):
        await store.read("")
    assert threading.active_count() == threads


async def test_ending_a_watch_leaves_nothing_behind(store: SQLiteStore) -> None:
    await store.commit(Transaction(put={"a": {}}))
    await take(store, "a", 0, 1)
    task = asyncio.ensure_future(take(store, "a", 1, 1))
    await store.read("")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not store._watchers


async def test_a_sound_store_passes_its_check(store: SQLiteStore) -> None:
    await store.commit(Transaction(put={"a": {}}))
    await store.check()
    assert (await store.read("")).revision == 1


async def test_the_file_can_be_read_with_any_sqlite_tool(store: SQLiteStore, tmp_path: Path) -> None:
    await store.commit(Transaction(put={"a": {"n": 1}}))
    # A second connection of this process would drop the store's locks when it is closed, so a copy is read.
    for end in ("", "-wal"):
        (tmp_path / f"copy.db{end}").write_bytes((tmp_path / f"perdure.db{end}").read_bytes())
    connection = sqlite3.connect(tmp_path / "copy.db")
    try:
        assert [json.loads(text) for (text,) in connection.execute("SELECT value FROM records")] == [{"n": 1}]
    finally:
        connection.close()
