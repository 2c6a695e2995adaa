"""Where the parts of a slot's state are, and the marks that say to which snapshot it was brought.

    <slot's directory>/<path>                the state itself
    <slot's directory>/.perdure-applied      the snapshot that it was brought to last, and how its files looked then
    <slot's directory>/.perdure-applying     an `apply` is not complete: the state is between two snapshots
    beside the state, .perdure-<what>-<its name>    what is being built
    beside the slot's directory, .perdure-switch-<its name>-<digest>    the journal of a switch

A directory that was restored aside is laid out in the same way. All names that begin with `.perdure-` at the top are
Perdure's: they are in no copy, and in no comparison.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from perdure.adapters.state import filesystem
from perdure.model import codec
from perdure.model.errors import ConfigError, CorruptionError
from perdure.model.snapshot import Keeping, Manifest, StateKind

OWN_PREFIX = ".perdure-"
SIDE_SUFFIXES = ("-wal", "-shm", "-journal")
"""Files that belong to an SQLite database (sqlite.org/tempfiles.html); with another database they destroy it."""
DIGEST_DIGITS = 16

Look = tuple[int, int, int, int]
"""Inode, size, and the two times in nanoseconds: as long as all are the same, nobody wrote to the file."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `.perdure-applied` holds; `looks` are of the files as they were left, by path below the state."""

    manifest: Manifest
    looks: dict[str, Look]


@dataclass(frozen=True, slots=True)
class Place:
    """The state of a slot, or one that is laid out like it."""

    directory: Path
    live: Path

    @classmethod
    def of(cls, directory: str | Path, keeping: Keeping) -> "Place":
        """ConfigError when the path leads out of the directory, or names no database."""
        path = PurePosixPath(keeping.path)
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(
                f"the path {keeping.path!r} of the state leads out of the slot's directory", "correct `state.path`"
            )
        if keeping.kind is StateKind.SQLITE and not path.parts:
            raise ConfigError("the path of the state names no database", 'say which file it is: `path = "data.db"`')
        whole = keeping.kind is StateKind.COMMAND
        root = Path(directory)
        return cls(root, root / STREAM_NAME if whole else root.joinpath(*path.parts))

    def make_parents(self) -> None:
        """Make the directories between the slot's own and the state, with the owner of the slot's, and flush their
        names."""
        self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        seen = self.directory.stat()
        missing = [one for one in (self.live.parent, *self.live.parent.parents) if not one.exists()]
        for directory in reversed(missing):
            directory.mkdir(mode=0o750)
            if os.geteuid() == 0:
                # The service's user may have put a link there meanwhile.
                os.chown(directory, seen.st_uid, seen.st_gid, follow_symlinks=False)
            filesystem.sync(directory.parent)

    def beside(self, what: str) -> Path:
        """A name of Perdure's own on the same file system."""
        return self.live.parent / f"{OWN_PREFIX}{what}-{self.live.name}"

    def sides(self) -> list[Path]:
        """The names of the files that belong to the database."""
        return [self.live.with_name(self.live.name + suffix) for suffix in SIDE_SUFFIXES]

    def applied(self) -> Applied | None:
        """To what it was brought; None: to nothing, or half."""
        if self._applying.exists():
            return None
        return self.noted()

    def noted(self) -> Applied | None:
        """What the mark says, also when an `apply` was begun since; None when it cannot be read."""
        try:
            descriptor = os.open(self.applied_mark, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            try:
                document = json.loads(file.read())
                looks = {str(path): _look(numbers) for path, numbers in document["looks"].items()}
                return Applied(codec.decode(Manifest, document["manifest"]), looks)
            except (ValueError, KeyError, TypeError, AttributeError, CorruptionError):
                return None

    def begin(self) -> None:
        """Say that the state is between two snapshots from now on."""
        filesystem.write(self._applying, b"")
        self.applied_mark.unlink(missing_ok=True)

    def complete(self, applied: Applied) -> None:
        """Say that it is at one; the state itself was flushed before."""
        self.note(applied)
        self._applying.unlink(missing_ok=True)
        filesystem.sync(self.directory)

    def note(self, applied: Applied) -> None:
        """Write down to which snapshot it was brought."""
        document = {"manifest": codec.encode(applied.manifest), "looks": applied.looks}
        filesystem.write(self.applied_mark, json.dumps(document).encode())

    @property
    def journal(self) -> Path:
        """The journal of a switch of this state: where the service's user cannot write (`journal`)."""
        below = os.fsencode(self.live.relative_to(self.directory))
        digest = hashlib.sha256(below).hexdigest()[:DIGEST_DIGITS]
        return self.directory.parent / f"{OWN_PREFIX}switch-{self.directory.name}-{digest}"

    @property
    def applied_mark(self) -> Path:
        """The file that names the snapshot."""
        return self.directory / f"{OWN_PREFIX}applied"

    @property
    def _applying(self) -> Path:
        return self.directory / f"{OWN_PREFIX}applying"


STREAM_NAME = f"{OWN_PREFIX}stream"
"""Kind `command`: what `take` wrote, in a directory that was restored aside."""


def look(path: Path) -> Look | None:
    """How a file looks now; None when there is none."""
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _look(numbers: object) -> Look:
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise ValueError(numbers)
    inode, size, mtime_ns, ctime_ns = (int(number) for number in numbers)
    return inode, size, mtime_ns, ctime_ns
