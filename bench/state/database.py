"""The database that the bench copies: it is made, changed by known rows, and looked at.

Notes are text as people write it, made of drawn words with a number in hexadecimal among them: half of it is what zstd
leaves of such a page. Everything is drawn from a seed, so that two files that are changed with the same seeds hold the
same rows.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import apsw

from bench.processes import BenchError

NAME = "data.db"
SCHEMA = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, changed_at REAL NOT NULL, note TEXT NOT NULL);
CREATE INDEX orders_by_customer ON orders (customer);
CREATE TABLE acknowledged (n INTEGER PRIMARY KEY, at REAL NOT NULL, note TEXT NOT NULL);
"""
CUSTOMERS = 100_000
OTHER_BYTES = 40
"""What a row takes beside its note. Ten rows of 400 bytes fill a page; the index comes on top of it."""
NUMBER_BYTES = 16
WORDS = 4_000
PHRASES = 50_000
ROWS_A_TRANSACTION = 100
MADE_AT = 1.7e9
BUSY_TIMEOUT_MS = 10_000
CHECKPOINT_PAGES = 1_000
"""The default of SQLite."""


class Shape(StrEnum):
    """Which rows are changed."""

    SCATTERED = "scattered at random"
    """Nine in ten of them are updated, the others deleted."""
    END = "at the end"
    """Half of them are the last ones, updated, and half are new."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Rows of `orders`."""

    inserted: int
    updated: int
    deleted: int


class Notes:
    """Notes of a length."""

    def __init__(self, characters: int) -> None:
        rng = random.Random("notes")
        words = ["".join(rng.choices("aeiounrtsldm", k=rng.randint(2, 9))) for _ in range(WORDS)]
        length = (characters - 2 * NUMBER_BYTES) // 2
        self._phrases = [" ".join(rng.choices(words, k=length // 3))[:length] for _ in range(PHRASES)]

    def draw(self, rng: random.Random) -> str:
        """One of them."""
        first, second = rng.choices(self._phrases, k=2)
        return f"{first}{rng.randbytes(NUMBER_BYTES).hex()}{second}"


def make(path: Path, rows: int, size_bytes: int) -> Notes:
    """Make a database in log mode with so many orders, of about this size; what draws the notes for its changes."""
    notes = Notes(size_bytes // rows - OTHER_BYTES)
    rng = random.Random("orders")
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(SCHEMA).fetchall()
        with connection:
            connection.executemany(
                "INSERT INTO orders VALUES (?, ?, ?, ?)",
                ((number, rng.randrange(CUSTOMERS), MADE_AT, notes.draw(rng)) for number in range(1, rows + 1)),
            )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return notes


def change(
    path: Path, shape: Shape, count: int, seed: int, notes: Notes, *, checkpoint_pages: int = CHECKPOINT_PAGES
) -> Changed:
    """Change so many orders, in transactions of a hundred, as a service would. `checkpoint_pages`: so long may the log
    become before it is written back; 0: somebody else does that.
    """
    rng = random.Random(f"{shape} {seed}")
    with closing(apsw.Connection(str(path))) as connection:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}").fetchall()
        last = int(connection.execute("SELECT max(id) FROM orders").get)
        if shape is Shape.SCATTERED:
            ids = [row[0] for row in connection.execute("SELECT id FROM orders")]
            chosen = rng.sample(ids, count)
            updated, deleted, inserted = chosen[count // 10 :], chosen[: count // 10], range(0)
        else:
            rows = connection.execute("SELECT id FROM orders ORDER BY id DESC LIMIT ?", (count // 2,)).fetchall()
            updated, deleted = [row[0] for row in rows], []
            inserted = range(last + 1, last + 1 + count - len(updated))
        at = MADE_AT + seed
        for some in _batches(updated):
            with connection:
                given = [(at, notes.draw(rng), number) for number in some]
                connection.executemany("UPDATE orders SET changed_at = ?, note = ? WHERE id = ?", given)
        for some in _batches(deleted):
            with connection:
                connection.executemany("DELETE FROM orders WHERE id = ?", [(number,) for number in some])
        for some in _batches(inserted):
            with connection:
                drawn = [(number, rng.randrange(CUSTOMERS), at, notes.draw(rng)) for number in some]
                connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", drawn)
    return Changed(len(inserted), len(updated), len(deleted))


def looks_like(path: Path) -> tuple[object, ...]:
    """A few figures by which two databases with other orders differ."""
    with closing(_opened(path)) as connection:
        row = connection.execute("SELECT count(*), sum(customer), sum(changed_at), sum(id) FROM orders").fetchone()
    assert row is not None
    return tuple(row)


def acknowledged(path: Path, until: int) -> int:
    """How many of the rows that were acknowledged up to this number are there. BenchError when one of them is missing
    and a later one is not.
    """
    with closing(_opened(path)) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(max(n), 0) FROM acknowledged WHERE n <= ?", (until,)
        ).fetchone()
    assert row is not None
    count, last = row
    assert isinstance(count, int)
    if count != last:
        raise BenchError(f"{path} has {count} of the {last} rows up to its last one")
    return count


def written_at(path: Path, number: int) -> float:
    """When a row was written (Unix time)."""
    with closing(_opened(path)) as connection:
        at = connection.execute("SELECT at FROM acknowledged WHERE n = ?", (number,)).get
    assert isinstance(at, float)
    return at


def _opened(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[begin : begin + ROWS_A_TRANSACTION] for begin in range(0, len(ids), ROWS_A_TRANSACTION))
