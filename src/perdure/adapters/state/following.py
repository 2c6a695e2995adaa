"""A passive replica's database follows the snapshots: only what differs is written, and no mix is ever read.

Nobody runs (cold): the chunks that differ from the snapshot that it was brought to before are written into the file,
under a mark. That is done only while the file looks as it was left then, to the nanosecond; else, or when much differs,
the whole database is written beside it and takes its name. All that is to be written was verified before the first byte
of the file changes.

A process may have it open (warm): an image of the database, kept beside the vault and brought to the snapshot in the
way above, is written through the backup API, one transaction of SQLite's own: readers see the old state or the new one.
That costs writing the whole database; a standby that follows hundreds of megabytes every second should be cold.

Files beside the database (`-wal`, `-journal`) belong to the state before: they are gone before the new one is there.
`process` is the caller.
"""

import os
import time
from contextlib import closing
from pathlib import Path

import apsw

from perdure.adapters.state import database, filesystem, tree
from perdure.adapters.state.place import Applied, Look, Place, look
from perdure.adapters.state.vault import Content, Entry
from perdure.model.errors import UnavailableError

PATCH_BYTES_MAX = 64 << 20
"""Held in memory until all of it is verified."""
BUSY_S = 10.0
CHECKPOINT_BUSY_MS = 200
LOG = "-wal"


def cold(content: Content, since: Content | None, place: Place) -> None:
    """Bring a database that nobody has open to a snapshot; `since` is what `place` says it was brought to."""
    patch = _patch(content, since, place)
    (entry,) = content.entries
    fresh = None
    if patch is None:
        fresh = place.beside("incoming")
        place.make_parents()
        fresh.unlink(missing_ok=True)
        filesystem.require_room(fresh.parent, entry.size)
        try:
            tree.write_file(fresh, entry, content.read(entry.path))
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    place.begin()
    for side in place.sides():
        side.unlink(missing_ok=True)
    if fresh is not None:
        filesystem.sync(place.live.parent)
        fresh.rename(place.live)
    elif patch is not None:
        _write(place.live, entry, patch)
    filesystem.sync(place.live.parent)
    place.complete(Applied(content.manifest, _looks(place)))


def warm(content: Content, since: Content | None, place: Place, image: Place) -> None:
    """Bring a database that a process may have open to a snapshot; `image` is this keeper's own copy.

    `since` is what `image` was brought to. UnavailableError when readers or writers keep it locked for 10 s.
    """
    if not place.live.exists():
        cold(content, None, place)
        return
    applied = place.applied()
    unchanged = applied is not None and applied.manifest.digest == content.manifest.digest
    if applied is not None and unchanged and applied.looks == _looks(place):
        place.note(Applied(content.manifest, applied.looks))
        return
    cold(content, since, image)
    place.begin()
    with closing(database.connect(place.live)) as live, closing(database.frozen(image.live)) as source:
        _replace(live, source)
        if database.in_log_mode(live):
            live.set_busy_timeout(CHECKPOINT_BUSY_MS)
            live.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    place.complete(Applied(content.manifest, _looks(place)))


def _replace(live: apsw.Connection, source: apsw.Connection) -> None:
    until_at = time.monotonic() + BUSY_S
    try:
        with live.backup("main", source, "main") as backup:
            while not backup.done:
                try:
                    backup.step(-1)
                except (apsw.BusyError, apsw.LockedError):
                    # SQLite waited for `BUSY_TIMEOUT_MS` already.
                    if time.monotonic() > until_at:
                        raise
    except apsw.ReadOnlyError as error:
        raise UnavailableError(
            "the passive replica's database has another page size than the snapshot, and is open in log mode",
            'stop the passive replica for one snapshot, or make it `standby = "cold"`',
        ) from error


def _patch(content: Content, since: Content | None, place: Place) -> list[tuple[int, bytes]] | None:
    """What differs, verified; None when the file is not known to be as `since`, or when too much does."""
    applied = place.applied()
    if since is None or applied is None or applied.manifest.digest != since.manifest.digest:
        return None
    if applied.looks != _looks(place) or LOG in applied.looks:
        return None
    if any(side.exists() for side in place.sides()):
        return None
    patch = []
    left = PATCH_BYTES_MAX
    for offset, data in content.changed("", since):
        left -= len(data)
        if left < 0:
            return None
        patch.append((offset, data))
    return patch


def _write(path: Path, entry: Entry, patch: list[tuple[int, bytes]]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        for offset, data in patch:
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
        os.ftruncate(descriptor, entry.size)
        tree.adorn(descriptor, entry)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _looks(place: Place) -> dict[str, Look]:
    """How the database and its log look; an empty log is as good as none."""
    looks = {}
    for name, path in (("", place.live), (LOG, place.live.with_name(place.live.name + LOG))):
        seen = look(path)
        if seen is not None and (name == "" or seen[1]):
            looks[name] = seen
    return looks
