"""Bundles: the files of releases, copied once when a release is made, and never changed afterwards.

A file is kept by the digest of its content, however many releases of however many services have it. Each release gets a
directory of its own in which its replicas run: a real copy, so that a program may write there without harming what is
kept. All of it works beside the loop, and one call at a time changes something; what was begun when the daemon died
leaves nothing that counts. Neighbours: `model.bundle` is what is listed, `adapters.bundle` keeps it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.model.bundle import Entry
from perdure.model.deploy import Files


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a service runs as: the numbers of a user and a group."""

    uid: int
    gid: int


class Bundles(Protocol):
    """Methods raise UnavailableError (no room, what is needed cannot be read or written) and CorruptionError (naming
    the damaged file); nothing that was there before is changed then.
    """

    async def pack(self, files: Files) -> str:
        """Copy the files that the patterns name; the digest of their list: 64 hexadecimal digits, the same ones for the
        same files. All of it is on the disk before it returns.

        ConfigError for what can never be packed: a pattern that matches nothing, a link that leads elsewhere, a socket.
        UnavailableError when a file changes each time that it is read. What was packed is kept for an hour at least,
        but not beyond the life of the daemon, unless it is laid out by then."""

    async def lay_out(self, digest: str, service: str, number: int, account: Account | None = None) -> str:
        """Make the directory of release `number` of a service with these files, all checked, and on the disk before its
        name is there; its absolute path. One that is there already stays as it is, whatever a program has written in
        it. Its files are kept until `retain` leaves the number out.

        `account`: whom the files belong to, and who must be able to come that far; None: the daemon's own.
        ConflictError when the number has other files already: `retain` frees one that no release uses."""

    async def listing(self, digest: str) -> Sequence[Entry]:
        """The list, sorted by path: what is in a directory comes after it."""

    async def content(self, digest: str, path: str) -> bytes:
        """A whole file of a list, checked; ConfigError when the list has no such file. It is read into memory: the list
        says how large it is."""

    async def retain(self, service: str, numbers: Collection[int]) -> int:
        """Remove the directories of all other releases of a service, and the lists and files that no release of any
        service needs any more; the bytes of the latter. Nobody may run in what is removed, and what was laid out and is
        not recorded yet must be among the `numbers`. CorruptionError for a list that is damaged: what it needs cannot
        be said, so no list and no file is removed then."""
