"""The live state is exchanged for one that was restored aside; what was live is kept, so that the same undoes it.

What is exchanged is a list of names: the state itself, and, unless that is the slot's whole directory, the mark that
says to which snapshot it was brought, and the files that belong to a database (`-wal`, `-shm`, `-journal`), which must
never meet another database. Steps, each of which is one system call and can be done again:

    1. the journal is written (`journal`): all names, and which file (device and inode) each one is
    2. the directory for what was live is made
    3. the live side files go there                    from here on `recover` puts them back
    4. the state is exchanged with the incoming one    one call, renameat2(RENAME_EXCHANGE): from here on it completes
    5. what was live goes to its new directory, and the incoming side files take their place
    6. the directories are flushed, and the journal is removed

A file is found by what it is and not by where it should be, so that `recover` needs to know nothing but the journal.
Where two names cannot be exchanged in one call, step 4 is two renames; a death between them leaves no live state, and
`recover` puts the old one back. Nobody may use the state before `recover` has run. What the system refuses is taken
back, or completed, at once; a second refusal is a HalfwayError, and the journal stays for `recover`. Who has it open
for writing is looked for in /proc first: such a process would go on writing to what is no longer live.
"""

import os
from contextlib import suppress
from pathlib import Path

from perdure.adapters.state.filesystem import Disk
from perdure.adapters.state.journal import File, Move, Switch, file_at, is_of_service, load
from perdure.adapters.state.place import Place
from perdure.model.errors import ConflictError, UnavailableError
from perdure.ports.keeper import HalfwayError


def switch(live: Place, incoming: Place, outgoing: Place, disk: Disk | None = None) -> None:
    """Make what is in `incoming` live, and keep what was live in `outgoing`.

    Nothing happens when that was done already.

    ConflictError when a process has the state open; UnavailableError when there is nothing incoming, when `outgoing` is
    taken, or when they lie on different file systems; OSError when the system refuses: with all of them the old state
    is live and whole, and there is no journal. HalfwayError when that could not be brought about."""
    disk = disk or Disk()
    recover(live, disk)
    if _done(live, incoming, outgoing):
        return
    planned = _plan(live, incoming, outgoing)
    _require_nobody(live, planned)
    if live.live != live.directory:
        live.make_parents()
    failed: OSError | None = None
    try:
        _write(planned, live.journal, disk)
        _forward(planned, disk)
    except OSError as error:
        if file_at(live.journal) is None:
            raise
        failed = error
    try:
        complete = _settled(live, planned, disk)
    except HalfwayError:
        complete = _settled(live, planned, disk)
    if failed is not None and not complete:
        raise failed


def require_possible(live: Place, incoming: Place, outgoing: Place) -> None:
    """What `switch` would raise before it begins, but for those who have the state open; nothing is changed."""
    load(live)
    if not _done(live, incoming, outgoing):
        _plan(live, incoming, outgoing)


def recover(live: Place, disk: Disk | None = None) -> bool | None:
    """Bring a half-done switch to its end (True), or take it back (False); None when there is none.

    CorruptionError, and nothing was moved, when its journal is not to be believed; HalfwayError when the system refuses
    what is left to be done."""
    disk = disk or Disk()
    try:
        planned = load(live)
    except OSError as error:
        raise _halfway(live, error) from error
    if planned is None:
        disk.unlink(_unfinished(live.journal))
        return None
    return _settled(live, planned, disk)


def _write(planned: Switch, journal: Path, disk: Disk) -> None:
    new = _unfinished(journal)
    disk.create(new, planned.encode())
    disk.sync(new)
    disk.rename(new, journal)
    disk.sync(journal.parent)


def _settled(live: Place, planned: Switch, disk: Disk) -> bool:
    """Complete it (True) or take it back (False), flush all names, forget the journal; HalfwayError when that fails.

    A journal that stays does no harm to what is complete: all that it says was done, and is flushed."""
    complete = _is_complete(planned.moves[0])
    try:
        (_forward if complete else _back)(planned, disk)
        names = {path.parent for move in planned.moves for path in (move.live, move.incoming, move.outgoing)}
        for directory in sorted(names):
            if directory.is_dir():
                disk.sync(directory)
    except OSError as error:
        raise _halfway(live, error) from error
    _remove_empty(planned, disk, complete)
    try:
        disk.unlink(_unfinished(live.journal))
        disk.unlink(live.journal)
        disk.sync(live.journal.parent)
    except OSError as error:
        if not complete:
            raise _halfway(live, error) from error
    return complete


