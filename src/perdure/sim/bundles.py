"""Releases of the simulated world have no files of their own: a program there is a behaviour, not a file."""

from collections.abc import Collection, Sequence

from perdure.model.bundle import Entry
from perdure.model.deploy import Files
from perdure.model.errors import ConfigError
from perdure.ports.bundle import Account


class NoBundles:
    """Implements `ports.bundle.Bundles` for services that declare no files."""

    async def pack(self, files: Files) -> str:
        """Nothing can be packed here."""
        raise ConfigError("the simulated world has no files", "declare none")

    async def lay_out(self, digest: str, service: str, number: int, account: Account | None = None) -> str:
        """Nothing can be laid out here."""
        raise ConfigError("the simulated world has no files", "declare none")

    async def listing(self, digest: str) -> Sequence[Entry]:
        """Nothing was packed."""
        return ()

    async def content(self, digest: str, path: str) -> bytes:
        """Nothing was packed."""
        raise ConfigError(f"there is no file {path!r}", "declare none")

    async def retain(self, service: str, numbers: Collection[int]) -> int:
        """Nothing is kept."""
        return 0
