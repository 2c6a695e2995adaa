"""What the kernel says of this host as a whole."""

from collections.abc import Mapping
from typing import Protocol

from perdure.model.evidence import Space, Tasks


class Host(Protocol):
    """Cheap looks; what the kernel does not tell is empty or 0."""

    def backlogs(self) -> Mapping[int, tuple[int, int]]:
        """TCP port -> connections that wait to be accepted and how many may, for everybody who listens."""

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for memory since it started."""

    async def space(self, path: str) -> Space | None:
        """The file system at `path`; None when it cannot be asked. May take as long as the file system likes."""

    async def tasks(self, user: str | None) -> Tasks | None:
        """The tightest limit on the threads and processes of what runs as `user` (None: as the daemon does); None when
        there is no limit.
        """
