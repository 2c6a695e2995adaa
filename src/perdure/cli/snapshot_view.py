"""One snapshot in full: where it comes from, what is in it, why it is kept, and whether it is known to restore.

A pure function of the API's document, for `perdure snapshot show`; the list of all is in `keeping`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from perdure.cli import terminal

Document = Mapping[str, Any]
_LABEL_CHARACTERS = 10
_DIM = "bright_black"


def render(snapshot: Document) -> Group:
    """Render what is known of a snapshot."""
    title = Text.assemble((str(snapshot["id"]), "bold"), f"  of {snapshot['slot']}")
    return Group(title, *(_line(label, words) for label, words in _facts(snapshot)))


def _facts(snapshot: Document) -> Iterator[tuple[str, str]]:
    age = terminal.span(snapshot["age_s"])
    yield "taken", f"{terminal.instant(snapshot['taken_at'])}, {age} ago, in {snapshot['took_s']:.1f} s"
    after = f", after {snapshot['parent']}" if snapshot["parent"] is not None else ", after none"
    yield "history", f"epoch {snapshot['epoch']}, data epoch {snapshot['data_epoch']}{after}"
    size, added = (terminal.size(snapshot[key]) for key in ("size_bytes", "stored_bytes"))
    yield "content", f"{snapshot['kind']}, {size} ({snapshot['size_bytes']:,} bytes); it added {added} to the store"
    yield "digest", str(snapshot["digest"])
    yield "kept as", _kept(snapshot)
    yield "proven", _proven(snapshot)
    yield "applied", ", ".join(snapshot["slots"]) or "no slot stands at it"


def _kept(snapshot: Document) -> str:
    names, pin = [str(name) for name in snapshot["marks"]], snapshot["pin"]
    if snapshot["pinned"]:
        until = "it is unpinned" if pin["until"] is None else terminal.instant(pin["until"])
        names.append(f"pinned until {until} ({terminal.harmless(str(pin['why']))})")
    return ", ".join(names) or "any other: retention may remove it"


def _proven(snapshot: Document) -> str:
    proven = snapshot["proven"]
    if proven is None:
        return f"not yet: perdure snapshot verify {snapshot['service']} {snapshot['id']}"
    at = terminal.instant(proven["at"])
    if proven["problem"]:
        return f"FAILED on {at}: {terminal.harmless(str(proven['problem']))}"
    return f"restored aside and checked on {at}, in {proven['took_s']:.1f} s"


def _line(label: str, words: str) -> Text:
    return Text.assemble((f"  {label:<{_LABEL_CHARACTERS}}", _DIM), words)
