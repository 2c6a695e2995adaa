"""The one way in which a reader of values says no: a sentence and a remedy, without the path.

`units`, `addresses` and `kinds` raise it; `explain` adds the path and makes a Problem of it. It is a ValueError, so
that pydantic collects it with all the others instead of stopping. `got` shows a value as the file spells it, short
and harmless.
"""

import json

_SHOWN_CHARACTERS = 60


class Mistake(ValueError):
    """A value that cannot be meant: `sentence` completes "service.web.replicas: ...", `hint` is the remedy."""

    def __init__(self, sentence: str, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


def got(value: object) -> str:
    """Render `(got 0)` for a value that is no secret; long text is cut, tables and lists are only named."""
    return f"(got {shown(value)})"


def shown(value: object) -> str:
    """Render a value as TOML spells it, on one line and without control characters."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            # A hexadecimal integer of the file may have more digits than Python is willing to print.
            return str(value) if isinstance(value, float) or abs(value) < 10**30 else "a very large number"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def quoted(text: str) -> str:
    """Render text in double quotes, cut to a readable length, with everything that a terminal would act on escaped."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    if cut.isprintable():
        return '"' + cut.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(cut)