def _is_complete(state: Move) -> bool:
    """The incoming state has left its name. What is live may be another one by now, if the journal outlived the switch:
    then nothing is put back beside it."""
    return state.live_is(state.new) or (not state.live_is(state.old) and file_at(state.incoming) != state.new)


def _forward(planned: Switch, disk: Disk) -> None:
    state, *sides = planned.moves
    disk.mkdir(state.outgoing.parent)
    if state.old is None:  # An empty directory says that it was done.
        disk.mkdir(planned.outgoing)
    if not _is_complete(state):
        for move in sides:
            if move.old is not None and move.live_is(move.old):
                disk.rename(move.live, move.outgoing)
        _put_live(state, disk)
    if state.old is not None and file_at(state.incoming) == state.old:
        disk.rename(state.incoming, state.outgoing)
    if state.live_is(state.new):
        for move in sides:
            if move.new is not None and file_at(move.incoming) == move.new:
                disk.rename(move.incoming, move.live)


def _put_live(state: Move, disk: Disk) -> None:
    """The one step that decides."""
    if file_at(state.live) is None or not disk.exchange(state.incoming, state.live):
        if file_at(state.live) is not None:
            disk.rename(state.live, state.outgoing)
        disk.rename(state.incoming, state.live)


def _back(planned: Switch, disk: Disk) -> None:
    """The state is still the old one, or has no name; side files may have been moved."""
    state, *sides = planned.moves
    if state.old is not None and file_at(state.live) is None and file_at(state.outgoing) == state.old:
        disk.rename(state.outgoing, state.live)
    if not state.live_is(state.old):
        return
    for move in sides:
        if move.old is not None and file_at(move.outgoing) == move.old:
            disk.rename(move.outgoing, move.live)


def _remove_empty(planned: Switch, disk: Disk, complete: bool) -> None:
    """Directories that have nothing any more; one that cannot be removed is in nobody's way."""
    state = planned.moves[0]
    top, lowest = (planned.incoming, state.incoming) if complete else (planned.outgoing, state.outgoing)
    with suppress(OSError):
        for directory in (lowest, *lowest.parents):
            if directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir()):
                disk.rmdir(directory)
            if directory == top:
                return


def _plan(live: Place, incoming: Place, outgoing: Place) -> Switch:
    names = [(live.live, incoming.live, outgoing.live)]
    if live.live != live.directory:
        names.append((live.applied_mark, incoming.applied_mark, outgoing.applied_mark))
        if not (live.live.is_dir() or incoming.live.is_dir()):
            names += zip(live.sides(), incoming.sides(), outgoing.sides(), strict=True)
    if file_at(incoming.live) is None:
        raise UnavailableError(f"there is nothing to switch to: {incoming.live}", "restore a snapshot aside first")
    if file_at(outgoing.live) is not None:
        raise UnavailableError(f"what was live cannot be kept: {outgoing.live} exists", "name another directory")
    moves = tuple(Move(*three, file_at(three[0]), file_at(three[1])) for three in names)
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
    require_of_service(live, incoming, outgoing)
    return Switch(moves, incoming.directory, outgoing.directory)


def require_of_service(live: Place, incoming: Place, outgoing: Place) -> None:
    """UnavailableError when a directory is one that `recover` would not believe."""
    for one in (incoming, outgoing):
        if not is_of_service(live, one.directory):
            raise UnavailableError(
                f"{one.directory} is not beside the directory of a slot of this service", "restore to `back` there"
            )


def _require_nobody(live: Place, planned: Switch) -> None:
    pids = writers(live.live, {file for move in planned.moves for file in (move.old, move.new) if file is not None})
    if pids:
        raise ConflictError(
            f"process {', '.join(map(str, pids))} has the state {live.live} open", "end it; nothing was changed"
        )


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
    present = [file_at(path) is not None for path in (live.live, incoming.live, outgoing.directory)]
    return present == [True, False, True]


def _unfinished(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-new")


def _halfway(live: Place, error: OSError) -> HalfwayError:
    return HalfwayError(
        f"the state {live.live} is between two, and the system lets it neither forward nor back:"
        f" {error.strerror or error} ({error.filename})",
        "see that its disk works and has room (`dmesg` shows errors); it is tried again before anybody runs on it",
    )


def _device(path: Path) -> int:
    """Of the nearest directory that exists."""
    while not path.exists():
        path = path.parent
    return path.stat().st_dev
