"""What is written down before live state is exchanged, so that a death in the middle can be undone or completed.

A journal says which names are to be moved, and Perdure, which may be root, does it. So it lies where the service's user
cannot write: in the directory above the slot's own, beside `back` (`Place.journal`). It is believed only when it is a
file of Perdure's own, and when all names in it are where those of this service are: what is live within the slot's own
directory, what comes and goes within the directory of the service's slots (after a handover, the back directory is that
of another slot). `switch` and `refeeding` write it.
"""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.state.place import Place
from perdure.model.errors import CorruptionError

File = tuple[int, int]
"""Device and inode."""

HINT = "see which state is live and which was kept, and remove the journal when the live one is the right one"


@dataclass(frozen=True, slots=True)
class Move:
    """One name in its three places, and what was live and incoming when the switch began (None: nothing)."""

    live: Path
    incoming: Path
    outgoing: Path
    old: File | None
    new: File | None

    def live_is(self, file: File | None) -> bool:
        """Whether that is live now."""
        return file_at(self.live) == file


@dataclass(frozen=True, slots=True)
class Switch:
    """What the journal of a switch says; the first move is the state itself, the others are side files."""

    moves: tuple[Move, ...]
    incoming: Path
    outgoing: Path

    def encode(self) -> bytes:
        """As the journal holds it."""
        document = {
            "incoming": _hex(self.incoming),
            "outgoing": _hex(self.outgoing),
            "moves": [
                [*(_hex(path) for path in (move.live, move.incoming, move.outgoing)), move.old, move.new]
                for move in self.moves
            ],
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Switch":
        """ValueError, KeyError or TypeError when it is not whole."""
        document = json.loads(content)
        moves = tuple(
            Move(_path(live), _path(incoming), _path(outgoing), _pair(old), _pair(new))
            for live, incoming, outgoing, old, new in document["moves"]
        )
        if not moves or moves[0].new is None:
            raise ValueError("nothing to move")
        return cls(moves, _path(document["incoming"]), _path(document["outgoing"]))

    def lies_right(self, live: Place) -> bool:
        """Whether all of it is about this state, and leads nowhere else."""
        return (
            self.moves[0].live == live.live
            and all(is_of_service(live, path) for path in (self.incoming, self.outgoing))
            and all(
                within(live.directory, move.live)
                and within(self.incoming, move.incoming)
                and within(self.outgoing, move.outgoing)
                for move in self.moves
            )
        )


def load(live: Place) -> Switch | None:
    """The journal of a switch of this state; None: there is none. CorruptionError when it is not to be believed."""
    content = read(live.journal)
    if content is None:
        return None
    try:
        planned = Switch.decode(content)
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(live.journal) from error
    if not planned.lies_right(live):
        raise led_astray(live.journal)
    return planned


def read(path: Path) -> bytes | None:
    """The content of a file that only Perdure can have written; CorruptionError when somebody else may have."""
    try:
        _require_own(path, path.lstat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        _require_own(path, os.fstat(descriptor))
        return file.read()


def is_of_service(live: Place, path: Path) -> bool:
    """Whether a directory may be one to switch to or from: it is within that of the service's slots, and neither that
    nor within the slot's own, where the service's user could exchange it."""
    slots = live.directory.parent.parent
    return within(slots, path) and path != slots and not within(live.directory, path)


def within(directory: Path, path: Path) -> bool:
    """Whether `path` is the directory or below it, as it is written."""
    return path.is_absolute() and ".." not in path.parts and path.is_relative_to(directory)


def file_at(path: Path) -> File | None:
    """What has this name now; None: nothing."""
    try:
        seen = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_dev, seen.st_ino


def unreadable(path: Path) -> CorruptionError:
    """The error for a journal that is not whole."""
    return CorruptionError(f"the journal of a switch cannot be read: {path}", HINT)


def led_astray(path: Path) -> CorruptionError:
    """The error for a journal that names what is not the service's."""
    return CorruptionError(f"the journal of a switch names what is not of this slot; nothing was moved: {path}", HINT)


def _require_own(path: Path, seen: os.stat_result) -> None:
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid():
        raise CorruptionError(f"the journal of a switch is no file of Perdure's own; nothing was moved: {path}", HINT)


def _hex(path: Path) -> str:
    return os.fsencode(path).hex()


def _path(text: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(text)))


def _pair(numbers: list[int] | None) -> File | None:
    if numbers is None:
        return None
    device, inode = numbers
    return int(device), int(inode)
