"""Makes the directory of a release: a copy that its programs may write to, out of contents that none of them can reach.

Every byte is hashed on its way. The copy is made aside, flushed, and gets its name last, so a directory of that name is
whole; which list it has is written down before that, so that nothing it needs can be removed. A hard link would be
cheaper, and would let a program that writes to a file of its own change it in all releases; where the file system can
share blocks between files (btrfs, XFS), the copy takes no room either. Neighbours: `objects` has the contents,
`retaining` reads what is written down here.
"""

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.bundle import failures, manifest
from perdure.adapters.bundle.rooms import PASSABLE, Rooms
from perdure.adapters.state import disk, filesystem
from perdure.model.bundle import DIRECTORY_MODE, Entry, EntryKind
from perdure.model.errors import ConflictError
from perdure.ports.bundle import Account

PIECE_BYTES = 1024 * 1024
SHARED_BYTES_MIN = 64 * 1024
"""For smaller files, handing over the bytes that were just hashed is as cheap as asking the kernel to copy them."""
_NOT_BY_THE_KERNEL = frozenset((errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM))
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be laid out: which list, for which release, and whom it will belong to (None: this process)."""

    digest: str
    service: str
    number: int
    account: Account | None = None


def lay_out(rooms: Rooms, order: Order) -> Path:
    """Make the directory of a release, unless it is there; OSError for what is below `rooms`."""
    target = rooms.directory(order.service, order.number)
    _make_way(rooms, target, order.account)
    known = laid(rooms).get((order.service, order.number))
    if target.is_dir():
        if known == order.digest:
            return target
        raise ConflictError(
            f"{order.service}@{order.number} has other files already, in {target}",
            "perdure releases; a new release gets a new number",
        )
    entries = manifest.read(rooms, order.digest)
    with rooms.aside() as aside:
        if known != order.digest:
            _write_down(rooms, aside, order)
        built = aside / "release"
        _build(rooms, entries, built, order.account)
        filesystem.sync_tree(built)
        built.rename(target)
    filesystem.sync(target.parent)
    return target


def laid(rooms: Rooms) -> dict[tuple[str, int], str]:
    """The list of each release of each service."""
    found = {}
    for path in rooms.laid.iterdir():
        service, _, number = path.name.rpartition("@")
        found[service, int(number)] = path.read_text("ascii").strip()
    return found


def note_of(rooms: Rooms, service: str, number: int) -> Path:
    """Where it is written down which list a release has."""
    return rooms.laid / f"{service}@{number}"


def _write_down(rooms: Rooms, aside: Path, order: Order) -> None:
    new = aside / "note"
    disk.write_new(new, f"{order.digest}\n".encode("ascii"))
    new.rename(note_of(rooms, order.service, order.number))
    filesystem.sync(rooms.laid)


def _make_way(rooms: Rooms, target: Path, account: Account | None) -> None:
    """Whoever the service runs as must be able to come to its directory, and need see nothing on the way."""
    if not target.parent.is_dir():
        target.parent.mkdir(mode=PASSABLE)
        filesystem.sync(rooms.root)
    target.parent.chmod(PASSABLE)
    if account is not None and account.uid != os.geteuid():
        mode = rooms.home.stat().st_mode & 0o777
        rooms.home.chmod(mode | 0o001)


def _build(rooms: Rooms, entries: Sequence[Entry], root: Path, account: Account | None) -> None:
    """The list is sorted, so a directory comes before what is in it."""
    _directory(root, account)
    for entry in entries:
        path = root / entry.path
        match entry.kind:
            case EntryKind.DIRECTORY:
                _directory(path, account)
            case EntryKind.LINK:
                path.symlink_to(entry.target)
                if account is not None:
                    os.chown(path, account.uid, account.gid, follow_symlinks=False)
            case EntryKind.FILE:
                _file(rooms.objects / entry.digest, path, entry, account)


def _directory(path: Path, account: Account | None) -> None:
    path.mkdir()
    path.chmod(DIRECTORY_MODE)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _file(source: Path, target: Path, entry: Entry, account: Account | None) -> None:
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise failures.missing(source) from None
    try:
        writing = os.open(target, _CREATE, 0o600)
        try:
            if _copied(reading, writing, entry.size) != entry.digest:
                raise failures.damaged(source, f"it is not {entry.path} any more, whose digest is its name")
            if account is not None:
                os.fchown(writing, account.uid, account.gid)
            os.fchmod(writing, entry.mode)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copied(reading: int, writing: int, size: int) -> str:
    """Copy a file, and return the digest of what was read for it."""
    sha256 = hashlib.sha256()
    by_the_kernel = size >= SHARED_BYTES_MIN
    for offset, piece in _pieces(reading):
        sha256.update(piece)
        by_the_kernel = by_the_kernel and _copy(reading, writing, offset, len(piece))
        if not by_the_kernel:
            _write_at(writing, offset, piece)
    return sha256.hexdigest()


def _pieces(reading: int) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while piece := os.pread(reading, PIECE_BYTES, offset):
        yield offset, piece
        offset += len(piece)


def _copy(reading: int, writing: int, offset: int, size: int) -> bool:
    """Let the kernel copy, or share, these bytes; False where it cannot, whatever it has done of it."""
    end = offset + size
    while offset < end:
        try:
            count = os.copy_file_range(reading, writing, end - offset, offset, offset)
        except OSError as error:
            if error.errno in _NOT_BY_THE_KERNEL:
                return False
            raise
        if count == 0:
            return False
        offset += count
    return True


def _write_at(writing: int, offset: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        count = os.pwrite(writing, view, offset)
        view = view[count:]
        offset += count
