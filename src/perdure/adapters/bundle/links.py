"""Where the links of a release lead: to something in it, or it would not be the same program in another directory.

A link is followed name by name among the entries themselves, as it will be in the copy: a path that leaves the
directory and comes back by its name would find it in the original alone. Links that lead nowhere already are kept as
they are. Neighbour: `packing` calls `check` when it has read everything.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from perdure.model.bundle import Entry, EntryKind
from perdure.model.errors import ConfigError

HOPS_MAX = 40
"""As many links as Linux follows for one path; a circle of them leads nowhere."""

Entries = Mapping[str, Entry]


def check(root: Path, entries: Entries) -> None:
    """ConfigError for a link that leads out of the directory `root`, or to what is not part of the release."""
    for entry in entries.values():
        if entry.kind is EntryKind.LINK:
            _check(root, entry, entries)


def _check(root: Path, link: Entry, entries: Entries) -> None:
    reached = link.path.split("/")[:-1]
    waiting = _names(root, link, link.target)
    hops = 0
    while waiting:
        name = waiting.pop(0)
        if name == "..":
            if not reached:
                raise _leads_out(root, link)
            reached.pop()
            continue
        reached.append(name)
        path = "/".join(reached)
        entry = entries.get(path)
        if entry is None:
            if os.path.lexists(root / path):
                raise _not_included(root, link, path)
            return
        if entry.kind is EntryKind.LINK and waiting:
            hops += 1
            if hops > HOPS_MAX:
                return
            reached.pop()
            waiting = _names(root, link, entry.target) + waiting


def _names(root: Path, link: Entry, target: str) -> list[str]:
    if target.startswith("/"):
        raise _leads_out(root, link)
    return [name for name in target.split("/") if name not in ("", ".")]


def _leads_out(root: Path, link: Entry) -> ConfigError:
    return ConfigError(
        f"the link {root / link.path} leads out of the directory, to {link.target}",
        f'make it a relative link to something inside, or leave it out: exclude = ["{link.path}"]',
    )


def _not_included(root: Path, link: Entry, path: str) -> ConfigError:
    return ConfigError(
        f"the link {root / link.path} leads to {path}, which is not part of the release",
        f'add it: files = [..., "{path}"], or leave the link out: exclude = ["{link.path}"]',
    )
