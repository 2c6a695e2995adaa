"""Removes releases that are not kept, and what only they needed.

A directory leaves its place by one rename, then it is no longer written down, then lists and contents go that nobody
needs: a death in between leaves too much, which the next call finds, and never too little. Neighbours: `laying` wrote
down which release has which list, `files` calls it.
"""

import os
from collections.abc import Collection
from pathlib import Path

from perdure.adapters.bundle import laying, manifest
from perdure.adapters.bundle.rooms import PRIVATE, Rooms
from perdure.adapters.state import filesystem
from perdure.model.bundle import EntryKind


def retain(rooms: Rooms, service: str, numbers: Collection[int], packed: Collection[str]) -> int:
    """Keep these releases of a service, and all of the others'; the bytes that lists and contents have freed. `packed`:
    lists that no release has yet, and that are needed nevertheless."""
    _forget(rooms, service, numbers)
    try:
        needed = {*laying.laid(rooms).values(), *packed}
        contents = {
            entry.digest for digest in needed for entry in manifest.read(rooms, digest) if entry.kind is EntryKind.FILE
        }
        # Lists first: a list must never be there without what it names.
        return _remove(rooms.manifests, needed) + _remove(rooms.objects, contents)
    finally:
        rooms.clear()


def _forget(rooms: Rooms, service: str, numbers: Collection[int]) -> None:
    """Remove the directories of all others, and the notes of which lists they have. Nothing is made for that: a disk
    that is full is a reason to come here."""
    home = rooms.root / service
    there = {int(one.name) for one in home.iterdir() if one.name.isdecimal() and one.is_dir()} if home.is_dir() else ()
    gone = set(there).difference(numbers)
    for number in gone:
        directory = rooms.directory(service, number)
        directory.chmod(PRIVATE)  # Only who may write in a directory may move it to another one.
        directory.rename(rooms.incoming / f"{service}@{number}")
    if gone:
        filesystem.sync(home)
    noted = {number for one, number in laying.laid(rooms) if one == service}.difference(numbers)
    for number in noted:
        laying.note_of(rooms, service, number).unlink()
    if noted:
        filesystem.sync(rooms.laid)
    if home.is_dir() and not any(home.iterdir()):
        home.rmdir()


def _remove(directory: Path, needed: Collection[str]) -> int:
    """Delete the files of other names; the bytes that frees."""
    freed = 0
    with os.scandir(directory) as inside:
        gone = [one for one in inside if one.name not in needed]
    for one in gone:
        freed += one.stat(follow_symlinks=False).st_size
        Path(one.path).unlink()
    if gone:
        filesystem.sync(directory)
    return freed
