"""What a JSON answer must hold: JSON pointers (RFC 6901) and the value at each.

`http` asks whether an answer is as expected; a number is the same however it is written, and 1 is not true.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

SHOWN = 80
INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def mismatch(body: bytes, expected: Sequence[tuple[str, str]]) -> str | None:
    """What is wrong with the body, in words, or None; `expected` maps pointers to the JSON text of a value."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "a body that is no JSON"
    for pointer, wanted in expected:
        try:
            found = _at(document, pointer)
        except (KeyError, IndexError, ValueError, TypeError):
            return f"nothing at {pointer}, not {wanted}"
        if not _same(found, json.loads(wanted)):
            return f"{json.dumps(found)[:SHOWN]} at {pointer}, not {wanted}"
    return None


def _at(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[_index(key)] if isinstance(document, list) else document[key]
    return document


def _index(key: str) -> int:
    """The place in an array: 0, or digits that do not begin with one; anything else is a ValueError."""
    if not INDEX.fullmatch(key):
        raise ValueError(f"not an index: {key!r}")
    return int(key)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are the same number, and neither is true."""
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)
