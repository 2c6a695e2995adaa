"""One host's claim on a record: what lost answers, rivals and a restored store do to it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from perdure.control.claim import Claim
from perdure.control.tenure import Tenure
from perdure.model import codec
from perdure.model.errors import ConflictError, UnavailableError
from perdure.model.owner import Owner, Right, Terms
from perdure.ports.store import Record, Snapshot, Transaction


@dataclass
class Shelf:
    """One record; the next calls meet `fates`: `lost` (not written), `unheard` (written, no answer), `late` (no answer,
    and written when `arrive` is called), or `away` (the read fails).
    """

    record: Record | None = None
    revision: int = 0
    fates: list[str] = field(default_factory=list)
    arrive: Callable[[], None] = lambda: None
    on_commit: Callable[[], None] = lambda: None

    async def read(self, prefix: str) -> Snapshot:
        if self.fates and self.fates[0] == "away":
            self.fates.pop(0)
            raise UnavailableError("no answer")
        return Snapshot(self.revision, {prefix: self.record} if self.record is not None else {})

    async def commit(self, transaction: Transaction) -> int:
        self.on_commit()
        fate = self.fates.pop(0) if self.fates else ""
        if fate == "late":
            self.arrive = lambda: self.write(transaction)
        if fate in ("lost", "late"):
            raise UnavailableError("no answer")
        self.write(transaction)
        if fate == "unheard":
            raise UnavailableError("no answer")
        return self.revision

    def write(self, transaction: Transaction) -> None:
        [expected], [document] = transaction.expect.values(), transaction.put.values()
        if expected != (self.record.revision if self.record is not None else 0):
            raise ConflictError("somebody else changed it")
        self.revision += 1
        self.record = Record(document, self.revision)

    @property
    def owner(self) -> Owner:
        assert self.record is not None
        return codec.decode(Owner, self.record.value)


@dataclass
class Hand:
    """A clock that is set by hand."""

    at: float = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    async def sleep_until(self, at: float) -> None:
        self.at = max(self.at, at)


def claim(shelf: Shelf, clock: Hand, host: str = "here", terms: Terms | None = None) -> Claim:
    words = itertools.count()
    return Claim("notes", host, clock, shelf, terms or Terms(), lambda: f"{host} {next(words)}")


async def taken(shelf: Shelf, clock: Hand, host: str = "here") -> Claim:
    one = claim(shelf, clock, host)
    await one.look()
    assert await one.take("notes/1")
    return one


async def test_what_is_nobodys_is_taken_and_renewed_in_the_same_epoch() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    assert shelf.owner.epoch == 1 and one.holds(102.4) and not one.holds(102.5)
    clock.at = 101.0
    assert await one.renew()
    assert (shelf.owner.epoch, shelf.owner.sequence) == (1, 1) and one.holds(103.4)


async def test_of_two_hosts_one_alone_succeeds() -> None:
    shelf, clock = Shelf(), Hand()
    one, other = claim(shelf, clock), claim(shelf, clock, "there")
    await one.look()
    await other.look()
    assert await one.take("notes/1")
    assert not await other.take("notes/2")
    assert other.right is None and other.seen.owner is not None and other.seen.owner.host == "here"


async def test_a_rival_waits_for_the_whole_ttl_from_when_it_saw_the_last_change() -> None:
    shelf, clock = Shelf(), Hand()
    await taken(shelf, clock)
    other = claim(shelf, clock, "there")
    clock.at = 101.0
    await other.look()
    clock.at = 104.0
    assert not await other.take("notes/2")
    clock.at = 104.04
    assert await other.take("notes/2")
    assert (shelf.owner.epoch, shelf.owner.slot) == (2, "notes/2")


async def test_an_answer_that_got_lost_is_found_by_reading_and_counts_from_before_it_was_sent() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    clock.at, shelf.fates = 101.0, ["unheard"]
    assert await one.renew()
    assert one.holds(103.4) and not one.holds(103.5)


async def test_a_write_that_was_lost_gives_no_right_and_the_next_one_does() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    clock.at, shelf.fates = 101.0, ["lost"]
    assert not await one.renew()
    assert one.holds(102.4) and not one.holds(102.5)
    assert await one.renew()
    assert one.holds(103.4)


async def test_a_write_that_arrives_after_the_next_one_changes_nothing() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    shelf.fates = ["late"]
    assert not await one.renew()
    assert await one.renew()
    before = shelf.record
    with pytest.raises(ConflictError):
        shelf.arrive()
    assert shelf.record is before


async def test_a_take_that_arrives_late_is_recognised_before_anything_else_is_wanted() -> None:
    shelf, clock = Shelf(), Hand()
    one = claim(shelf, clock)
    await one.look()
    shelf.fates = ["late"]
    assert not await one.take("notes/1")
    shelf.arrive()
    assert not await one.take("notes/2")  # it was for a record that there is no more
    assert (one.right and one.right.slot, shelf.owner.slot, shelf.owner.epoch) == ("notes/1", "notes/1", 1)


async def test_while_the_store_is_away_nothing_is_known_and_the_right_runs_out() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    clock.at, shelf.fates = 101.0, ["unheard", "away", "away"]
    assert not await one.renew()
    assert not await one.renew()
    assert not one.holds(102.5)
    clock.at = 103.0
    assert not await one.renew()  # the first one is found: its right has ended meanwhile, half a second ago or so
    assert one.right is not None and one.right.until_at == 103.5
    assert await one.renew()
    assert one.holds(105.4)


async def test_a_stale_read_takes_no_right_away_and_a_restored_store_goes_on_above() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    old = shelf.record
    assert await one.renew()
    new = shelf.record
    shelf.record = old
    await one.look()
    assert one.holds(clock.now())
    shelf.record = new
    assert await one.renew()
    assert old is not None
    backup = replace(shelf.owner, host="there", epoch=0)
    shelf.record, shelf.revision = Record(codec.encode(backup), 1), 1
    clock.at = 110.0
    await one.look()
    assert one.right is None
    clock.at = 113.1
    assert await one.take("notes/1")
    assert shelf.owner.epoch == 2


async def test_who_gives_it_up_lets_others_in_at_once() -> None:
    shelf, clock = Shelf(), Hand()
    one = await taken(shelf, clock)
    assert await one.release()
    assert not one.holds(clock.now())
    other = claim(shelf, clock, "there")
    await other.look()
    assert await other.take("notes/2")
    assert shelf.owner.epoch == 2


async def test_a_term_gives_the_fence_every_new_deadline_and_tells_of_every_change() -> None:
    shelf, clock = Shelf(), Hand()
    held: list[Right] = []
    changes: list[float] = []
    tenure = Tenure(claim(shelf, clock), clock, held.append, lambda: changes.append(clock.at))
    await tenure.step()
    assert tenure.known and not held
    assert await tenure.take("notes/1")
    assert [one.until_at for one in held] == [102.5]
    clock.at = 101.0
    assert await tenure.step() == 102.0
    assert [one.until_at for one in held] == [102.5, 103.5]
    shelf.fates = ["lost", "away"] * 30
    while clock.at < 103.5:
        clock.at = max(clock.at + 0.01, await tenure.step())
    await tenure.step()
    assert tenure.claim.right is None and len(held) == 2 and changes[-1] >= 103.5
