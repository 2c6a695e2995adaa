"""How things look: consoles, colours by state, times for people, and text from elsewhere made harmless.

Used by every view of the command line. Importing it is cheap; rich is loaded with the first console.
"""

import functools
import io
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 1000
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STYLES = {
    "ready": "green",
    "starting": "cyan",
    "suspect": "yellow",
    "degraded": "yellow",
    "draining": "blue",
    "drained": "blue",
    "stopping": "blue",
    "stopped": "bright_black",
    "isolated": "red",
    "down": "bold red",
    "crash-looping": "bold red",
    "unknown": "magenta",
    "alarm": "bold red",
    "warning": "yellow",
    "info": "cyan",
    "running": "green",
    "serving": "green",
    "silent": "red",
    "failed": "bold red",
    "ok": "green",
}


def prepare_streams() -> None:
    """Make both outputs such that printing cannot fail: closed ones go nowhere, strange encodings show `?`."""
    sys.stdout, sys.stderr = (_prepared(stream) for stream in (sys.stdout, sys.stderr))


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


@functools.cache
def out() -> "Console":
    """The console on stdout; without a terminal it never wraps, so that a line stays a line."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS, soft_wrap=False)


def show(picture: "RenderableType") -> None:
    """Print a picture on stdout; in a pipe without the spaces that fill its lines up."""
    if is_terminal():
        out().print(picture)
        return
    with out().capture() as captured:
        out().print(picture)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def is_terminal() -> bool:
    """Whether a person reads stdout now."""
    return sys.stdout.isatty()


def style(word: str) -> str:
    """The colour of a state or severity; a word that is not known is shown like the unknown."""
    return _STYLES.get(word, "magenta")


def span(seconds: float | None) -> str:
    """Write a length of time in at most two units: `0.4 s`, `12 s`, `3 m 5 s`, `2 h`, `4 d 3 h`."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    rest = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def size(size_bytes: int) -> str:
    """Write a size with one digit after the point: `512 B`, `1.2 kB`, `3.4 GB`; units are powers of 1,000."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes} B"


def instant(wall_at: float) -> str:
    """Write a time of the wall clock (Unix time) to the second, as this machine's users read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_at))


def harmless(text: str) -> str:
    """Take out or replace what a terminal would act on in text that a replica wrote; tabs become spaces."""
    text = _COLOUR.sub("", text)
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text.expandtabs(4)
    )


def bar(share: float | None, cells: int = 10) -> str:
    """Draw a share of a threshold; a full bar is the threshold or above."""
    if share is None:
        return "?" * cells
    full = min(cells, max(0, round(share * cells)))
    return "█" * full + "░" * (cells - full)
