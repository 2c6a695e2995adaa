"""Which endpoint a request belongs to: declared prefixes, or groups that are learned from the paths themselves.

A replica that fails on `/pay` alone drowns in the rate of all its requests; so evidence is kept by endpoint, and the
number of endpoints must stay small. A path is grouped by its first two segments, with everything that looks like a
name of one thing (numbers, keys, long words) replaced by `*`: `/orders/4711/items` is `/orders/*`. A declared prefix
wins, the longest first. A group that is seen for the first time beyond the limit is counted as `(other)` until an
older one has not been seen for a while; an answer of 404 admits no group, or whoever scans for holes would fill the
table.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

OTHER = "(other)"
"""All groups for which there is no room."""
GROUPS_MAX = 16
SEGMENTS = 2
FORGOTTEN_S = 600.0
"""A group that was not seen for so long makes room."""
WORD_LENGTH_MAX = 24

_VERSION = re.compile(r"v\d{1,2}")
_WORD = re.compile(r"[A-Za-z][A-Za-z_.~-]*")


def group(path: str) -> str:
    """The group of a path without its query, as learned: `/api/v1/users/4711` is `/api/v1/users`."""
    kept: list[str] = []
    words = 0
    for segment in path.split("/"):
        if not segment:
            continue
        if words == SEGMENTS:
            break
        if _VERSION.fullmatch(segment):
            kept.append(segment)
            continue
        kept.append(segment if _WORD.fullmatch(segment) and len(segment) <= WORD_LENGTH_MAX else "*")
        words += 1
    return "/" + "/".join(kept)


def declared(path: str, prefixes: Sequence[str]) -> str | None:
    """The longest of the declared prefixes that the path begins with, at a `/`; None when there is none."""
    fitting = (prefix for prefix in prefixes if path == prefix or path.startswith(prefix.rstrip("/") + "/"))
    return max(fitting, key=len, default=None)


def admitted(known: Mapping[str, float], seen: Iterable[str], now: float) -> dict[str, float]:
    """The groups that have evidence of their own after those in `seen` were met: group -> when it was last seen."""
    kept = {name: at for name, at in known.items() if now - at < FORGOTTEN_S}
    for name in seen:
        if name in kept or len(kept) < GROUPS_MAX:
            kept[name] = now
    return kept
