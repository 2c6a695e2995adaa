"""What daemon and keeper process say to each other: one line of JSON each way, a call and its result or error.

Secrets of a service's environment are in calls, and so on a pipe, and in no file and no log. `client` asks, `process`
answers.
"""

import json
from dataclasses import dataclass
from typing import Any

from perdure.model import errors
from perdure.model.errors import PerdureError, UnavailableError
from perdure.ports import keeper

LINE_BYTES_MAX = 64 << 20
"""A list of names, at the most."""

_KINDS: dict[str, type[PerdureError]] = {
    kind.__name__: kind
    for kind in (
        errors.PerdureError,
        errors.ConfigError,
        errors.UnavailableError,
        errors.ConflictError,
        errors.RefusedError,
        errors.CorruptionError,
        keeper.HalfwayError,
    )
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request; arguments are what JSON knows."""

    name: str
    arguments: dict[str, Any]

    def encode(self) -> bytes:
        """As it is sent."""
        return _line({"call": self.name, "arguments": self.arguments})

    @classmethod
    def decode(cls, line: bytes) -> "Call":
        """The call in a line."""
        document = json.loads(line)
        return cls(str(document["call"]), dict(document["arguments"]))


def answer(result: Any) -> bytes:
    """The line that carries a result."""
    return _line({"result": result})


def refusal(error: PerdureError) -> bytes:
    """The line that carries an operating error."""
    return _line({"error": type(error).__name__, "sentence": error.sentence, "hint": error.hint})


def result(line: bytes) -> Any:
    """What a line carries; raises the error that it carries."""
    document = json.loads(line)
    if "error" in document:
        kind = _KINDS.get(document["error"], UnavailableError)
        raise kind(str(document["sentence"]), str(document["hint"]))
    return document["result"]


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
