"""Write TOML by hand: quoted text, lists, keys, comments and service names that always load again.

Used by `init`, `procfile` and `unit`, whose input comes from files that nobody has checked.
"""

import json
import re
from collections.abc import Mapping, Sequence

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def text(value: str) -> str:
    """Write text in quotes: single ones where they save backslashes."""
    if ('"' in value or "\\" in value) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def texts(values: Sequence[str]) -> str:
    """Write a list of texts on one line."""
    return "[" + ", ".join(text(value) for value in values) + "]"


def table(values: Mapping[str, str]) -> str:
    """Write an inline table of texts."""
    return "{ " + ", ".join(f"{_key(key)} = {text(value)}" for key, value in values.items()) + " }"


def comment(value: str) -> str:
    """Write one line of comment, whatever the value holds."""
    return "# " + "".join(character if character.isprintable() else " " for character in value).rstrip()


def service_name(wish: str, taken: Sequence[str] = ()) -> str:
    """Turn any text into a valid service name that is not taken yet; `web` when nothing of it is usable."""
    name = _NOT_IN_A_NAME.sub("-", wish.lower())[:50].lstrip("-0123456789").rstrip("-") or "web"
    number = 1
    unique = name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else text(key) if key.isprintable() and "'" not in key else json.dumps(key)
