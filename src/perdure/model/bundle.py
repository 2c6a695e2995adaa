"""The files of a release, as they are listed: what there is, how large, and by which digest it is known.

A list is all that says what a release consists of; two releases with the same list have the same files. Where a file
came from, when it was written and whose it was is not in it: the same content must not become another release because
somebody has checked it out anew.
Neighbours: `ports.bundle` keeps the files by these digests, `recover.difference` compares two lists.
"""

from dataclasses import dataclass
from enum import StrEnum

DIRECTORY_MODE = 0o755
"""Of every directory of a release: whoever the service runs as must be able to enter, whatever umask made it."""


class EntryKind(StrEnum):
    """What an entry is in its directory."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    """A symbolic one, which stays one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or link of a release."""

    path: str
    """Relative to the directory of the release, with `/`."""
    kind: EntryKind
    mode: int = 0
    """Permission bits, without set-user-id and the like; of links, which have none, 0."""
    size: int = 0
    """Bytes of a file."""
    digest: str = ""
    """SHA-256 of the content of a file, in hexadecimal."""
    target: str = ""
    """Where a link leads: relative, and to within the release."""
