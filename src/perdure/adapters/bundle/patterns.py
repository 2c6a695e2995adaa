"""Shell patterns for paths, followed name by name while a tree is walked, so that no directory is entered in vain.

    *  ?  [ab]  [!ab]   within one name, a leading dot included
    **                  as a whole name: any number of directories, none too
    app/                the directory of that name, and no file

A pattern is anchored at the top (`*.pyc` is a file there, `**/*.pyc` anywhere), and one that matches a directory stands
for all that is below it. `fnmatch` alone has no idea of directories, `glob` finds on its own what must be excluded, and
`pathlib` has `**` in patterns for matching only since Python 3.13. Neighbour: `selecting` walks with them.
"""

import fnmatch
import re
from dataclasses import dataclass

from perdure.model.errors import ConfigError

Places = frozenset[int]
"""How many names of a pattern are behind us; several at once after a `**`. Empty: nothing below can match."""
ANY = "**"


@dataclass(frozen=True, slots=True)
class Step:
    """What one more name of a path means to a pattern."""

    places: Places
    """Where the pattern stands after it."""
    as_file: bool
    """Whether it matches what has this name, and is no directory."""
    as_directory: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern; a part that is None stands for `**`."""

    text: str
    parts: tuple[re.Pattern[str] | None, ...]

    @property
    def start(self) -> Places:
        """Where it stands at the top."""
        return self._closed({0})

    @property
    def all(self) -> bool:
        """Whether it stands for all that there is."""
        return len(self.parts) in self.start

    def step(self, places: Places, name: str) -> Step:
        """Follow one more name of a path."""
        reached: set[int] = set()
        as_file = False
        for place in places - {len(self.parts)}:
            part = self.parts[place]
            if part is None or part.fullmatch(name):
                # A `**` is not behind us after one name: the next one may be below it too.
                reached.add(place if part is None else place + 1)
                as_file = as_file or place == len(self.parts) - 1
        closed = self._closed(reached)
        return Step(closed, as_file, len(self.parts) in closed)

    def _closed(self, reached: set[int]) -> Places:
        """With the places that a `**` for no directory at all leads to."""
        found = set(reached)
        for place in sorted(reached):
            while place < len(self.parts) and self.parts[place] is None:
                place += 1
                found.add(place)
        return frozenset(found)


def compiled(text: str) -> Pattern:
    """Read a pattern; ConfigError for one that cannot name anything in the directory."""
    names = [name for name in text.split("/") if name not in ("", ".")]
    if text.startswith("/") or ".." in names or "\0" in text or not text:
        raise ConfigError(
            f"files: {text!r} is no pattern for paths below the directory",
            'write it relative to the directory, and without "..": "app/**"',
        )
    if text.endswith("/") or not names:
        names.append(ANY)
    kept = [name for number, name in enumerate(names) if name != ANY or names[number - 1 : number] != [ANY]]
    return Pattern(text, tuple(None if name == ANY else re.compile(fnmatch.translate(name)) for name in kept))
