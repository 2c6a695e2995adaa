"""A process that writes to the store is killed at random moments: nothing that it was told is kept is lost."""

import asyncio
import random
import time
from pathlib import Path

from store_children import ANSWER_TIMEOUT_S, running

from perdure.adapters.store.sqlite import SQLiteStore
from perdure.ports.store import Transaction

WRITER = """
import asyncio, os, sys
from pathlib import Path
from perdure.adapters.store.sqlite import SQLiteStore
from perdure.model.event import Event
from perdure.ports.store import Transaction

async def main():
    store = await SQLiteStore.open(Path(sys.argv[1]))
    records = (await store.read("")).records
    n = records["a"].value["n"] if records else 0
    while True:
        n += 1
        large = {f"large/{i}": {"n": n, "text": "x" * 2000} for i in range(n % 9)}
        revision = await store.commit(Transaction(
            put={"a": {"n": n}, "b": {"n": n}, **large}, delete=[f"large/{i}" for i in range(n % 9, 9)],
            events=[Event("R01", "web", str(n))] * 2, durable=n % 5 == 0))
        os.write(1, b"%d %d\\n" % (n, revision))

asyncio.run(main())
"""


def wait_for_first_file(directory: Path) -> None:
    """Return as soon as there is a file; fails when none comes."""
    deadline_at = time.monotonic() + ANSWER_TIMEOUT_S
    while not any(directory.iterdir()):
        assert time.monotonic() < deadline_at


async def killed_writer(path: Path, delay_s: float) -> tuple[int, int]:
    """Let a process write, kill it so long after its first transaction; the last acknowledged one, and its revision."""
    with running(WRITER, str(path)) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        await asyncio.sleep(delay_s)
        child.kill()
        lines += child.stdout.read().splitlines()
    number, revision = lines[-1].split()
    return int(number), int(revision)


async def test_no_acknowledged_transaction_is_lost_and_none_is_half_there_however_often_the_writer_is_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "perdure.db"
    chance = random.Random(20)
    revision_before = 0
    for _ in range(15):
        acknowledged, revision = await killed_writer(path, chance.uniform(0.0, 0.15))
        store = await SQLiteStore.open(path)
        await store.check()
        snapshot = await store.read("")
        number = snapshot.records["a"].value["n"]
        # The one that was being committed when the signal came may be there or not.
        assert number in (acknowledged, acknowledged + 1)
        assert snapshot.revision == number
        assert revision == acknowledged
        assert snapshot.revision > revision_before
        assert {record.value["n"] for record in snapshot.records.values()} == {number}
        assert len(snapshot.records) == 2 + number % 9
        last = await store.events(-2, 10)
        assert [(event.number, event.sentence) for event in last] == [
            (2 * number - 1, str(number)),
            (2 * number, str(number)),
        ]
        revision_before = snapshot.revision
        await store.close()


async def test_a_start_that_is_killed_at_any_moment_leaves_no_store_or_a_whole_one(tmp_path: Path) -> None:
    chance = random.Random(3)
    whole = 0
    for n in range(12):
        path = tmp_path / str(n) / "perdure.db"
        path.parent.mkdir()
        with running(WRITER, str(path)) as child:
            await asyncio.to_thread(wait_for_first_file, path.parent)
            await asyncio.sleep(chance.uniform(0.0, 0.01))
            child.kill()
        store = await SQLiteStore.open(path)
        whole += (await store.read("")).revision > 0
        assert await store.commit(Transaction(durable=True)) > 0
        await store.close()
    assert whole < 12, "every start was over before it was killed"
