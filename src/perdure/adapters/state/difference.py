"""What would be lost by going back: rows for a database, files for a directory, sizes for a stream. Nothing is changed.

`rows` compares one table; here is which tables are compared, and what is said of those that cannot be. A virtual table
has no rows of its own: the content of a full-text index (its `_content` table) is counted under the index's name, other
indexes are only said to differ. When the live database itself is damaged, which may be why somebody goes back, that is
a remark and no error.
"""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import apsw

from perdure.adapters.state import directory, filesystem, rows, schema, tree
from perdure.adapters.state.place import Place
from perdure.adapters.state.schema import NOW, OLD, Schema, Table, Value
from perdure.adapters.state.vault import EntryKind
from perdure.model.snapshot import Loss, TableLoss

NAMES_MAX = 1_000
OBJECTS_MAX = 10
OUTSIDE = "not covered: calls to other services"

_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.IOError)
_TIME = re.compile(r"\d{4}-\d\d|\d{1,2}:\d\d|\d+(\.\d+)?$")
_SECONDS = range(10**8, 10**11)
_THOUSANDTHS = range(10**11, 10**14)


def of_database(now: Place, then: Place, taken_at: float, scratch: Path) -> Loss:
    """Rows that differ, exactly, table by table; `scratch` is the name of a file that may be made meanwhile."""
    loss = Loss(
        seconds=max(0.0, time.time() - taken_at),
        size_now=_size(now.live),
        size_then=_size(then.live),
        remarks=(OUTSIDE,),
    )
    if not now.live.exists():
        loss = replace(loss, remarks=(f"there is no live database {now.live}", *loss.remarks))
    try:
        with schema.both(now.live, then.live, scratch) as connection:
            comparison = _Comparison(connection)
            comparison.run()
            loss = replace(loss, size_now=comparison.size_now())
    except _DAMAGED as error:
        remark = f"what would be lost is not known: the live database cannot be read ({error})"
        return replace(loss, remarks=(remark, *loss.remarks))
    except apsw.SQLError as error:
        return replace(loss, remarks=(f"the two databases cannot be compared: {error}", *loss.remarks))
    return replace(loss, tables=tuple(comparison.losses), remarks=(*comparison.remarks, *loss.remarks))


def of_directory(now: Place, then: Place, taken_at: float) -> Loss:
    """Files, links and directories that are added, changed in content, or removed since the snapshot."""
    (ours, left_out), (theirs, _) = _tree(now.live), _tree(then.live)
    added = sorted(ours.keys() - theirs.keys())
    removed = sorted(theirs.keys() - ours.keys())
    changed = sorted(
        path
        for path in ours.keys() & theirs.keys()
        if ours[path].kind is not theirs[path].kind or not _same(ours[path], now.live / path, then.live / path)
    )
    sizes = [sum(one.seen.st_size for one in found.values() if one.kind is EntryKind.FILE) for found in (ours, theirs)]
    return Loss(
        seconds=max(0.0, time.time() - taken_at),
        added=tuple(islice(added, NAMES_MAX)),
        changed=tuple(islice(changed, NAMES_MAX)),
        removed=tuple(islice(removed, NAMES_MAX)),
        added_count=len(added),
        changed_count=len(changed),
        removed_count=len(removed),
        size_now=sizes[0],
        size_then=sizes[1],
        remarks=(*_left_out(left_out), OUTSIDE),
    )


def of_stream(size_now: int, then: Place, taken_at: float) -> Loss:
    """How old and how large the snapshot is; only the service knows what is in it. `size_now`: of the newest one."""
    return Loss(
        seconds=max(0.0, time.time() - taken_at),
        size_now=size_now,
        size_then=_size(then.live),
        remarks=("what changed since is not known: only the service's own command reads its state", OUTSIDE),
    )


