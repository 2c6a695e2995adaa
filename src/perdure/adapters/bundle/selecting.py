"""Finds what belongs to a release: a walk through the user's directory, along its patterns.

What is excluded is not looked at, so nothing there can be wrong. `.git`, `.perdure` and the daemon's own directory
never belong to a release: they hold what is not the program, and in part what nobody else may read. Neighbours:
`patterns` says what matches, `packing` reads what is found.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from perdure.adapters.bundle import failures, patterns
from perdure.adapters.bundle.patterns import Pattern, Places
from perdure.model.bundle import EntryKind
from perdure.model.deploy import Files
from perdure.model.errors import ConfigError

NEVER = frozenset({".git", ".perdure"})

Look = tuple[int, int, int, int, int]
"""What a change must change: device, inode, size, and the times (ns) of the content and of the inode."""
NO_LOOK: Look = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """Something that belongs to the release; `look` is that of a file or a link."""

    path: str
    kind: EntryKind
    look: Look = NO_LOOK


def look(seen: os.stat_result) -> Look:
    """How a file looks now."""
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def select(root: Path, files: Files, home: Path) -> dict[str, Found]:
    """All that belongs to the release, by path, with the directories in which it is. `root` is the directory as it is
    walked, `home` the daemon's own. ConfigError for a pattern that finds nothing, and for what cannot be kept."""
    walk = _Walk(
        root,
        tuple(map(patterns.compiled, files.include)),
        tuple(map(patterns.compiled, files.exclude)),
        _identity(home),
    )
    hits = walk.run()
    for number, pattern in enumerate(walk.include):
        if number not in hits:
            but = ", once what is excluded is left out" if files.exclude else ""
            raise ConfigError(
                f"files: the pattern {pattern.text!r} matches nothing in {root}{but}", "correct it, or remove it"
            )
    if not walk.found:
        raise ConfigError(f"no file in {root} belongs to the release", 'name some: files = ["app/**"]')
    return walk.found


@dataclass(slots=True)
class _Stand:
    """A directory to be walked, and where the patterns stand there. `inside`: those that stand for all of it."""

    path: str
    include: tuple[Places, ...]
    exclude: tuple[Places, ...]
    inside: frozenset[int]


@dataclass(slots=True)
class _Walk:
    root: Path
    include: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...]
    home: tuple[int, int]
    found: dict[str, Found] = field(default_factory=dict)
    hits: set[int] = field(default_factory=set)

    def run(self) -> set[int]:
        """Walk; the numbers of the patterns that found something."""
        everything = frozenset(number for number, pattern in enumerate(self.include) if pattern.all)
        starts = (tuple(one.start for one in self.include), tuple(one.start for one in self.exclude))
        waiting = [_Stand("", *starts, everything)]
        while waiting:
            waiting += self._inside(waiting.pop())
        for path in list(self.found):
            self._add_parents(path)
        return self.hits

    def _inside(self, stand: _Stand) -> Iterator[_Stand]:
        """Take what is in a directory; the directories that are to be walked next."""
        for one in self._names(stand.path):
            left_out = [pattern.step(at, one.name) for pattern, at in zip(self.exclude, stand.exclude, strict=True)]
            if one.name in NEVER or any(step.as_file for step in left_out):
                continue
            try:
                seen = one.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # Removed meanwhile: so it is not there.
            is_directory = stat.S_ISDIR(seen.st_mode)
            if is_directory and (self.home == _numbers(seen) or any(step.as_directory for step in left_out)):
                continue
            steps = [pattern.step(at, one.name) for pattern, at in zip(self.include, stand.include, strict=True)]
            mine = stand.inside | {
                number for number, step in enumerate(steps) if (step.as_directory if is_directory else step.as_file)
            }
            path = f"{stand.path}{one.name}"
            if mine:
                self._take(path, seen, mine)
            if is_directory and (mine or any(step.places for step in steps)):
                yield _Stand(
                    f"{path}/", tuple(step.places for step in steps), tuple(step.places for step in left_out), mine
                )

    def _take(self, path: str, seen: os.stat_result, mine: frozenset[int]) -> None:
        self.hits |= mine
        kind = _kind(seen.st_mode)
        if kind is None:
            raise ConfigError(
                f"{self.root / path} is a socket, a fifo or a device, and cannot be part of a release",
                f'leave it out: exclude = ["{path}"]',
            )
        self.found[path] = Found(path, kind, NO_LOOK if kind is EntryKind.DIRECTORY else look(seen))

    def _add_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent and parent not in self.found:
            self.found[parent] = Found(parent, EntryKind.DIRECTORY)
            parent = parent.rpartition("/")[0]

    def _names(self, path: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self.root / path) as inside:
                return list(inside)
        except (FileNotFoundError, NotADirectoryError):
            return []  # Removed meanwhile.
        except OSError as error:
            raise failures.unreadable(self.root / path, error) from error


def _kind(mode: int) -> EntryKind | None:
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    if stat.S_ISDIR(mode):
        return EntryKind.DIRECTORY
    return EntryKind.LINK if stat.S_ISLNK(mode) else None


def _identity(directory: Path) -> tuple[int, int]:
    return _numbers(directory.stat())


def _numbers(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino
