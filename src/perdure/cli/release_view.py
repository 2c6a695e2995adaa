"""How releases look to a person: the list of those that are kept, and in what two of them differ.

Pure functions of the API's documents, for `perdure releases` and `perdure diff`; how one is let in is `rollout_view`.
"""

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from perdure.cli import terminal
from perdure.cli.rollout_words import Document

_HEADER = ("RELEASE", "MADE", "STATE", "FILES", "MESSAGE")
_STATES = {"serves": "green", "on trial": "cyan", "stands by": "blue"}
_MARKS = {"+": "green", "-": "red", "~": "yellow"}
_DIGEST_CHARACTERS = 8
_DIM = "bright_black"


def render(releases: Sequence[Document]) -> Group:
    """Render the releases of a service, a line for each, and below it why it was rolled back."""
    if not releases:
        return Group(Text("no release is kept yet: the first deploy makes one"))
    rows = [_cells(one) for one in releases]
    widths = [max(len(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER))]
    lines = [Text(_row(_HEADER, widths), _DIM, no_wrap=True, overflow="ellipsis")]
    for one, cells in zip(releases, rows, strict=True):
        lines += _release(one, _row(cells, widths), widths[0] + 2)
    return Group(*lines)


def render_difference(difference: Document) -> Group:
    """Render in what two releases differ: + is only in the newer one, - only in the older one, ~ in both."""
    title = Text.assemble(f"{difference['before']} -> ", (str(difference["after"]), "bold"))
    lines = [terminal.harmless(str(line)) for line in difference["lines"]]
    if not lines:
        return Group(title, Text("  they do not differ"))
    return Group(title, *(Padding(Text(line, _MARKS.get(line[:1], "")), (0, 0, 0, 2), expand=False) for line in lines))


def _release(one: Document, row: str, indent: int) -> Iterator[Text]:
    yield Text(row, _STATES.get(str(one["state"]), ""), no_wrap=True, overflow="ellipsis")
    if one["verdict"]:
        verdict = f"{'':<{indent}}was rolled back: {terminal.harmless(str(one['verdict']))}"
        yield Text(verdict, "red", no_wrap=True, overflow="ellipsis")


def _cells(one: Document) -> tuple[str, ...]:
    message, files = terminal.harmless(str(one["message"])), str(one["files"])[:_DIGEST_CHARACTERS]
    return (str(one["release"]), terminal.instant(one["made_at"]), str(one["state"]) or "-", files or "-", message)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
