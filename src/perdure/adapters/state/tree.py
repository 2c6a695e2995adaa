"""Writes the files of a snapshot: a whole tree into an empty directory, or one file; nothing leads out of it.

A snapshot may come from another machine, so its paths are looked at before anything is made: each is relative, and each
of its parents is a directory of the same snapshot, never a link. `directory` reads trees, `settling` brings a passive
replica's to a snapshot.
"""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from perdure.adapters.state import filesystem
from perdure.adapters.state.vault import Content, Entry, EntryKind
from perdure.model.errors import CorruptionError

ROOT = "."
"""The path of the entry that says mode, owner and time of the directory itself."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def build(content: Content, root: Path, reused: Callable[[Entry, Path], bool] | None = None) -> None:
    """Make the directory `root` with all that is in the snapshot, and flush it. `reused(entry, path)` may put a file
    there itself, and says whether it did."""
    entries = checked(content.entries)
    root.mkdir(mode=0o700)
    for entry in entries:
        path = root / entry.path
        if entry.kind is EntryKind.DIRECTORY:
            if entry.path != ROOT:
                path.mkdir(mode=0o700)
        elif entry.kind is EntryKind.SYMLINK:
            write_link(path, entry)
        elif reused is None or not reused(entry, path):
            write_file(path, entry, content.read(entry.path), flush=False)
    adorn_directories(root, entries)
    filesystem.sync_tree(root)


def checked(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, parents first; CorruptionError for a path that leads elsewhere."""
    directories = {ROOT}
    seen: set[str] = set()
    ordered = sorted(entries, key=lambda entry: PurePosixPath(entry.path).parts)
    for entry in ordered:
        path = PurePosixPath(entry.path)
        sound = str(path) == entry.path and not path.is_absolute() and ".." not in path.parts and entry.path not in seen
        at_top = entry.path == ROOT
        if not sound or (at_top and entry.kind is not EntryKind.DIRECTORY):
            raise _misplaced(entry.path)
        if not at_top and str(path.parent) not in directories:
            raise _misplaced(entry.path)
        seen.add(entry.path)
        if entry.kind is EntryKind.DIRECTORY:
            directories.add(entry.path)
    return ordered


def write_file(path: Path, entry: Entry, chunks: Iterable[bytes], flush: bool = True) -> None:
    """Write a new file with the mode, owner (when root) and time of the entry; what is half written is removed."""
    descriptor = os.open(path, _CREATE, 0o600)
    try:
        written = 0
        for chunk in chunks:
            view = memoryview(chunk)
            written += len(view)
            while view:
                view = view[os.write(descriptor, view) :]
        if written != entry.size:
            raise CorruptionError(
                f"{entry.path or 'the content'} has {written} bytes in the snapshot, but {entry.size} are noted",
                "go back to another snapshot",
            )
        adorn(descriptor, entry)
        if flush:
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def write_link(path: Path, entry: Entry) -> None:
    """Make a symbolic link; nothing follows it."""
    path.symlink_to(entry.target)
    if os.geteuid() == 0:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def adorn(descriptor: int, entry: Entry) -> None:
    """Give an open file or directory the owner (only root may), mode and time of the entry."""
    if os.geteuid() == 0:
        os.fchown(descriptor, entry.uid, entry.gid)  # Before the mode: it takes set-user-id away.
    os.fchmod(descriptor, entry.mode)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def adorn_directories(root: Path, entries: Sequence[Entry]) -> None:
    """The same for all directories, children first, after all is in them."""
    for entry in reversed(entries):
        if entry.kind is EntryKind.DIRECTORY:
            descriptor = os.open(root / entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                adorn(descriptor, entry)
            finally:
                os.close(descriptor)


def same_attributes(seen: os.stat_result, entry: Entry) -> bool:
    """Whether a regular file has what `adorn` would give it."""
    owned = os.geteuid() != 0 or (seen.st_uid, seen.st_gid) == (entry.uid, entry.gid)
    return (
        owned
        and stat.S_ISREG(seen.st_mode)
        and stat.S_IMODE(seen.st_mode) == entry.mode
        and seen.st_mtime_ns == entry.mtime_ns
    )


def _misplaced(path: str) -> CorruptionError:
    return CorruptionError(
        f"the snapshot holds a path that leads elsewhere: {path!r}",
        "do not use it; if it was imported, ask where it comes from",
    )
