"""Options that many commands share: the file, JSON output, waiting.

`-f` may stand before or after the command; its value arrives in the command already resolved. The environment
variable PERDURE_HOME is read here and nowhere else in the command line.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.config import mistake, units
from perdure.control import paths
from perdure.model import errors

HOME_VARIABLE = "PERDURE_HOME"


def _named_or_default(context: typer.Context, value: str | None) -> str:
    root: dict[str, Any] = context.find_root().params
    return value or root.get("file") or paths.FILE_NAME


RootFile = Annotated[
    str | None,
    typer.Option("-f", "--file", metavar="PATH", help="The file that declares the services (default: perdure.toml)."),
]
File = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--file",
        metavar="PATH",
        callback=_named_or_default,
        help="The file that declares the services (default: perdure.toml).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return as soon as the daemon has recorded the command.")]
Timeout = Annotated[
    str,
    typer.Option(
        "--timeout", metavar="DURATION", help="How long to wait until it is done; the command goes on after it."
    ),
]


def deployment_paths(file: str | None) -> paths.Paths:
    """Where the deployment that `file` declares keeps its state."""
    return paths.Paths.of(Path(file or paths.FILE_NAME), os.environ.get(HOME_VARIABLE))


def duration_s(option: str, text: str) -> float:
    """Read a duration given on the command line; ConfigError names the option."""
    try:
        return units.duration_s(text)
    except mistake.Mistake as error:
        raise errors.ConfigError(f"{option}: {error.sentence}", error.hint) from error
