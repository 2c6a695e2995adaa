"""What the keeper process does with the state of slots: the calls of `ports.keeper.Keeper`, for each kind of state."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from perdure.adapters.state import (
    database,
    difference,
    filesystem,
    following,
    journal,
    refeeding,
    reinsertion,
    rescue,
    settling,
    stream,
    switch,
)
from perdure.adapters.state.directory import Mirror
from perdure.adapters.state.place import OWN_PREFIX, Place
from perdure.adapters.state.shelving import Shelf
from perdure.adapters.state.vault import Content, Draft, Vault
from perdure.model import codec
from perdure.model.errors import PerdureError, RefusedError, UnavailableError
from perdure.model.snapshot import Loss, Manifest, Proof, StateKind
from perdure.ports.keeper import Source, aside_of

Given = dict[str, Any]


class Slots:
    """The slots of one service; one call at a time."""

    def __init__(self, shelf: Shelf, root: Path) -> None:
        self._shelf = shelf
        self._work = root / "work"
        self._image = Place(root / "image", root / "image" / "database")
        self._mirror: tuple[str, Mirror] | None = None

    def calls(self) -> dict[str, Callable[[Given], Any]]:
        """The calls by name; each is given its arguments, of which `source` is one."""
        return {
            "take": _on(lambda source, given: codec.encode(self._take(source, given["epoch"], given["data_epoch"]))),
            "apply": _on(lambda source, given: self._apply(source, given["snapshot"], given["running"])),
            "applied": _on(lambda source, given: codec.encode(_applied(source))),
            "restore": _on(
                lambda source, given: codec.encode(self._restore(source, given["snapshot"], given["aside"]))
            ),
            "prove": _on(lambda source, given: codec.encode(self._prove(source, given["snapshot"]))),
            "compare": _on(
                lambda source, given: codec.encode(self._compare(source, given["aside"], given["taken_at"]))
            ),
            "rescue": _on(lambda source, given: self._rescue(source, given["aside"], given["file"])),
            "reinsert": _on(lambda source, given: _reinsert(source, given["file"], given["tables"])),
            "switchable": _on(lambda source, given: _switchable(source, given["incoming"], given["outgoing"])),
            "switch": _on(lambda source, given: _switch(source, given["incoming"], given["outgoing"])),
            "tidy": _on(lambda source, given: _tidy(source, given["kept"])),
            "recover": _on(lambda source, given: _recover(source)),
        }

    def _vault(self, source: Source) -> Vault:
        return self._shelf.vault(source.keeping.key_file)

    def _take(self, source: Source, epoch: int, data_epoch: int) -> Manifest:
        vault = self._vault(source)
        kind = source.keeping.kind
        vault.seen(epoch, data_epoch)  # Refused before anything is read.
        draft = Draft(source.service, source.slot, kind, epoch, data_epoch, 0.0)
        if kind is StateKind.SQLITE:
            place = Place.of(source.directory, source.keeping)
            return database.take(vault, draft, place.live, self._work / "database")
        if kind is StateKind.COMMAND:
            return stream.take(vault, draft, source, self._work / "stream")
        if self._mirror is None or self._mirror[0] != source.directory:
            self._mirror = (source.directory, Mirror(self._work / "mirror"))
        return self._mirror[1].take(vault, draft, source)

    def _apply(self, source: Source, snapshot: str, running: bool) -> None:
        content = self._content(source, snapshot)
        place = Place.of(source.directory, source.keeping)
        kind = source.keeping.kind
        if kind is StateKind.COMMAND:
            refeeding.recover(source)
            stream.apply(content, source, place)
            return
        switch.recover(place)
        since = self._since(source, place)
        if kind is StateKind.FILES:
            (settling.warm if running else settling.cold)(content, since, place)
        elif running:
            following.warm(content, self._since(source, self._image), place, self._image)
        else:
            following.cold(content, since, place)

    def _since(self, source: Source, place: Place) -> Content | None:
        """The snapshot that a state was brought to, if it is still kept."""
        applied = place.applied()
        if applied is None:
            return None
        with suppress(PerdureError):
            content = self._vault(source).open(applied.manifest.id)
            if content.manifest.digest == applied.manifest.digest:
                return content
        return None

    def _restore(self, source: Source, snapshot: str, aside: str) -> Manifest:
        content = self._content(source, snapshot)
        whole = Path(aside)
        if whole.exists():
            raise UnavailableError(f"{aside} exists", "name a directory that does not exist yet")
        whole.parent.mkdir(mode=0o700, exist_ok=True)
        part = Place.of(whole.with_name(f"{OWN_PREFIX}part-{whole.name}"), source.keeping)
        shutil.rmtree(part.directory, ignore_errors=True)  # of a process that was ended in it
        try:
            if source.keeping.kind is StateKind.FILES:
                settling.restore(content, part)
            elif source.keeping.kind is StateKind.SQLITE:
                database.restore(content, part, source.keeping.check)
            else:
                stream.restore(content, part)
            part.directory.rename(whole)
        except BaseException:
            shutil.rmtree(part.directory, ignore_errors=True)
            raise
        filesystem.sync(whole.parent)
        return content.manifest

    def _prove(self, source: Source, snapshot: str) -> Proof:
        aside, problem = self._work / "drill", ""
        shutil.rmtree(aside, ignore_errors=True)
        began_at = time.monotonic()
        try:
            self._restore(source, snapshot, str(aside))
        except PerdureError as error:
            problem = error.sentence
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        proof = Proof(time.time(), time.monotonic() - began_at, problem)
        self._vault(source).note(snapshot, None, proof)
        return proof

    def _content(self, source: Source, snapshot: str) -> Content:
        content = self._vault(source).open(snapshot)
        if content.manifest.kind is not source.keeping.kind:
            raise RefusedError(
                f"{snapshot} holds state of the kind {content.manifest.kind}, and {source.service} has"
                f" {source.keeping.kind}",
                "choose a snapshot that was taken since `state.kind` was changed",
            )
        return content

    def _compare(self, source: Source, aside: str, taken_at: float) -> Loss:
        now, then = (Place.of(one, source.keeping) for one in (source.directory, aside))
        if source.keeping.kind is StateKind.SQLITE:
            return difference.of_database(now, then, taken_at, self._work / "comparison")
        if source.keeping.kind is StateKind.FILES:
            return difference.of_directory(now, then, taken_at)
        kept = self._vault(source).kept()
        return difference.of_stream(kept[-1].manifest.size_bytes if kept else 0, then, taken_at)

    def _rescue(self, source: Source, aside: str, file: str) -> int:
        _require_rows(source)
        now, then = (Place.of(one, source.keeping) for one in (source.directory, aside))
        return rescue.write(now.live, then.live, Path(file), self._work / "comparison")


def _applied(source: Source) -> Manifest | None:
    applied = Place.of(source.directory, source.keeping).applied()
    return None if applied is None else applied.manifest


def _reinsert(source: Source, file: str, tables: list[str]) -> tuple[int, list[str]]:
    _require_rows(source)
    return reinsertion.reinsert(Place.of(source.directory, source.keeping).live, Path(file), tables)


def _switch(source: Source, incoming: str, outgoing: str) -> None:
    new, old = (Place.of(one, source.keeping) for one in (incoming, outgoing))
    if source.keeping.kind is StateKind.COMMAND:
        refeeding.switch(source, new, old)
    else:
        switch.switch(Place.of(source.directory, source.keeping), new, old)


def _switchable(source: Source, incoming: str, outgoing: str) -> None:
    new, old = (Place.of(one, source.keeping) for one in (incoming, outgoing))
    if source.keeping.kind is StateKind.COMMAND:
        refeeding.require_possible(source, new, old)
    else:
        switch.require_possible(Place.of(source.directory, source.keeping), new, old)


def _tidy(source: Source, kept: list[str]) -> None:
    aside = Path(aside_of(source))
    if not aside.is_dir():
        return
    # By name, not by path: the deployment may have been moved to another directory meanwhile.
    spared = {path.name for path in (*map(Path, kept), *_needed(source))}
    for one in aside.iterdir():
        if one.name in spared:
            continue
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


def _needed(source: Source) -> tuple[Path, ...]:
    """What a half-done switch is completed from, or taken back from."""
    if source.keeping.kind is StateKind.COMMAND:
        return refeeding.needed(source)
    planned = journal.load(Place.of(source.directory, source.keeping))
    return () if planned is None else (planned.incoming, planned.outgoing)


def _recover(source: Source) -> bool | None:
    if source.keeping.kind is StateKind.COMMAND:
        return refeeding.recover(source)
    return switch.recover(Place.of(source.directory, source.keeping))


def _require_rows(source: Source) -> None:
    if source.keeping.kind is not StateKind.SQLITE:
        raise RefusedError(
            f"the state of {source.service} has no rows that could be rescued: it is of the kind {source.keeping.kind}",
            "what was live is kept as it was; look there for what is missing",
        )


def _on(work: Callable[[Source, Given], Any]) -> Callable[[Given], Any]:
    return lambda given: work(codec.decode(Source, given["source"]), given)
