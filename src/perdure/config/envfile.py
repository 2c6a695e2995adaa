r"""Files with variables, as `env_file` names them: `KEY=value` lines as in systemd, Docker and most .env files.

A line may begin with `export`; `#` starts a comment at the beginning of a line, or after a space behind an unquoted
value. Single quotes keep everything; in double quotes \n, \t, \", \\ and \$ are replaced. Nothing is expanded. A
quoted value may span lines. Values are secret: no sentence of this module shows one. `load` calls `read`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from perdure.config import textfile
from perdure.config.mistake import Mistake

_LINE = re.compile(
    r"""(?:[ \t]*\#[^\n]*|[ \t]*)(?:\n|\Z)      # a comment or an empty line
      | [ \t]*(?:export[ \t]+)?
        (?P<key>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=(?P<gap>[ \t]*)
        (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\n'"][^\n]*|) )
        (?P<tail>[ \t]*(?:[ \t]\#[^\n]*)?)(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def read(path: Path) -> Mapping[str, str]:
    """Return the variables of one file; raises Mistake, with the line where there is one."""
    return parse(textfile.read(path))


def parse(text: str) -> Mapping[str, str]:
    """Return the variables of a text, the last of equal names; raises Mistake with the line."""
    text = text.replace("\r\n", "\n")
    variables: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _LINE.match(text, position)
        if found is None:
            line = text.count("\n", 0, position) + 1
            raise Mistake(f"line {line} is not KEY=value", "quote values with special characters: KEY='the value'")
        if found["key"] is not None:
            variables[found["key"]] = _value(found)
        position = found.end()
    return variables


def _value(found: re.Match[str]) -> str:
    if found["single"] is not None:
        return found["single"]
    if found["double"] is not None:
        return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), found["double"])
    return re.split(r"[ \t]#", found["gap"] + found["bare"], maxsplit=1)[0].strip()
