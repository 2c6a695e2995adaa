"""The live state is exchanged for one that was restored aside; what was live is kept, so that the same undoes it.

What is exchanged is a list of names: the state itself, and, unless that is the slot's whole directory, the mark that
says to which snapshot it was brought, and the files that belong to a database (`-wal`, `-shm`, `-journal`), which must
never meet another database. Steps, each of which is one system call and can be done again:

    1. the journal is written beside the state: all names, and which file (device and inode) each one is
    2. the directory for what was live is made
    3. the live side files go there                    from here on `recover` puts them back
    4. the state is exchanged with the incoming one    one call, renameat2(RENAME_EXCHANGE): from here on it completes
    5. what was live goes to its new directory, and the incoming side files take their place
    6. the directories are flushed, and the journal is removed

A file is found by what it is and not by where it should be, so that `recover` needs to know nothing but the journal.
Where two names cannot be exchanged in one call, step 4 is two renames; a death between them leaves no live state, and
`recover` puts the old one back. Nobody may use the state before `recover` has run. Who has it open for writing is
looked for in /proc first: such a process would go on writing to what is no longer live.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.state.filesystem import Disk
from perdure.adapters.state.place import OWN_PREFIX, Place
from perdure.model.errors import ConflictError, CorruptionError, UnavailableError

File = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Move:
    """One name in its three places, and what was live and incoming when the switch began (None: nothing)."""

    live: Path
    incoming: Path
    outgoing: Path
    old: File | None
    new: File | None

    def live_is(self, file: File | None) -> bool:
        """Whether that is live now."""
        return _file(self.live) == file


@dataclass(frozen=True, slots=True)
class Switch:
    """What the journal says; the first move is the state itself, the others are side files."""

    moves: tuple[Move, ...]
    incoming: Path
    outgoing: Path

    def encode(self) -> bytes:
        """As the journal holds it."""
        document = {
            "incoming": str(self.incoming),
            "outgoing": str(self.outgoing),
            "moves": [
                [*(os.fsencode(path).hex() for path in (move.live, move.incoming, move.outgoing)), move.old, move.new]
                for move in self.moves
            ],
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Switch":
        """ValueError, KeyError or TypeError when it is not whole."""
        document = json.loads(content)
        moves = tuple(
            Move(_path(live), _path(incoming), _path(outgoing), _pair(old), _pair(new))
            for live, incoming, outgoing, old, new in document["moves"]
        )
        if not moves:
            raise ValueError("no moves")
        return cls(moves, Path(document["incoming"]), Path(document["outgoing"]))


def switch(live: Place, incoming: Place, outgoing: Place, disk: Disk | None = None) -> None:
    """Make what is in `incoming` live, and keep what was live in `outgoing`.

    Nothing happens when that was done already.

    ConflictError when a process has the state open; UnavailableError, and no change, when there is nothing incoming,
    when `outgoing` is taken, or when they lie on different file systems."""
    disk = disk or Disk()
    recover(live, disk)
    if _done(live, incoming, outgoing):
        return
    planned = _plan(live, incoming, outgoing)
    disk.mkdir(live.live.parent)
    journal = _journal(live)
    new = journal.with_name(f"{journal.name}-new")
    disk.create(new, planned.encode())
    disk.sync(new)
    disk.rename(new, journal)
    disk.sync(journal.parent)
    try:
        _forward(planned, disk)
    except OSError:
        if not planned.moves[0].live_is(planned.moves[0].new):
            _back(planned, disk)
            _finish(live, planned, disk, complete=False)
        raise
    _finish(live, planned, disk, complete=True)


def recover(live: Place, disk: Disk | None = None) -> bool | None:
    """Bring a half-done switch to its end (True), or take it back (False); None when there is none."""
    disk = disk or Disk()
    journal = _journal(live)
    disk.unlink(journal.with_name(f"{journal.name}-new"))
    try:
        planned = Switch.decode(journal.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"the journal of a switch cannot be read: {journal}",
            "look which state is live and which was kept; remove the journal when the live one is the right one",
        ) from error
    state = planned.moves[0]
    complete = state.live_is(state.new)
    if complete:
        _forward(planned, disk)
    else:
        _back(planned, disk)
    _finish(live, planned, disk, complete)
    return complete


def _forward(planned: Switch, disk: Disk) -> None:
    state, *sides = planned.moves
    # When nothing is live, an empty directory says that it was done.
    disk.mkdir(planned.outgoing if state.old is None else state.outgoing.parent)
    for move in sides:
        if move.old is not None and move.live_is(move.old):
            disk.rename(move.live, move.outgoing)
    _put_live(state, disk)
    if state.old is not None and _file(state.incoming) == state.old:
        disk.rename(state.incoming, state.outgoing)
    for move in sides:
        if move.new is not None and _file(move.incoming) == move.new:
            disk.rename(move.incoming, move.live)


def _put_live(state: Move, disk: Disk) -> None:
    """The one step that decides; nothing happens when it was done."""
    if state.live_is(state.new):
        return
    if _file(state.live) is None or not disk.exchange(state.incoming, state.live):
        if _file(state.live) is not None:
            disk.rename(state.live, state.outgoing)
        disk.rename(state.incoming, state.live)


def _back(planned: Switch, disk: Disk) -> None:
    """The state is still the old one, or has no name; side files may have been moved."""
    state, *sides = planned.moves
    if state.old is not None and _file(state.live) is None and _file(state.outgoing) == state.old:
        disk.rename(state.outgoing, state.live)
    for move in sides:
        if move.old is not None and _file(move.outgoing) == move.old:
            disk.rename(move.outgoing, move.live)


def _finish(live: Place, planned: Switch, disk: Disk, complete: bool) -> None:
    """Flush all names, then forget the journal; a directory that has nothing any more is removed."""
    names = {path.parent for move in planned.moves for path in (move.live, move.incoming, move.outgoing)}
    for directory in sorted(names):
        if directory.is_dir():
            disk.sync(directory)
    journal = _journal(live)
    disk.unlink(journal)
    disk.sync(journal.parent)
    state = planned.moves[0]
    top, directory = (planned.incoming, state.incoming) if complete else (planned.outgoing, state.outgoing)
    while directory != top:
        directory = directory.parent
        if directory.is_dir() and not any(directory.iterdir()):
            disk.rmdir(directory)


def _plan(live: Place, incoming: Place, outgoing: Place) -> Switch:
    names = [(live.live, incoming.live, outgoing.live)]
    if live.live != live.directory:
        names.append((live.applied_mark, incoming.applied_mark, outgoing.applied_mark))
        if not live.live.is_dir():
            names += zip(live.sides(), incoming.sides(), outgoing.sides(), strict=True)
    if _file(incoming.live) is None:
        raise UnavailableError(f"there is nothing to switch to: {incoming.live}", "restore a snapshot aside first")
    if _file(outgoing.live) is not None:
        raise UnavailableError(f"what was live cannot be kept: {outgoing.live} exists", "name another directory")
    moves = tuple(Move(*three, _file(three[0]), _file(three[1])) for three in names)
    here = _device(live.live.parent)
    if any(_device(path) != here for path in (incoming.live, outgoing.live)):
        raise UnavailableError(
            f"{incoming.live} and {live.live} are on different file systems, so nothing can be exchanged in one step",
            "restore to a directory beside the live one",
        )
    if os.path.ismount(live.live):
        raise UnavailableError(
            f"{live.live} is a mount point, which cannot be exchanged", "mount it one level higher, or set `state.path`"
        )
    pids = writers(live.live, {file for move in moves for file in (move.old, move.new) if file is not None})
    if pids:
        raise ConflictError(
            f"process {', '.join(map(str, pids))} has the state {live.live} open", "end it; nothing was changed"
        )
    return Switch(moves, incoming.directory, outgoing.directory)


def writers(state: Path, files: set[File]) -> list[int]:
    """Processes, this one excepted, that have one of these files, or one below `state`, open for writing; only those
    that this user may look at."""
    names = [name for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names are all that is needed
    below = f"{state}/"
    return [int(name) for name in names if int(name) != os.getpid() and _writes(name, below, files)]


def _writes(pid: str, below: str, files: set[File]) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(directory)  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    for number in numbers:
        link = Path(directory, number)
        try:
            # The mode of the link says for what it was opened.
            if not link.lstat().st_mode & 0o200:
                continue
            if os.fspath(link.readlink()).startswith(below):
                return True
            seen = link.stat()
        except OSError:
            continue
        if (seen.st_dev, seen.st_ino) in files:
            return True
    return False


def _done(live: Place, incoming: Place, outgoing: Place) -> bool:
    present = [_file(path) is not None for path in (live.live, incoming.live, outgoing.directory)]
    return present == [True, False, True]


def _journal(live: Place) -> Path:
    return live.live.parent / f"{OWN_PREFIX}switch-{live.live.name}"


def _file(path: Path) -> File | None:
    try:
        seen = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_dev, seen.st_ino


def _device(path: Path) -> int:
    """Of the nearest directory that exists."""
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


def _path(text: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(text)))


def _pair(numbers: list[int] | None) -> File | None:
    if numbers is None:
        return None
    device, inode = numbers
    return int(device), int(inode)
