"""State that is a directory: a copy of all that is in it, of one moment when the service can be held still.

The copy is made in two passes, through a mirror that is kept beside the vault from one snapshot to the next. The first
pass brings the mirror up to date while the service works: only files that look different (inode, size, both times) are
read. Then the service is held still, and the second pass, which has only what changed in between, makes the mirror
exact; the service goes on, and the vault reads the mirror at leisure. So a pause is as long as looking at all names and
copying what changed within the last moments; reading the changed files first, with the service stopped, would make it
as long as what changed since the last snapshot. The price is one more copy of the state on the disk.

A look is believed only when a later write must change it. A page that a program has mapped and dirtied is written again
without a new time until the kernel has flushed it: so the first pass looks, flushes, and only then reads. And the clock
of files ticks some milliseconds apart: what changed just before it was looked at is read again, as is all that the
second pass read.

With `consistency = "pause"` the processes are stopped (`pausing`), for two seconds at the most: what needs longer is
copied with the service running and tried again, and given up after that. With `"command"` the service's own commands
are run before and after, the second one in every case. Where nobody runs, there is nobody to hold still. With `"none"`
each file is as it was at one moment: one that changes while it is read is read again, and after that the snapshot
fails.

Sockets, fifos and devices are no state: they are left out, and the preview of a loss (`difference`) names them. Several
names of one file (hard links) become several files. `tree` writes a tree back.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from perdure.adapters.state import filesystem, pausing, stream, tree
from perdure.adapters.state.place import OWN_PREFIX, Look, Place
from perdure.adapters.state.vault import Draft, Entry, EntryKind, Vault
from perdure.model.errors import UnavailableError
from perdure.model.snapshot import Consistency, Manifest
from perdure.ports.keeper import Source

PAUSE_S_MAX = 1.5
GUARD_S = 0.4
"""So much later the service goes on whatever the copier does. Both together are less than a replica may be silent
without being convicted (`detect.probe.PAUSE_S`): else its own snapshot would get it ended as one that hangs."""
PAUSES_MAX = 3
READS_MAX = 3
TICK_NS = 20_000_000
"""More than the clock that dates files ever lags (`CONFIG_HZ` = 100)."""
_NO_COPY = frozenset((errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EIO))
UNSURE: Look = (0, 0, 0, 0)
"""The look of no file: what has it is read again."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing in the tree; `path` is relative to it."""

    path: str
    kind: EntryKind
    seen: os.stat_result

    @property
    def look(self) -> Look:
        """As `place.look` says it."""
        return self.seen.st_ino, self.seen.st_size, self.seen.st_mtime_ns, self.seen.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of the tree in the mirror: when it was exact, and what is in no copy."""

    taken_at: float
    entries: list[Entry]
    left_out: list[str] = field(default_factory=list)


class Changing(Exception):
    """Something changed while it was read, or there was no time to read it."""


class Mirror:
    """A copy of one slot's tree; only regular files are in it, each under a number."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looks: dict[str, tuple[Look, str]] = {}
        self._next = 0
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)

    def take(self, vault: Vault, draft: Draft, source: Source) -> Manifest:
        """Put a copy of the source's tree into the vault."""
        began_at = time.monotonic()
        copied = self.copy(source)
        dated = Draft(draft.service, draft.slot, draft.kind, draft.epoch, draft.data_epoch, copied.taken_at)
        with vault.begin(dated) as intake:
            for entry in copied.entries:
                if entry.kind is EntryKind.FILE:
                    with self.file(entry.path).open("rb") as file:
                        intake.entry(entry, file)
                else:
                    intake.entry(entry, None)
            return intake.commit(time.monotonic() - began_at)

    def file(self, path: str) -> Path:
        """Where the copy of a file of the tree is."""
        return self._directory / self._looks[path][1]

    def copy(self, source: Source) -> Copied:
        """Make the mirror exact; UnavailableError when the tree does not hold still."""
        root = Place.of(source.directory, source.keeping).live
        if not root.is_dir():
            raise UnavailableError(
                f"there is no directory {root}", "start the service once so that it makes it, or correct `state.path`"
            )
        consistency = source.keeping.consistency
        self._pass(root, None, prepare=True)
        if consistency is Consistency.PAUSE and source.pid is not None:
            return self._while_paused(root, source.pid)
        if consistency is Consistency.COMMAND and source.pid is not None:
            with _between_commands(source):
                return self._exact(root, None)
        return self._exact(root, None)

    def _while_paused(self, root: Path, pid: int) -> Copied:
        for last in (False,) * (PAUSES_MAX - 1) + (True,):
            until_at = time.monotonic() + PAUSE_S_MAX
            with suppress(Changing), pausing.paused(pid, PAUSE_S_MAX + GUARD_S):
                copied = self._exact(root, until_at)
                if time.monotonic() < until_at + GUARD_S / 2:
                    return copied
            if last:
                raise _restless(root, f"looking at it and copying what changes takes longer than {PAUSE_S_MAX:g} s")
            self._pass(root, None, prepare=True)
        raise AssertionError("the last round returns or raises")

    def _exact(self, root: Path, until_at: float | None) -> Copied:
        """The second pass: one that must succeed."""
        for last in (False,) * (READS_MAX - 1) + (True,):
            taken_at = time.time()
            found, left_out, missed = self._pass(root, until_at)
            if not missed:
                return Copied(taken_at, [_entry(one, root) for one in found], left_out)
            if until_at is not None and time.monotonic() > until_at:
                raise Changing
            if last:
                raise _restless(root, f"{missed[0]} changes while it is read")
        raise AssertionError("the last round returns or raises")

    def _pass(
        self, root: Path, until_at: float | None, prepare: bool = False
    ) -> tuple[list[Found], list[str], list[str]]:
        """Copy what looks different; what was found, what is no state, and the files that did not hold still.

        `prepare`: the first pass, whose looks are believed later."""
        tick_at_ns = time.time_ns() - TICK_NS
        found, left_out = scan(root)
        files = [one for one in found if one.kind is EntryKind.FILE]
        here = {one.path for one in files}
        for path in [path for path in self._looks if path not in here]:
            self.file(path).unlink(missing_ok=True)
            del self._looks[path]
        different = [one for one in files if not self._has(one)]
        if different and prepare:
            filesystem.sync_tree(root)
        missed = []
        for one in different:
            if not self._fetch(root, one, until_at):
                missed.append(one.path)
            elif prepare and one.seen.st_ctime_ns < tick_at_ns:
                self._looks[one.path] = (one.look, self._looks[one.path][1])
        return found, left_out, missed

    def _has(self, one: Found) -> bool:
        known = self._looks.get(one.path)
        return known is not None and known[0] == one.look

    def _fetch(self, root: Path, one: Found, until_at: float | None) -> bool:
        """Copy one file; False when it is another now than it was when the tree was looked at, or the time is up."""
        known = self._looks.get(one.path)
        name = known[1] if known else self._name()
        self._looks[one.path] = (UNSURE, name)
        target = self._directory / name
        target.touch()
        try:
            descriptor = os.open(root / one.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            with target.open("wb") as copy:
                return _copy(descriptor, copy.fileno(), until_at) and _look(os.fstat(descriptor)) == one.look
        finally:
            os.close(descriptor)

    def _name(self) -> str:
        self._next += 1
        return str(self._next)


def scan(root: Path) -> tuple[list[Found], list[str]]:
    """All in the tree but Perdure's own files, parents first; and the names of what is no state."""
    found = [Found(tree.ROOT, EntryKind.DIRECTORY, root.stat())]
    left_out: list[str] = []
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(root / parent) as inside:
                names = sorted(inside, key=lambda one: one.name)
        except FileNotFoundError:
            continue  # Removed meanwhile: the next pass does not find it.
        for one in names:
            if not parent and one.name.startswith(OWN_PREFIX):
                continue
            path = f"{parent}{one.name}"
            try:
                seen = one.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            kind = _kind(seen.st_mode)
            if kind is None:
                left_out.append(path)
                continue
            found.append(Found(path, kind, seen))
            if kind is EntryKind.DIRECTORY:
                waiting.append(f"{path}/")
    return found, left_out


def _kind(mode: int) -> EntryKind | None:
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    if stat.S_ISDIR(mode):
        return EntryKind.DIRECTORY
    return EntryKind.SYMLINK if stat.S_ISLNK(mode) else None


def _entry(one: Found, root: Path) -> Entry:
    seen = one.seen
    return Entry(
        path=one.path,
        kind=one.kind,
        mode=stat.S_IMODE(seen.st_mode),
        uid=seen.st_uid,
        gid=seen.st_gid,
        mtime_ns=seen.st_mtime_ns,
        size=seen.st_size if one.kind is EntryKind.FILE else 0,
        target=os.fspath((root / one.path).readlink()) if one.kind is EntryKind.SYMLINK else "",
    )


def _look(seen: os.stat_result) -> Look:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _copy(source: int, target: int, until_at: float | None) -> bool:
    """Within one file system the kernel copies, or shares the blocks. False when the time is up."""
    copy = _by_the_kernel
    while True:
        if until_at is not None and time.monotonic() > until_at:
            return False
        try:
            if not copy(source, target):
                return True
        except OSError as error:
            if copy is _by_hand or error.errno not in _NO_COPY:
                raise
            copy = _by_hand  # Both descriptors stand where they stood.


def _by_the_kernel(source: int, target: int) -> int:
    return os.copy_file_range(source, target, filesystem.COPY_BYTES)


def _by_hand(source: int, target: int) -> int:
    chunk = os.read(source, filesystem.COPY_BYTES)
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]
    return len(chunk)


@contextmanager
def _between_commands(source: Source) -> Iterator[None]:
    try:
        if source.keeping.before:
            stream.run(source, source.keeping.before, "before")
        yield
    finally:
        if source.keeping.after:
            stream.run(source, source.keeping.after, "after")


def _restless(root: Path, why: str) -> UnavailableError:
    return UnavailableError(
        f"{root} cannot be copied: {why}",
        'use `consistency = "pause"` or `"command"`, or keep what changes all the time elsewhere',
    )
