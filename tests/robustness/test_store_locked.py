"""A store that another process has locked, or whose disk is stuck: bounded errors, and then it works again."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_children import ANSWER_TIMEOUT_S, running, wait_for_line

from perdure.adapters.store.sqlite import SQLiteStore
from perdure.model.errors import UnavailableError
from perdure.ports.store import Transaction

CALL_TIMEOUT_S = 2.0
SLACK_S = 0.5
"""For a busy machine: how much later than promised an answer may come."""

LOCKER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("locked", flush=True)
sys.stdin.read()
connection.close()
"""


@contextmanager
def locked(path: Path, *statements: str) -> Iterator[None]:
    """While another process has run these statements on the database and keeps it open."""
    with running(LOCKER, str(path), *statements) as child:
        wait_for_line(child, b"locked\n")
        yield


async def refused_in_s(path: Path, store: SQLiteStore) -> float:
    """How long a commit takes that another process's lock must make fail."""
    began_at = time.monotonic()
    with pytest.raises(UnavailableError, match="locked by another process") as caught:
        await store.commit(Transaction(put={"a": {"n": 2}}, durable=True))
    assert str(path) in caught.value.sentence
    assert caught.value.hint
    return time.monotonic() - began_at


@pytest.mark.parametrize("begin", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
async def test_a_locked_store_is_reported_in_two_seconds_and_works_again_afterwards(tmp_path: Path, begin: str) -> None:
    path = tmp_path / "perdure.db"
    store = await SQLiteStore.open(path)
    await store.commit(Transaction(put={"a": {"n": 1}}))
    with locked(path, begin):
        assert await refused_in_s(path, store) < CALL_TIMEOUT_S + SLACK_S
        assert (await store.read("")).records["a"].value == {"n": 1}
    assert await store.commit(Transaction(put={"a": {"n": 3}}, durable=True)) == 2
    await store.close()


async def test_many_calls_on_a_locked_store_all_fail_in_two_seconds_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    store = await SQLiteStore.open(path)
    with locked(path, "BEGIN EXCLUSIVE"):
        began_at = time.monotonic()
        commits = [store.commit(Transaction(put={"a": {"n": n}})) for n in range(20)]
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert time.monotonic() - began_at < CALL_TIMEOUT_S + SLACK_S
    assert all(isinstance(result, UnavailableError) for result in results)
    assert (await store.read("")).revision == 0
    await store.close()


async def test_a_store_that_somebody_else_keeps_to_itself_cannot_be_opened_and_can_be_later(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    await (await SQLiteStore.open(path)).close()
    with locked(path, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "SELECT * FROM meta"):
        began_at = time.monotonic()
        with pytest.raises(UnavailableError, match="locked by another process"):
            await SQLiteStore.open(path)
        assert time.monotonic() - began_at < CALL_TIMEOUT_S + SLACK_S
    store = await SQLiteStore.open(path)
    assert await store.commit(Transaction()) == 1
    await store.close()


async def test_a_stuck_disk_holds_up_neither_the_loop_nor_the_caller_and_skips_what_was_given_up(
    tmp_path: Path,
) -> None:
    store = await SQLiteStore.open(tmp_path / "perdure.db")
    go_on = threading.Event()
    stuck = asyncio.ensure_future(store._call(lambda _: go_on.wait(ANSWER_TIMEOUT_S)))
    began_at = time.monotonic()
    results = await asyncio.gather(
        stuck, store.commit(Transaction()), store.read(""), store.events(0, 1), return_exceptions=True
    )
    assert time.monotonic() - began_at < CALL_TIMEOUT_S + SLACK_S
    sentences = [result.sentence for result in results if isinstance(result, UnavailableError)]
    assert ["may still happen" in sentence for sentence in sentences] == [True, False, False, False]
    began_at = time.monotonic()
    with pytest.raises(UnavailableError):
        await store.close()
    assert time.monotonic() - began_at < CALL_TIMEOUT_S + SLACK_S
    go_on.set()
    store._worker.join(ANSWER_TIMEOUT_S)
    again = await SQLiteStore.open(tmp_path / "perdure.db")
    assert (await again.read("")).revision == 0
    await again.close()
