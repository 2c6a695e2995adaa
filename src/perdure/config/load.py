"""`perdure.toml` to the model, or one ConfigError with everything that is wrong with it.

The path of a file: `textfile` reads it, tomllib parses it, `reading` checks the keys and `relations` what is between
them, `envfile` reads the files it names, `build` makes the model. What only this machine can tell comes afterwards,
in `preflight`.
"""

import re
import tomllib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from perdure.config import build, envfile, explain, mistake, reading, relations, textfile
from perdure.model.errors import ConfigError, Problem
from perdure.model.service import Deployment

PROBLEMS_MAX = 100
_AGAIN = "correct the file, then run `perdure check`"
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_SYNTAX_HINTS = (
    ("Invalid value", 'text, durations and sizes go in quotes: interval = "1s"'),
    ("Expected newline or end of document", 'one key a line; text, durations and sizes go in quotes: interval = "1s"'),
    ("Expected '='", 'write key = "value", and tables as [service.web]'),
    ("Illegal character", "close the quotation mark on the same line"),
    ("Cannot declare", "each table is written once; several checks are [[service.NAME.check]]"),
    ("Cannot overwrite", "each key is written once"),
    ("Unescaped", "a backslash in double quotes is written twice; single quotes keep it as it is"),
)


def load(path: Path) -> Deployment:
    """Read a file; raises ConfigError with all its problems at once, and nothing else whatever the file holds."""
    try:
        text = textfile.read(path)
    except mistake.Mistake as wrong:
        hint = (
            "run `perdure init` to write one, or name it with -f" if wrong.sentence == "does not exist" else wrong.hint
        )
        raise ConfigError(f"{_name(path)} {wrong.sentence}", hint) from None
    return parse(text, path.absolute().parent, _name(path))


def parse(text: str, folder: Path, name: str = "perdure.toml") -> Deployment:
    """Read the text of a file that lies, or would lie, in `folder` (absolute); raises ConfigError like `load`."""
    read, problems = reading.read(_toml(text, name))
    problems += islice(relations.problems(read), PROBLEMS_MAX)
    variables = _variables(read, folder, problems)
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        _sort(problems, read)
        left_out = len(problems) - PROBLEMS_MAX
        if left_out > 0:
            problems[PROBLEMS_MAX:] = [Problem(name, f"and {left_out} more problems", "correct these first")]
        raise ConfigError(f"{name} has {count}", _AGAIN, tuple(problems))
    return build.deployment(read.document, folder, variables)


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text, name) from None
    except (RecursionError, ValueError):
        # Values nested a thousand deep, or numbers of more than 4,300 digits: tomllib gives up in its own ways.
        raise ConfigError(f"{name} is nested too deeply or holds a number that is too large", _AGAIN) from None


def _syntax_error(message: str, text: str, name: str) -> ConfigError:
    where = _WHERE.search(message)
    if where is not None and where[1] is not None:
        line, column = where[1], where[2]
    else:
        line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
    reason = _WHERE.sub("", message)[:200]
    hint = next((hint for start, hint in _SYNTAX_HINTS if reason.startswith(start)), _AGAIN)
    return ConfigError(f"{name}, line {line}, column {column}: {reason[:1].lower()}{reason[1:]}", hint)


def _variables(read: reading.Reading, folder: Path, problems: list[Problem]) -> Mapping[str, Mapping[str, str]]:
    """Read the env_files of all services; what is wrong with them is added to `problems`."""
    merged: dict[str, dict[str, str]] = {}
    for name, service in read.document.service.items():
        for file in service.env_file:
            path = build.absolute(folder, file)
            try:
                merged.setdefault(name, {}).update(envfile.read(Path(path)))
            except mistake.Mistake as wrong:
                at = explain.path_text(("service", name, "env_file"))
                problems.append(Problem(at, f"{_name(Path(path))} {wrong.sentence}", wrong.hint))
    return merged


def _sort(problems: list[Problem], read: reading.Reading) -> None:
    """Put the problems into the order of the services in the file, whoever found them."""
    order = {explain.path_text(("service", name)): index for index, name in enumerate(read.document.service)}
    problems.sort(key=lambda problem: order.get(".".join(problem.path.split(".")[:2]), -1))


def _name(path: Path) -> str:
    """Show a path on one line, whatever it holds."""
    text = str(path)
    return text if text.isprintable() else mistake.quoted(text)
