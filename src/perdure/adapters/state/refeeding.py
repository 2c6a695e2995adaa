"""The switch for state that only the service's own commands know: what is live is taken first, then the other is fed.

Nothing here is one step, for the command does it. So the journal names both streams, and then the stream of what was
live is on the disk, before `restore` reads the first byte of the other one. When that fails, or when a process dies in
it, the stream of what was live is fed back; while there is none, nothing was fed. `switch` is the same for names on a
disk.
"""

import json
import os
from pathlib import Path

from perdure.adapters.state import filesystem, stream
from perdure.adapters.state.place import OWN_PREFIX, Place
from perdure.model.errors import CorruptionError, PerdureError, UnavailableError
from perdure.ports.keeper import Source


def switch(source: Source, incoming: Place, outgoing: Place) -> None:
    """Feed the stream in `incoming` to `restore`; what was live is in `outgoing` then. Nothing happens when that was
    done already. UnavailableError when a command fails; what was live was fed back then, if that could be done."""
    recover(source)
    if outgoing.live.exists() and not incoming.live.exists():
        return
    if not incoming.live.exists():
        raise UnavailableError(f"there is nothing to switch to: {incoming.live}", "restore a snapshot aside first")
    if outgoing.live.exists():
        raise UnavailableError(f"what was live cannot be kept: {outgoing.live} exists", "name another directory")
    outgoing.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {"incoming": str(incoming.directory), "outgoing": str(outgoing.directory)}
    filesystem.write(_journal(source), json.dumps(document).encode())
    try:
        _keep(source, outgoing)
        _feed(source, incoming)
    except PerdureError:
        recover(source)
        raise
    _complete(source, incoming)


def recover(source: Source) -> bool | None:
    """Feed what was live back (False), or note that the switch was complete (True); None when there was none."""
    try:
        document = json.loads(_journal(source).read_bytes())
        incoming, outgoing = (Place.of(document[name], source.keeping) for name in ("incoming", "outgoing"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"the journal of a switch cannot be read: {_journal(source)}", "remove it when the state is the right one"
        ) from error
    if not incoming.live.exists():
        _complete(source, incoming)
        return True
    if outgoing.live.exists():
        _feed(source, outgoing)
        outgoing.live.unlink()
        filesystem.sync(outgoing.directory)
    _forget(source)
    return False


def _keep(source: Source, outgoing: Place) -> None:
    """Take what is live; the stream gets its name when all of it is there."""
    new = outgoing.live.with_name(f"{outgoing.live.name}-new")
    try:
        with new.open("wb") as file:
            for chunk in stream.read(source, source.keeping.take, stream.LIMIT_S):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        new.rename(outgoing.live)
        filesystem.sync(outgoing.directory)
    finally:
        new.unlink(missing_ok=True)


def _feed(source: Source, place: Place) -> None:
    with place.live.open("rb") as file:
        stream.feed(source, source.keeping.restore, iter(lambda: file.read(filesystem.COPY_BYTES), b""))


def _complete(source: Source, incoming: Place) -> None:
    """The incoming stream is removed first: that it is gone says that it was fed."""
    incoming.live.unlink(missing_ok=True)
    if incoming.directory.exists():
        filesystem.sync(incoming.directory)
    _forget(source)


def _forget(source: Source) -> None:
    _journal(source).unlink()
    filesystem.sync(Path(source.directory))


def _journal(source: Source) -> Path:
    return Path(source.directory) / f"{OWN_PREFIX}switch"
