"""The switch for state that only the service's own commands know: what is live is taken first, then the other is fed.

Nothing here is one step, for the command does it. So the journal names both streams, and then the stream of what was
live is on the disk, before `restore` reads the first byte of the other one. When that fails, or when a process dies in
it, the stream of what was live is fed back; while there is none, nothing was fed.

What is broken may be too broken for `take`, and that is when somebody goes back. Then nothing is kept but a mark that
says so: there is nothing that could be fed back, so what was begun is only ever fed again, and another switch may take
its place. `switch` is the same for names on a disk, `journal` says which journal is believed.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from perdure.adapters.state import filesystem, journal, stream
from perdure.adapters.state.place import OWN_PREFIX, Place
from perdure.adapters.state.switch import require_of_service
from perdure.model.errors import CorruptionError, PerdureError, UnavailableError
from perdure.ports.keeper import HalfwayError, Source

Both = tuple[Place, Place]
"""Incoming and outgoing."""

NOTHING_NAME = f"{OWN_PREFIX}nothing"
"""In `outgoing`: what was live could not be taken."""


def switch(source: Source, incoming: Place, outgoing: Place) -> None:
    """Feed the stream in `incoming` to `restore`; what was live is in `outgoing` then, or, when it could not be taken,
    the mark that nothing is. Nothing happens when that was done already.

    UnavailableError, or OSError, when that fails: what was live is live, fed back if need be, and there is no journal.
    HalfwayError when it could not be fed back."""
    with _or_halfway(source):
        begun = _load(source)
    # What was fed half and cannot be taken back is no reason not to feed another one.
    superseded = begun is not None and _is_lost(begun) and incoming.live.exists()
    if not superseded:
        recover(source)
    if _done(incoming, outgoing):
        return
    with _or_halfway(source) if superseded else nullcontext():
        _require_possible(source, incoming, outgoing)
        outgoing.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if superseded:
            filesystem.write(_mark(outgoing), b"")
    try:
        document = {"incoming": str(incoming.directory), "outgoing": str(outgoing.directory)}
        filesystem.write(_journal(source), json.dumps(document).encode())
        if not superseded:
            _keep(source, outgoing)
        _feed(source, incoming)
        _complete(source, incoming)
    except (PerdureError, OSError):
        if not recover(source):
            raise


def require_possible(source: Source, incoming: Place, outgoing: Place) -> None:
    """What `switch` would raise before it begins; nothing is changed."""
    _load(source)
    if not _done(incoming, outgoing):
        _require_possible(source, incoming, outgoing)


def recover(source: Source) -> bool | None:
    """Feed what was live back (False), or complete the switch (True); None when there was none.

    CorruptionError, and nothing was fed, when the journal is not to be believed; HalfwayError when a command fails."""
    with _or_halfway(source):
        both = _load(source)
        if both is None:
            return None
        incoming, outgoing = both
        lost = _is_lost(both)
        if lost:
            _feed(source, incoming)
        if lost or not incoming.live.exists():
            _complete(source, incoming)
            return True
        if outgoing.live.exists():
            _feed(source, outgoing)
            outgoing.live.unlink()
            filesystem.sync(outgoing.directory)
        _forget(source)
        return False


def needed(source: Source) -> tuple[Path, ...]:
    """The directories that `recover` needs; CorruptionError when the journal is not to be believed."""
    both = _load(source)
    return () if both is None else tuple(one.directory for one in both)


def _require_possible(source: Source, incoming: Place, outgoing: Place) -> None:
    if not incoming.live.exists():
        raise UnavailableError(f"there is nothing to switch to: {incoming.live}", "restore a snapshot aside first")
    if outgoing.live.exists():
        raise UnavailableError(f"what was live cannot be kept: {outgoing.live} exists", "name another directory")
    require_of_service(_live(source), incoming, outgoing)


def _done(incoming: Place, outgoing: Place) -> bool:
    return not incoming.live.exists() and (outgoing.live.exists() or _mark(outgoing).exists())


def _is_lost(both: Both) -> bool:
    """What is live may be fed half, and nothing can be fed back."""
    incoming, outgoing = both
    return incoming.live.exists() and _mark(outgoing).exists()


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
    except UnavailableError:
        filesystem.write(_mark(outgoing), b"")
    finally:
        new.unlink(missing_ok=True)


def _feed(source: Source, place: Place) -> None:
    descriptor = os.open(place.live, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnavailableError(f"{place.live} is no file", "restore a snapshot aside again")
        stream.feed(source, source.keeping.restore, iter(lambda: file.read(filesystem.COPY_BYTES), b""))


def _complete(source: Source, incoming: Place) -> None:
    """The incoming stream is removed first: that it is gone, for good, says that it was fed. A journal that stays then
    does no harm."""
    incoming.live.unlink(missing_ok=True)
    if incoming.directory.exists():
        filesystem.sync(incoming.directory)
    with suppress(OSError):
        _forget(source)


def _forget(source: Source) -> None:
    _journal(source).unlink(missing_ok=True)
    filesystem.sync(_journal(source).parent)


def _load(source: Source) -> Both | None:
    """What the journal names, None: there is none; CorruptionError when it is not to be believed."""
    content = journal.read(_journal(source))
    if content is None:
        return None
    try:
        document = json.loads(content)
        incoming, outgoing = (Place.of(str(document[name]), source.keeping) for name in ("incoming", "outgoing"))
    except (ValueError, KeyError, TypeError) as error:
        raise journal.unreadable(_journal(source)) from error
    live = _live(source)
    if not all(journal.is_of_service(live, one.directory) for one in (incoming, outgoing)):
        raise journal.led_astray(_journal(source))
    return incoming, outgoing


@contextmanager
def _or_halfway(source: Source) -> Iterator[None]:
    try:
        yield
    except CorruptionError:
        raise  # of the journal: nothing was fed
    except (PerdureError, OSError) as error:
        why = error.sentence if isinstance(error, PerdureError) else f"{error.strerror or error} ({error.filename})"
        raise HalfwayError(
            f"the state of {source.slot} may be fed half, and cannot be put right: {why}",
            "correct what `restore` complains of; it is tried again before anybody runs on it",
        ) from error


def _live(source: Source) -> Place:
    return Place.of(source.directory, source.keeping)


def _journal(source: Source) -> Path:
    return _live(source).journal


def _mark(outgoing: Place) -> Path:
    return outgoing.directory / NOTHING_NAME
