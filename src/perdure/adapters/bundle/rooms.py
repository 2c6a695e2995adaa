"""Where the files of releases lie, and how what was begun and not finished is cleared away.

    releases/web/7/          the directory of web@7, in which its replicas run
    releases/.objects/       each content once, named by its SHA-256, read-only
    releases/.manifests/     lists, named by theirs: see `manifest`
    releases/.laid/web@7     the digest of the list that web@7 has
    releases/.incoming/      what is being made, or removed; nothing in it counts

No name of a service begins with a dot. All is on one file system, so that a finished thing gets its place by a rename.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.state import filesystem

PASSABLE = 0o711
"""Others may pass through on their way to a release, and see nothing else."""
PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Rooms:
    """The directories below `root`, which is itself in the daemon's own."""

    root: Path

    @property
    def home(self) -> Path:
        """The daemon's own: nothing in it belongs to a release, and its replicas must come through it."""
        return self.root.parent

    @property
    def objects(self) -> Path:
        """Contents."""
        return self.root / ".objects"

    @property
    def manifests(self) -> Path:
        """Lists."""
        return self.root / ".manifests"

    @property
    def laid(self) -> Path:
        """Which release has which list."""
        return self.root / ".laid"

    @property
    def incoming(self) -> Path:
        """Work in progress."""
        return self.root / ".incoming"

    def directory(self, service: str, number: int) -> Path:
        """The release's own."""
        return self.root / service / str(number)

    def prepare(self) -> None:
        """Make what is not there yet."""
        if self.incoming.is_dir():
            return  # It is made last.
        self.root.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
        self.root.chmod(PASSABLE)
        for room in (self.objects, self.manifests, self.laid, self.incoming):
            room.mkdir(mode=PRIVATE, exist_ok=True)
        filesystem.sync(self.root)
        filesystem.sync(self.home)

    @contextlib.contextmanager
    def aside(self) -> Iterator[Path]:
        """A directory for what is being made; whatever is in it at the end is removed."""
        directory = Path(tempfile.mkdtemp(dir=self.incoming))
        try:
            yield directory
        finally:
            remove_tree(directory)

    def clear(self) -> None:
        """Remove what a daemon that was killed has left; OSError names what cannot be removed."""
        for leftover in self.incoming.iterdir():
            remove_tree(leftover)


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it, also where a program has taken its owner the right to do so."""
    try:
        shutil.rmtree(directory)
    except PermissionError:
        _open_up(directory)
        shutil.rmtree(directory)


def _open_up(directory: Path) -> None:
    directory.chmod(PRIVATE)
    with os.scandir(directory) as inside:
        for one in inside:
            if one.is_dir(follow_symlinks=False):
                _open_up(Path(one.path))
