"""From what pydantic found to Problems: the path as the file spells it, one sentence, and the remedy.

`reading` calls `problems` with the error and the raw document. Values that may be secret (`env`, headers, commands,
unknown keys) are never shown; the kinds see to that for the keys that they read, and nothing here looks at any other
value.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from perdure.config import schema, schema_section
from perdure.config.mistake import Mistake, got
from perdure.model.errors import Problem

Location = tuple[str | int, ...]
"""Keys and list indices from the top of the document: `("service", "web", "check", 0, "timeout")`."""

_KEY_MARK = "[key]"  # how pydantic says that a table's key, and not its value, is wrong
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ALSO_KNOWN_AS = {
    "address": "listen",
    "bind": "listen",
    "cwd": "directory",
    "duration": "for",
    "environment": "env",
    "exec": "command",
    "healthcheck": "check",
    "ignore": "exclude",
    "include": "files",
    "instances": "replicas",
    "numprocs": "replicas",
    "path": "http",
    "rollout": "deploy",
    "weight": "share",
    "working_directory": "directory",
    "workdir": "directory",
}
_EXAMPLES = {
    "command": 'add a line such as command = "gunicorn -b 127.0.0.1:$PORT shop:app"',
    "every": 'add every = "2s"',
    "for": 'add for = "60s"',
    "path": 'add path = "/search"',
    "share": 'add share = "5%"',
}
_LISTS = {"steps": 'steps = [{ share = "5%", for = "60s" }]'}
"""Tables that are written within their list."""


def problems(error: ValidationError, raw: dict[str, Any]) -> Iterator[tuple[Location, Problem]]:
    """Yield each problem with the location of the value that is wrong."""
    for item in error.errors(include_url=False, include_input=False):
        location = _as_written(item["loc"], raw)
        sentence, hint = _sentence(item["type"], item.get("ctx", {}), location, raw)
        yield location, Problem(path_text(location), sentence, hint)


def path_text(location: Location) -> str:
    """Render a location as `service.web.check[0].timeout`; keys that need quotes get them."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part[:64]))
    return text


def value_at(raw: object, location: Location) -> object:
    """Return the raw value at a location; None when there is none (TOML itself has no null)."""
    for part in location:
        if isinstance(raw, dict):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            return None
    return raw


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``did you mean `replicas`?`` when a known word is close; otherwise nothing."""
    near = difflib.get_close_matches(word[:64].lower(), known, n=1)
    return f"did you mean `{near[0]}`?" if near else ""


def _as_written(location: Location, raw: dict[str, Any]) -> Location:
    """Drop what pydantic adds: the mark of a key, and the index in a list that the file wrote as a single table."""
    parts: list[str | int] = []
    for part in location:
        single = isinstance(part, int) and isinstance(value_at(raw, tuple(parts)), dict)
        if part != _KEY_MARK and not single:
            parts.append(part)
    return tuple(parts)


def _sentence(kind: str, context: dict[str, Any], location: Location, raw: dict[str, Any]) -> tuple[str, str]:
    mistake = context.get("error")
    if isinstance(mistake, Mistake):
        return mistake.sentence, mistake.hint
    match kind:
        case "extra_forbidden":
            key = str(location[-1])
            return f"unknown key `{path_text((key,))}`", _unknown_key_hint(key, location[:-1], raw)
        case "missing":
            return "is missing", _EXAMPLES.get(str(location[-1]), "")
        case _:
            value = value_at(raw, location)
            # Text in the place of a table may be one of the secrets that belong into it.
            shown = "(got text)" if isinstance(value, str) else got(value)
            return f"must be a table {shown}", f"write it as {_table_header(location)}"


def _unknown_key_hint(key: str, parent: Location, raw: dict[str, Any]) -> str:
    home = _section_name(parent)
    known = list(schema_section.keys(schema.SECTIONS[home]))
    alias = _ALSO_KNOWN_AS.get(key.lower())
    if alias in known:
        return f"did you mean `{alias}`?"
    homes = [name for name, model in schema.SECTIONS.items() if key in schema_section.keys(model)]
    if not homes and (near := did_you_mean(key, known)):
        return near
    if not home and isinstance(value_at(raw, (key,)), dict):
        return f"a service is a table such as [service.{key if _BARE_KEY.fullmatch(key) else 'web'}]"
    if homes:
        name = str(parent[1]) if len(parent) > 1 and _BARE_KEY.fullmatch(str(parent[1])) else "NAME"
        return "it belongs in " + " or ".join(_home_text(home, name) for home in homes)
    return "known here: " + ", ".join(known)


def _section_name(location: Location) -> str:
    """Map `("service", "web", "check", 0)` to `service.check`."""
    words = [part for index, part in enumerate(location) if isinstance(part, str) and index != 1]
    return ".".join(words)


def _home_text(home: str, name: str) -> str:
    first, _, rest = home.partition(".")
    if first == "service":
        return f"[{first}.{name}{'.' + rest if rest else ''}]"
    return f"[{home}]" if home else "the top"


def _table_header(location: Location) -> str:
    names = [part for part in location if isinstance(part, str)]
    if names[-1] in _LISTS:
        return _LISTS[names[-1]]
    return f"[{path_text(tuple(names))}]" if names != ["service"] else "[service.NAME]"
