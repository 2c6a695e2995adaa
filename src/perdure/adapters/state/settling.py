"""A passive replica's directory is brought to a snapshot.

Nobody runs: a whole tree is built beside the old one and exchanged with it in one step. Files that did not change, and
that look as they were left, get a second name instead of being written again; the old tree is removed after that.

A process may have it open: such a process may stand in the directory itself, and would be left in a tree that nobody
sees if it were exchanged. So files are replaced one by one, each in one step: a reader sees each file old or new, the
tree as a whole only at the end. A service that needs more should be cold. `tree` writes the files.
"""

import os
import shutil
import stat
from pathlib import Path

from perdure.adapters.state import directory, filesystem, tree
from perdure.adapters.state.place import OWN_PREFIX, Applied, Look, Place
from perdure.adapters.state.vault import Content, Entry, EntryKind


def restore(content: Content, place: Place) -> None:
    """Build the snapshot's tree in a directory that does not exist yet."""
    filesystem.require_room(place.directory.parent, sum(entry.size for entry in content.entries))
    if place.live != place.directory:
        place.directory.mkdir(mode=0o700)
        place.live.parent.mkdir(parents=True, exist_ok=True)
    tree.build(content, place.live)
    place.note(Applied(content.manifest, _looks(place.live)))


def cold(content: Content, since: Content | None, place: Place) -> None:
    """Exchange the tree for the snapshot's; `since` is what `place` says it was brought to."""
    disk = filesystem.Disk()
    incoming = place.beside("incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    place.make_parents()
    unchanged = _Unchanged(content, since, place)
    needed = sum(entry.size for entry in content.entries if not unchanged.holds(entry))
    filesystem.require_room(place.live.parent, needed)
    try:
        tree.build(content, incoming, unchanged.link)
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    place.begin()
    if not place.live.exists():
        incoming.rename(place.live)
    elif disk.exchange(incoming, place.live):
        shutil.rmtree(incoming)
    else:
        outgoing = place.beside("outgoing")
        shutil.rmtree(outgoing, ignore_errors=True)
        place.live.rename(outgoing)
        incoming.rename(place.live)
        shutil.rmtree(outgoing)
    filesystem.sync(place.live.parent)
    place.complete(Applied(content.manifest, _looks(place.live)))


def warm(content: Content, since: Content | None, place: Place) -> None:
    """Replace, file by file, what differs from the snapshot."""
    entries = tree.checked(content.entries)
    unchanged = _Unchanged(content, since, place)
    place.make_parents()
    filesystem.require_room(place.directory, max((entry.size for entry in entries), default=0))
    place.begin()
    root = place.live
    root.mkdir(mode=0o700, exist_ok=True)
    for entry in entries:
        path = root / entry.path
        if entry.kind is EntryKind.DIRECTORY:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
                path.mkdir(mode=0o700)
        elif not unchanged.holds(entry):
            _replace(content, entry, path)
    _remove_others(root, {entry.path for entry in entries})
    tree.adorn_directories(root, entries)
    filesystem.sync_tree(root)
    place.complete(Applied(content.manifest, _looks(root)))


class _Unchanged:
    """Which files of the tree are the snapshot's already: they look as they were left, and the two snapshots agree."""

    def __init__(self, content: Content, since: Content | None, place: Place) -> None:
        applied = place.applied()
        known = since is not None and applied is not None and applied.manifest.digest == since.manifest.digest
        self._looks = applied.looks if known and applied is not None else {}
        self._root = place.live
        self._content = content
        self._since = since
        self._before = {entry.path: entry for entry in since.entries} if since is not None else {}

    def holds(self, entry: Entry) -> bool:
        """Whether the live file is what the entry says, attributes included."""
        look = self._looks.get(entry.path)
        before = self._before.get(entry.path)
        if look is None or before is None or self._since is None or entry.kind is not EntryKind.FILE:
            return False
        if before.kind is not EntryKind.FILE or before.size != entry.size:
            return False
        try:
            seen = (self._root / entry.path).lstat()
        except OSError:
            return False
        as_left = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns) == look
        if not as_left or not tree.same_attributes(seen, entry):
            return False
        return next(self._content.changed(entry.path, self._since), None) is None

    def link(self, entry: Entry, path: Path) -> bool:
        """Give it a second name; False when it must be written."""
        if not self.holds(entry):
            return False
        os.link(self._root / entry.path, path, follow_symlinks=False)
        return True


def _replace(content: Content, entry: Entry, path: Path) -> None:
    new = path.with_name(f"{OWN_PREFIX}incoming-{os.getpid()}")
    new.unlink(missing_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    if entry.kind is EntryKind.SYMLINK:
        tree.write_link(new, entry)
    else:
        tree.write_file(new, entry, content.read(entry.path), flush=False)
    new.rename(path)


def _remove_others(root: Path, wanted: set[str]) -> None:
    """Remove what is not in the snapshot; sockets and the like stay, with the directory they are in."""
    found, _ = directory.scan(root)
    for one in reversed(found):
        if one.path in wanted:
            continue
        path = root / one.path
        if one.kind is EntryKind.DIRECTORY:
            if not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _looks(root: Path) -> dict[str, Look]:
    found, _ = directory.scan(root)
    return {one.path: one.look for one in found if stat.S_ISREG(one.seen.st_mode)}
