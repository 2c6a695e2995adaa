"""What a JSON answer must hold: JSON pointers (RFC 6901) and the value at each.

`http` asks whether an answer is as expected; two values are the same when their JSON is, so 1 is not true.
"""

import json
from collections.abc import Sequence
from typing import Any

SHOWN = 80


def mismatch(body: bytes, expected: Sequence[tuple[str, str]]) -> str | None:
    """What is wrong with the body, in words, or None; `expected` maps pointers to the JSON text of a value."""
    try:
        document = json.loads(body)
    except ValueError:
        return "a body that is no JSON"
    for pointer, wanted in expected:
        try:
            found = _shown(_at(document, pointer))
        except (KeyError, IndexError, ValueError, TypeError):
            return f"nothing at {pointer}, not {wanted}"
        if found != wanted:
            return f"{found[:SHOWN]} at {pointer}, not {wanted}"
    return None


def _at(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def _shown(value: Any) -> str:
    return json.dumps(value)
