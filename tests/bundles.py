"""Files of releases for tests: a user's directory, and what is kept of it."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from perdure.adapters.bundle.files import BundleFiles
from perdure.model.deploy import Files
from perdure.model.errors import PerdureError
from perdure.ports.bundle import Account

SOMEBODY = Account(12_345, 23_456)
"""No user of the machine's, and not root."""


class Site:
    """A user's directory, and the files of releases beside it."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "shop"
        self.home = directory / "home"
        self.source.mkdir()
        self.home.mkdir(mode=0o750)
        self.now = 0.0
        self.root = self.home / "releases"
        self.bundles = BundleFiles(self.root, lambda: self.now)

    def write(self, path: str, content: bytes | str = b"", mode: int = 0o644) -> Path:
        file = self.source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)
        return file

    async def pack(self, *include: str, exclude: tuple[str, ...] = ()) -> str:
        return await self.bundles.pack(Files(str(self.source), include or (".",), exclude))

    async def paths(self, *include: str, exclude: tuple[str, ...] = ()) -> list[str]:
        return [entry.path for entry in await self.bundles.listing(await self.pack(*include, exclude=exclude))]

    def kept(self, room: str) -> set[str]:
        return {path.name for path in (self.root / room).iterdir()}


def tree(directory: Path) -> dict[str, tuple[str, object]]:
    """All that is in a directory: kind, and content or target."""
    found: dict[str, tuple[str, object]] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("directory", None)
        else:
            found[name] = ("file", path.read_bytes())
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A directory that another user can come to; pytest's own are only for the one who runs it."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def done_by(account: Account, call: Callable[[], object]) -> str:
    """Call it as another user, when root runs the tests; empty, or the sentence of its error."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "it ended otherwise"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(account.gid)
                os.setuid(account.uid)
            call()
            said = ""
        except (PerdureError, OSError) as error:
            said = str(error)
        finally:
            os.write(theirs, said.encode())
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as reading:
        said = reading.read()
    os.waitpid(pid, 0)
    return said
