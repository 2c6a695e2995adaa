"""The switch of live state: whatever happens in it, and wherever, the state is the old one or the new one."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.adapters.state import filesystem, switch
from perdure.adapters.state.filesystem import Disk
from perdure.adapters.state.place import Place
from perdure.model.errors import ConflictError, UnavailableError
from perdure.ports.keeper import HalfwayError
from switching import KINDS, Death, Dying, DyingUnable, Slot, Unable, new_slots


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of switches are made here; no power is cut, and nobody has anything open unless a test says so."""
    monkeypatch.setattr(filesystem, "sync", lambda path: None)
    monkeypatch.setattr(switch, "writers", lambda state, files: [])


writers = switch.writers


@pytest.fixture(params=KINDS, ids=str)
def slots(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Slot]:
    """Fresh ones, as many as are needed."""
    return new_slots(tmp_path, KINDS[request.param])


@pytest.mark.parametrize("disk", [Disk(), Unable()], ids=["exchange", "two renames"])
def test_the_new_state_is_live_and_the_old_one_kept_and_the_same_undoes_it(slots: Iterator[Slot], disk: Disk) -> None:
    slot = next(slots)
    for _ in range(3):
        slot.switch(disk)
        slot.verify_new()
        slot.switch(disk)
        slot.verify_new()
        slot.undo(disk)
        slot.verify_old()
        slot.undo(disk)
        slot.verify_old()
    assert switch.recover(slot.live) is None


@pytest.mark.parametrize("kind", [Dying, DyingUnable], ids=["exchange", "two renames"])
def test_death_before_or_after_every_system_call_leaves_the_old_or_the_new_state(
    slots: Iterator[Slot], kind: type[Dying]
) -> None:
    counting = kind()
    next(slots).switch(counting)
    assert counting.count > 10
    outcomes = set()
    for number in range(1, counting.count + 1):
        for dying in (kind(before=number), kind(after=number)):
            slot = next(slots)
            with pytest.raises(Death):
                slot.switch(dying)
            outcomes.add(verify_recovered(slot, switch.recover(slot.live)))
            # The switch is repeated by whoever had asked for it.
            slot.switch()
            slot.verify_new()
    assert outcomes == {True, False, None}


def verify_recovered(slot: Slot, outcome: bool | None) -> bool | None:
    if outcome is True or (outcome is None and not slot.incoming.live.exists()):
        slot.verify_new()
    else:
        slot.verify_old()
    assert switch.recover(slot.live) is None
    return outcome


@pytest.mark.parametrize("kind", [Dying, DyingUnable], ids=["exchange", "two renames"])
def test_death_in_the_recovery_of_a_death_changes_nothing(slots: Iterator[Slot], kind: type[Dying]) -> None:
    counting = kind()
    next(slots).switch(counting)
    for number in range(1, counting.count + 1):
        again = 0
        while True:
            again += 1
            slot = next(slots)
            with pytest.raises(Death):
                slot.switch(kind(after=number))
            try:
                switch.recover(slot.live, kind(before=again))
            except Death:
                verify_recovered(slot, switch.recover(slot.live))
            else:
                break


def test_after_an_error_the_old_state_is_whole_and_after_success_the_new_one(slots: Iterator[Slot]) -> None:
    counting = Dying()
    next(slots).switch(counting)
    outcomes = set()
    for number in range(1, counting.count + 1):
        slot = next(slots)
        try:
            slot.switch(Dying(error=number))
        except OSError as error:
            assert "the disk refuses" in str(error)
            outcomes.add("old")
            slot.live.journal.with_name(f"{slot.live.journal.name}-new").unlink(missing_ok=True)
            slot.verify_old()
        else:
            outcomes.add("new")
            assert slot.look(slot.live) == slot.new
            assert switch.recover(slot.live) in (None, True)
            slot.verify_new()
        slot.switch()
        slot.verify_new()
    assert outcomes == {"old", "new"}


@pytest.mark.parametrize("kind", [Dying, DyingUnable], ids=["exchange", "two renames"])
def test_a_disk_that_refuses_everything_from_some_moment_on_ends_halfway_or_in_one_of_both(
    slots: Iterator[Slot], kind: type[Dying]
) -> None:
    counting = kind()
    next(slots).switch(counting)
    outcomes = set()
    for number in range(1, counting.count + 1):
        slot = next(slots)
        try:
            slot.switch(kind(error=number, refuses_on=True))
        except HalfwayError as error:
            outcomes.add("halfway")
            assert "the disk refuses" in error.sentence
            with pytest.raises(HalfwayError):
                switch.recover(slot.live, kind(error=1, refuses_on=True))
            verify_recovered(slot, switch.recover(slot.live))
        except OSError:
            outcomes.add("old")
            assert not slot.live.journal.exists()
            assert slot.look(slot.live) == slot.old
        else:
            outcomes.add("new")
            assert slot.look(slot.live) == slot.new
            assert slot.look(slot.outgoing) == slot.old
            if slot.live.journal.exists():
                verify_stale_journal_is_harmless(slot)
    assert outcomes == {"halfway", "old", "new"}


