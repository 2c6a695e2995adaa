"""What the tests of the keepers share: slots with a little state, and the processes that work with it."""

import asyncio
from contextlib import closing
from pathlib import Path

import apsw
import psutil

from perdure.model.snapshot import Keeping, StateKind
from perdure.ports.keeper import Source

SQLITE = Keeping(StateKind.SQLITE, path="notes.db", check="SELECT count(*) > 0 FROM t")
FILES = Keeping(StateKind.FILES)
COMMAND = Keeping(StateKind.COMMAND, take=("cat", "state"), restore=("sh", "-c", "cat > state"))


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "perdure.adapters.state.process" in one.cmdline()]


def source(directory: Path, keeping: Keeping = SQLITE, service: str = "notes") -> Source:
    directory.mkdir(exist_ok=True)
    return Source(service, f"{service}/1", str(directory), keeping)


def sql(directory: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(apsw.Connection(str(directory / "notes.db"))) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        return list(connection.execute(statement))


def own_names(directory: Path) -> list[str]:
    """Perdure's own files in it."""
    return [path.name for path in directory.iterdir() if path.name.startswith(".perdure")]


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def notes(directory: Path, keeping: Keeping = SQLITE) -> Source:
    """A slot with one row."""
    of = source(directory, keeping)
    sql(directory, "CREATE TABLE t(id INTEGER PRIMARY KEY, text); INSERT INTO t VALUES(1, 'a')")
    return of


async def until_a_command_runs() -> None:
    """Of the only process."""
    while not commands():  # noqa: ASYNC110 - there is no event: another process does it
        await asyncio.sleep(0.005)


def commands() -> list[psutil.Process]:
    """What the processes of the keeper run and never ends by itself."""
    return [below for one in children() for below in one.children(recursive=True) if "sleep" in below.cmdline()[:1]]


def all_ended(processes: list[psutil.Process]) -> bool:
    psutil.wait_procs(processes, timeout=10)
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def worker() -> psutil.Process:
    (only,) = children()
    return only