class _Comparison:
    """Goes through the tables of both databases; `losses` and `remarks` are what it found."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._now: Schema = schema.read(connection, NOW)
        self._old: Schema = schema.read(connection, OLD)
        self._by_content = rows.renumbered(connection)
        self.losses: list[TableLoss] = []
        self.remarks: list[str] = []

    def run(self) -> None:
        """Compare everything."""
        for name in sorted(self._now.tables.keys() | self._old.tables.keys()):
            self._table(name, self._now.tables.get(name), self._old.tables.get(name))
        for name in sorted(self._now.virtual.keys() | self._old.virtual.keys()):
            self._virtual(name)
        self._objects()
        for what in ("user_version", "application_id"):
            now, old = (self._connection.execute(f"PRAGMA {one}.{what}").get for one in (NOW, OLD))
            if now != old:
                self.remarks.append(f"{what} would be {old} again, and is {now}")

    def size_now(self) -> int:
        """Bytes of the live database, with what is still in its log."""
        pages, size = (self._connection.execute(f"PRAGMA {NOW}.{one}").get for one in ("page_count", "page_size"))
        return int(pages) * int(size)

    def _table(self, name: str, now: Table | None, old: Table | None) -> None:
        if now is None or old is None or not now.fits(old):
            self.remarks.append(f"{name}: {_shapes(now, old)}, all its rows are counted")
            self._whole(name, now, old)
            return
        try:
            self._add(name, rows.count(self._connection, now, self._by_content))
        except apsw.SQLError as error:
            self.remarks.append(f"{name}: its rows cannot be compared ({error}), all of them are counted")
            self._whole(name, now, old)
        except _DAMAGED as error:
            self.remarks.append(f"{name}: what would be lost of it is not known, it cannot be read ({error})")

    def _whole(self, name: str, now: Table | None, old: Table | None) -> None:
        counts = [
            0 if table is None else self._connection.execute(f"SELECT count(*) FROM {one}.{schema.quoted(name)}").get
            for one, table in ((NOW, now), (OLD, old))
        ]
        self._add(name, rows.Count(inserted=int(counts[0]), deleted=int(counts[1])))

    def _add(self, name: str, count: rows.Count) -> None:
        if count:
            self.losses.append(TableLoss(name, count.inserted, count.updated, count.deleted, _shown(count.newest)))

    def _virtual(self, name: str) -> None:
        now, old = self._now.virtual.get(name), self._old.virtual.get(name)
        if now is None or old is None or now.module != old.module:
            self.remarks.append(f"{name}: the virtual table is {'new' if old is None else 'gone or another one'} now")
            return
        content = f"{name}_content"
        if content in now.shadows and content in old.shadows:
            self._table(name, *self._shadow(content, name))
        elif any(self._differs(shadow) for shadow in now.shadows):
            self.remarks.append(f"{name} ({now.module}): what it holds differs, and its rows are not counted")
        elif not now.shadows:
            self.remarks.append(f"{name} ({now.module}): a virtual table that keeps nothing here is not compared")

    def _shadow(self, content: str, name: str) -> tuple[Table, Table]:
        return self._now.shadows[content], self._old.shadows[content]

    def _differs(self, shadow: str) -> bool:
        now, old = self._now.shadows.get(shadow), self._old.shadows.get(shadow)
        return now is None or old is None or bool(rows.count(self._connection, now, self._by_content))

    def _objects(self) -> None:
        names = [
            name
            for name in sorted(self._now.others.keys() | self._old.others.keys())
            if self._now.others.get(name) != self._old.others.get(name)
        ]
        if names:
            more = f" and {len(names) - OBJECTS_MAX} more" if len(names) > OBJECTS_MAX else ""
            self.remarks.append(f"defined in another way in the snapshot, or not at all: {_list(names)}{more}")


def _shapes(now: Table | None, old: Table | None) -> str:
    if old is None:
        return "the table is not in the snapshot"
    if now is None:
        return "the table is only in the snapshot, and comes back"
    added, removed = (set(now.names) - set(old.names)), (set(old.names) - set(now.names))
    parts = [f"new columns {_list(sorted(added))}"] if added else []
    parts += [f"columns {_list(sorted(removed))} come back"] if removed else []
    return ", ".join(parts) or "its key or its columns are in another order"


def _list(names: Iterable[str]) -> str:
    return ", ".join(islice(names, OBJECTS_MAX))


def _shown(value: Value) -> str:
    """A time as a person reads it, in UTC when it is a number; nothing when it is no time after all."""
    if isinstance(value, str):
        return value if _TIME.match(value) else ""
    if not isinstance(value, int | float):
        return ""
    seconds = value if int(value) in _SECONDS else value / 1000 if int(value) in _THOUSANDTHS else None
    if seconds is None:
        return str(value)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _tree(root: Path) -> tuple[dict[str, directory.Found], list[str]]:
    if not root.is_dir():
        return {}, []
    found, left_out = directory.scan(root)
    return {one.path: one for one in found if one.path != tree.ROOT}, left_out


def _left_out(names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - OBJECTS_MAX} more" if len(names) > OBJECTS_MAX else ""
    return [f"in no snapshot, for sockets, fifos and devices are no state: {_list(names)}{more}"]


def _same(found: directory.Found, now: Path, then: Path) -> bool:
    """By content; attributes are none."""
    if found.kind is EntryKind.SYMLINK:
        return now.readlink() == then.readlink()
    if found.kind is EntryKind.DIRECTORY:
        return True
    with now.open("rb") as one, then.open("rb") as other:
        if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
            return False
        while chunk := one.read(filesystem.COPY_BYTES):
            if chunk != other.read(filesystem.COPY_BYTES):
                return False
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
