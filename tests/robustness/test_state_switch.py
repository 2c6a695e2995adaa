"""The switch of live state: whatever happens in it, and wherever, the state is the old one or the new one."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure.adapters.state import filesystem, switch
from perdure.adapters.state.filesystem import Disk
from perdure.adapters.state.place import Place
from perdure.model.errors import ConflictError, CorruptionError, UnavailableError
from perdure.model.snapshot import Keeping, StateKind

CALLS = ("create", "rename", "exchange", "unlink", "mkdir", "rmdir", "sync")
KINDS = {
    "whole directory": Keeping(StateKind.FILES),
    "directory below": Keeping(StateKind.FILES, path="data/inner"),
    "database": Keeping(StateKind.SQLITE, path="notes.db"),
    "database below": Keeping(StateKind.SQLITE, path="data/notes.db"),
}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of switches are made here; no power is cut, and nobody has anything open unless a test says so."""
    monkeypatch.setattr(filesystem, "sync", lambda path: None)
    monkeypatch.setattr(switch, "writers", lambda state, files: [])


writers = switch.writers


class Death(BaseException):
    """The process ends here."""


class Dying(Disk):
    """Dies before or after a system call, of which it counts all; `torn`: in the middle of writing."""

    def __init__(self, before: int | None = None, after: int | None = None, error: int | None = None) -> None:
        self.count = 0
        self._before, self._after, self._error = before, after, error

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        return self._counted(name, method) if name in CALLS else method

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            self.count += 1
            if self.count == self._before:
                if name == "create":
                    method(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise Death
            if self.count == self._error:
                raise OSError(errno.EIO, "the disk refuses", str(arguments[0]))
            result = method(*arguments)
            if self.count == self._after:
                raise Death
            return result

        return called


class Unable(Disk):
    """A system that cannot exchange two names."""

    def exchange(self, one: Path, other: Path) -> bool:
        return False


class DyingUnable(Dying):
    """The same, dying."""

    def exchange(self, one: Path, other: Path) -> bool:
        return False


class Slot:
    """A live state and a restored one; `state` says which of them is live, `OLD` or `NEW`, and fails for a mix."""

    def __init__(self, directory: Path, keeping: Keeping) -> None:
        self.keeping = keeping
        self.live, self.incoming, self.outgoing = (
            Place.of(directory / name, keeping) for name in ("1", "aside", "before")
        )
        for place, word in ((self.live, "old"), (self.incoming, "new")):
            made = directory.parent / f"made-{word}"
            if not made.exists():
                self.fill(Place.of(made, keeping), word)
            shutil.copytree(made, place.directory)
        self.old, self.new = self.look(self.live), self.look(self.incoming)
        assert self.old != self.new

    def fill(self, place: Place, word: str) -> None:
        if self.keeping.kind is StateKind.FILES:
            (place.live / "sub").mkdir(parents=True)
            (place.live / "sub" / "file").write_text(word)
            (place.live / word).touch()
        else:
            place.live.parent.mkdir(parents=True)
            with closing(apsw.Connection(str(place.live))) as connection:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(word == "old"))
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("PRAGMA synchronous = OFF").fetchall()
                connection.execute(f"CREATE TABLE {word}(a); INSERT INTO {word} VALUES('{word}')").fetchall()
        place.applied_mark.write_text(word)

    def look(self, place: Place) -> dict[str, bytes]:
        """All of the state, the mark and the side files, byte for byte."""
        paths = [place.live, place.applied_mark, *place.sides()]
        if place.live.is_dir():
            paths += [path for path in place.live.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {
            os.path.relpath(path, place.directory): path.read_bytes() if path.is_file() else b""
            for path in paths
            if path.exists()
        }

    def switch(self, disk: Disk | None = None) -> None:
        switch.switch(self.live, self.incoming, self.outgoing, disk)

    def undo(self, disk: Disk | None = None) -> None:
        switch.switch(self.live, self.outgoing, self.incoming, disk)

    def verify_new(self) -> None:
        assert self.look(self.live) == self.new
        assert self.look(self.outgoing) == self.old
        assert not self.incoming.live.exists()
        self.verify_tidy()

    def verify_old(self) -> None:
        assert self.look(self.live) == self.old
        assert self.look(self.incoming) == self.new
        assert not self.outgoing.live.exists()
        self.verify_tidy()

    def verify_tidy(self) -> None:
        assert list(self.live.directory.parent.rglob(".perdure-switch*")) == []


def new_slots(tmp_path: Path, keeping: Keeping) -> Iterator[Slot]:
    number = 0
    while True:
        number += 1
        yield Slot(tmp_path / str(number), keeping)


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


def test_an_error_of_any_system_call_leaves_the_old_or_the_new_state(slots: Iterator[Slot]) -> None:
    counting = Dying()
    next(slots).switch(counting)
    for number in range(1, counting.count + 1):
        slot = next(slots)
        with pytest.raises(OSError, match="the disk refuses"):
            slot.switch(Dying(error=number))
        verify_recovered(slot, switch.recover(slot.live))


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


def test_a_journal_that_cannot_be_read_stops_everything(slots: Iterator[Slot]) -> None:
    slot = next(slots)
    journal = switch._journal(slot.live)
    journal.write_text("{")
    with pytest.raises(CorruptionError, match="journal"):
        switch.recover(slot.live)
    with pytest.raises(CorruptionError, match="journal"):
        slot.switch()
    journal.unlink()
    slot.verify_old()


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
