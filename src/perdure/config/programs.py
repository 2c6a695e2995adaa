"""Whether the program of a command can be run, before anything is started.

The search is the one that the runner makes later: the first word is expanded with the service's own variables, a word
with a slash is a path from the service's directory, any other word is looked up on the PATH of the service.
`preflight` calls `wrong`.
"""

import os
import stat
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perdure.config import mistake


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a command runs: the final environment and the (absolute) working directory."""

    environment: Mapping[str, str]
    directory: str


def wrong(command: tuple[str, ...], where: Surroundings) -> mistake.Mistake | None:
    """Say why the program of a command cannot be run; None when it can. Expanded words may be secret: not shown."""
    word = string.Template(command[0]).safe_substitute(where.environment)
    name = mistake.quoted(command[0])
    if "/" in word:
        return _wrong_file(Path(where.directory) / word, name)
    folders = where.environment.get("PATH", os.defpath).split(os.pathsep)
    found = [Path(where.directory) / folder / word for folder in folders]
    files = [path for path in found if stat.S_ISREG(mode_of(path))]
    if not files:
        return mistake.Mistake(f"the program {name} is not on PATH", "install it, or write its full path")
    runnable = [path for path in files if os.access(path, os.X_OK)]
    return _wrong_file(runnable[0] if runnable else files[0], name)


def mode_of(path: Path) -> int:
    """Return the mode of what a path leads to; 0 when there is nothing that this user may see."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _wrong_file(path: Path, name: str) -> mistake.Mistake | None:
    mode = mode_of(path)
    if not mode:
        return mistake.Mistake(
            f"there is no program {name}", "paths are relative to the service's directory; correct it"
        )
    if not stat.S_ISREG(mode):
        return mistake.Mistake(f"the program {name} is no file", "name the program itself")
    if not os.access(path, os.X_OK):
        return mistake.Mistake(f"the program {name} is not executable", "chmod +x it, or put its interpreter before it")
    interpreter = _interpreter(path)
    if interpreter.startswith("/") and not mode_of(Path(interpreter)):
        shown = mistake.quoted(interpreter)
        return mistake.Mistake(
            f"the program {name} needs {shown}, which is missing", "correct its first line, or install it"
        )
    return None


def _interpreter(path: Path) -> str:
    """Return the interpreter that a script names in its first line; empty for anything else."""
    try:
        with path.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    words = first[2:].split() if first.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""