class Unremoving(Disk):
    """A disk that lets nothing be removed, and, if so told, nothing exchanged."""

    def __init__(self, exchanges: bool) -> None:
        self._exchanges = exchanges

    def unlink(self, path: Path) -> None:
        if path.exists():
            raise OSError(errno.EIO, "the disk refuses", str(path))

    def exchange(self, one: Path, other: Path) -> bool:
        if not self._exchanges:
            raise OSError(errno.EIO, "the disk refuses", str(one))
        return super().exchange(one, other)


def test_a_journal_that_cannot_be_removed_is_halfway_with_the_old_state_and_no_harm_with_the_new_one(
    slots: Iterator[Slot],
) -> None:
    slot = next(slots)
    with pytest.raises(HalfwayError):
        slot.switch(Unremoving(exchanges=False))
    assert slot.look(slot.live) == slot.old
    with pytest.raises(HalfwayError):
        switch.recover(slot.live, Unremoving(exchanges=False))
    assert verify_recovered(slot, switch.recover(slot.live)) is False
    slot = next(slots)
    for _ in range(2):
        slot.switch(Unremoving(exchanges=True))
        assert switch.recover(slot.live, Unremoving(exchanges=True)) is True
        assert slot.live.journal.exists()
    assert switch.recover(slot.live) is True
    slot.verify_new()


def test_side_files_are_not_put_back_beside_another_database_than_theirs(tmp_path: Path) -> None:
    slots = new_slots(tmp_path, KINDS["database"])
    counting = Dying()
    next(slots).switch(counting)
    seen = 0
    for number in range(1, counting.count + 1):
        slot = next(slots)
        with pytest.raises(Death):
            slot.switch(Dying(after=number))
        if not slot.outgoing.sides()[0].exists() or slot.outgoing.live.exists():
            continue
        seen += 1
        other = slot.live.live.with_name("other")
        other.write_bytes(b"another database")
        other.rename(slot.live.live)
        switch.recover(slot.live)
        assert slot.live.live.read_bytes() == b"another database"
        assert not slot.live.sides()[0].exists()
    assert seen


def verify_stale_journal_is_harmless(slot: Slot) -> None:
    """The service replaces its state, as a whole, before anybody recovers."""
    for path in (slot.live.live, slot.live.applied_mark, *slot.live.sides()):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    slot.fill(slot.live, "third")
    third = slot.look(slot.live)
    assert switch.recover(slot.live) is True
    assert slot.look(slot.live) == third
    assert slot.look(slot.outgoing) == slot.old
    slot.verify_tidy()


def test_nothing_that_was_live_is_no_obstacle(slots: Iterator[Slot]) -> None:
    slot = next(slots)
    slot.live.live.rename(slot.live.directory.with_name("elsewhere"))
    for path in (slot.live.applied_mark, *slot.live.sides()):
        path.unlink(missing_ok=True)
    slot.switch()
    assert slot.look(slot.live) == slot.new
    slot.switch()
    assert slot.look(slot.live) == slot.new
    slot.verify_tidy()


def test_what_cannot_be_done_changes_nothing(slots: Iterator[Slot]) -> None:
    slot = next(slots)
    nothing = Place.of(slot.live.directory.with_name("nothing"), slot.keeping)
    with pytest.raises(UnavailableError, match="nothing to switch to"):
        switch.switch(slot.live, nothing, slot.outgoing)
    with pytest.raises(UnavailableError, match="exists"):
        switch.switch(slot.live, slot.incoming, slot.incoming)
    elsewhere = Place.of(Path("/dev/shm") / f"perdure-{os.getpid()}", slot.keeping)
    if Path("/dev/shm").stat().st_dev != slot.live.directory.stat().st_dev:
        with pytest.raises(UnavailableError, match="different file systems"):
            switch.switch(slot.live, slot.incoming, elsewhere)
    slot.verify_old()


def test_state_that_a_process_has_open_is_not_switched(slots: Iterator[Slot], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "writers", writers)
    slot = next(slots)
    path = slot.live.live / "sub" / "file" if slot.live.live.is_dir() else slot.live.live
    program = "import sys; file = open(sys.argv[1], 'r+b'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(ConflictError, match=f"process {child.pid} has the state"):
            slot.switch()
        slot.verify_old()
        child.communicate()
    slot.switch()
    slot.verify_new()


def test_the_log_of_the_old_database_is_never_beside_the_new_one(tmp_path: Path) -> None:
    """At no moment: a program that opens the database without waiting for `recover` may find it without its log, but
    never with a wrong one."""
    slots = new_slots(tmp_path, KINDS["database"])
    counting = Dying()
    next(slots).switch(counting)
    for number in range(1, counting.count + 1):
        slot = next(slots)
        with pytest.raises(Death):
            slot.switch(Dying(after=number))
        if slot.live.live.read_bytes() == slot.new["notes.db"]:
            assert not slot.live.sides()[0].exists()
