"""What the tests of the switch share: a slot and what is restored beside it, and disks that die or refuse."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from perdure.adapters.state import switch
from perdure.adapters.state.filesystem import Disk
from perdure.adapters.state.place import Place
from perdure.model.snapshot import Keeping, StateKind

CALLS = ("create", "rename", "exchange", "unlink", "mkdir", "rmdir", "sync")
KINDS = {
    "whole directory": Keeping(StateKind.FILES),
    "directory below": Keeping(StateKind.FILES, path="data/inner"),
    "database": Keeping(StateKind.SQLITE, path="notes.db"),
    "database below": Keeping(StateKind.SQLITE, path="data/notes.db"),
}


class Death(BaseException):
    """The process ends here."""


class Dying(Disk):
    """Dies before or after a system call, of which it counts all; `torn`: in the middle of writing."""

    def __init__(
        self,
        before: int | None = None,
        after: int | None = None,
        error: int | None = None,
        *,
        refuses_on: bool = False,
    ) -> None:
        self.count = 0
        self._before, self._after, self._error, self._refuses_on = before, after, error, refuses_on

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
            if self._error is not None and (
                self.count >= self._error if self._refuses_on else self.count == self._error
            ):
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
            place.live.parent.mkdir(parents=True, exist_ok=True)
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
