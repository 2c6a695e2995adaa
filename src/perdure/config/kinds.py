"""The kinds of values that the file knows: how each is read, how it is written, and what the reference calls it.

A `Kind` is put on a field of `schema` as an annotation; pydantic calls it with what TOML gave, and collects its
Mistakes. Secret kinds never show the value. Numbers with units are read by `units`, addresses by `addresses`, and the
patterns of files by `patterns`.
"""

import difflib
import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from perdure.config import addresses, patterns, units
from perdure.config.mistake import Mistake, got

Number = TypeVar("Number", int, float)

_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGABRT", "SIGKILL")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SERVICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_JSON_POINTER = re.compile(r"(/([^~/]|~[01])*)+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: `label` names it in the reference, `read` raises Mistake, `write` is its inverse."""

    label: str
    read: Callable[[object], Any]
    write: Callable[[Any], str] = str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let `read` alone decide; it is stricter than any type."""
        return core_schema.no_info_plain_validator_function(self.read)


def whole(at_least: int, at_most: int) -> Kind:
    """Make the kind of whole numbers within bounds."""

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            digits = isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value)
            raise Mistake(f"must be a whole number {got(value)}", "remove the quotes" if digits else "")
        return _bounded(value, value, (at_least, at_most), str)

    return Kind(f"whole number, {at_least} to {at_most}", read)


def duration(at_least_s: float, at_most_s: float) -> Kind:
    """Make the kind of durations within bounds."""

    def read(value: object) -> float:
        return _bounded(units.duration_s(value), value, (at_least_s, at_most_s), units.duration_text)

    label = f"duration, {units.duration_text(at_least_s)} to {units.duration_text(at_most_s)}"
    return Kind(label, read, lambda value: f'"{units.duration_text(value)}"')


def size(at_least: int, at_most: int) -> Kind:
    """Make the kind of sizes in bytes within bounds."""

    def read(value: object) -> int:
        return _bounded(units.size_bytes(value), value, (at_least, at_most), units.size_text)

    label = f"size, {units.size_text(at_least)} to {units.size_text(at_most)}"
    return Kind(label, read, lambda value: f'"{units.size_text(value)}"')


def frequency(at_least_per_s: float, at_most_per_s: float) -> Kind:
    """Make the kind of frequencies within bounds."""

    def read(value: object) -> float:
        bounds = (at_least_per_s, at_most_per_s)
        return _bounded(units.frequency_per_s(value), value, bounds, units.frequency_text)

    label = f"frequency, {units.frequency_text(at_least_per_s)} to {units.frequency_text(at_most_per_s)}"
    return Kind(label, read, lambda value: f'"{units.frequency_text(value)}"')


def choice(*allowed: str) -> Kind:
    """Make the kind of fixed words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        near = difflib.get_close_matches(value[:64].lower(), allowed, n=1) if isinstance(value, str) else []
        listed = " or ".join(f'"{word}"' for word in allowed)
        raise Mistake(f"must be {listed} {got(value)}", f'did you mean "{near[0]}"?' if near else "")

    return Kind(" or ".join(f'`"{word}"`' for word in allowed), read, lambda value: f'"{value}"')


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Mistake(f"must be text in quotes {got(value)}")
    if not value or "\0" in value:
        raise Mistake("must not be empty" if not value else "must not hold a NUL character")
    return value


def _line(value: object) -> str:
    text = _text(value)
    if not text.isprintable():
        raise Mistake(f"must be one line without control characters {got(value)}")
    return text


def _words(value: object) -> tuple[str, ...]:
    """Split a command as a shell does. Commands may hold secrets, so they are never shown."""
    if isinstance(value, str):
        try:
            words = shlex.split(_dollars_kept(value))
        except ValueError:
            raise Mistake(
                "has a quotation mark or a backslash without its counterpart",
                'write it as a list: ["program", "argument"]',
            ) from None
    elif isinstance(value, list) and all(isinstance(word, str) for word in value):
        words = value
    else:
        raise Mistake("must be text, or a list of texts", 'such as "gunicorn shop:app" or ["gunicorn", "shop:app"]')
    if not words or not words[0]:
        raise Mistake("must name a program", 'such as "gunicorn -b 127.0.0.1:$PORT shop:app"')
    if any("\0" in word for word in words):
        raise Mistake("must not hold a NUL character")
    return tuple(words)


def _dollars_kept(command: str) -> str:
    """Double the dollars that a shell would keep (in single quotes, after a backslash), as the runner wants them."""
    quote, text, characters = "", "", iter(command)
    for character in characters:
        if character == "\\" and quote != "'":
            following = next(characters, "")
            text += "$$" if following == "$" else character + following
        else:
            if character in ("'", '"') and quote in ("", character):
                quote = "" if quote else character
            text += "$$" if character == "$" and quote == "'" else character
    return text


def _texts(value: object) -> tuple[str, ...]:
    """Read one text or a list of them."""
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in listed):
        raise Mistake(f"must be text in quotes, or a list of texts {got(value)}")
    return tuple(_line(item) for item in listed)


def _flag(value: object) -> bool:
    if value is not True:
        raise Mistake(f"must be true {got(value)}", "remove the line to have no such check")
    return True


def _yes_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise Mistake(f"must be true or false {got(value)}", "without quotes")
    return value


def _signal(value: object) -> str:
    name = value.upper() if isinstance(value, str) else ""
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in _SIGNALS:
        raise Mistake(f"must be a signal that asks a process to end {got(value)}", "one of " + ", ".join(_SIGNALS))
    return name


def _url_path(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise Mistake(f"must be a path that starts with a slash {got(value)}", 'such as "/healthz"')
    if not text.isascii() or not text.isprintable() or set(text) & set(' "<>\\^`{|}#'):
        raise Mistake(
            f"must be a path as it stands in a URL {got(value)}", "write special characters as %20 and the like"
        )
    return text


def _url_paths(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    paths = tuple(_url_path(item) for item in listed)
    for path in paths:
        if "?" in path:
            raise Mistake(f"must be a path without a query {got(path)}", "remove what follows the question mark")
    return paths


def _statuses(value: object) -> tuple[int, ...]:
    listed = value if isinstance(value, list) else [value]
    for item in listed:
        if not isinstance(item, int) or isinstance(item, bool) or not 100 <= item <= 599:
            raise Mistake(
                f"must be an HTTP status from 100 to 599, or a list of them {got(item)}", "such as 200 or [200, 204]"
            )
    if not listed:
        raise Mistake("must name at least one status", "such as 200 or [200, 204]")
    return tuple(dict.fromkeys(listed))


def _header_name(value: object) -> str:
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise Mistake("is no valid name of an HTTP header", "letters, digits and dashes, such as Content-Type")
    return value


def _header_value(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise Mistake("must be one line of text in quotes")
    return value


def _json_pointer(value: object) -> str:
    if not isinstance(value, str) or not _JSON_POINTER.fullmatch(value):
        raise Mistake("is no JSON pointer", 'such as "/status" or "/checks/0/ok"')
    return value


def _json_value(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistake(f"must be a value that JSON can hold {got(value)}")
    if not isinstance(value, str | int | float | bool):
        raise Mistake(f"must be a text, a number, true or false {got(value)}", "compare one field for each value")
    return json.dumps(value)


def _variable_name(value: object) -> str:
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise Mistake("is no valid name of a variable", "letters, digits and underscores, not starting with a digit")
    return value


def _secret(value: object) -> str:
    if not isinstance(value, str):
        raise Mistake("must be text in quotes", "also numbers and true or false: the environment holds only text")
    if "\0" in value:
        raise Mistake("must not hold a NUL character")
    return value


def _service_name(value: object) -> str:
    if isinstance(value, str) and _SERVICE_NAME.fullmatch(value):
        return value
    near = re.sub(r"[^a-z0-9]+", "-", str(value)[:63].lower()).strip("-0123456789")
    raise Mistake(
        "a service's name is 1 to 63 lowercase letters, digits and dashes, and starts with a letter",
        f"such as {near}" if _SERVICE_NAME.fullmatch(near) else "such as web",
    )


def _bounded(number: Number, value: object, bounds: tuple[Number, Number], text: Callable[[Any], str]) -> Number:
    at_least, at_most = bounds
    if number < at_least:
        raise Mistake(f"must be at least {text(at_least)} {got(value)}")
    if number > at_most:
        raise Mistake(f"must be at most {text(at_most)} {got(value)}")
    return number


def _listed(values: tuple[object, ...]) -> str:
    return "[" + ", ".join(str(value) for value in values) + "]" if len(values) != 1 else str(values[0])


TEXT = Kind("text", _text, lambda value: f'"{value}"')
LINE = Kind("text", _line, lambda value: f'"{value}"')
YES_NO = Kind("`true` or `false`", _yes_no, lambda value: "true" if value else "false")
FLAG = Kind("`true`", _flag, lambda value: "true" if value else "false")
WORDS = Kind("text, split as a shell does, or a list of texts", _words)
TEXTS = Kind("text or a list of texts", _texts, _listed)
FILE_PATTERNS = Kind("a shell pattern or a list of them", patterns.read, _listed)
SIGNAL = Kind("a signal's name", _signal, lambda value: f'"{value}"')
URL_PATH = Kind("a URL's path", _url_path, lambda value: f'"{value}"')
URL_PATHS = Kind("a URL's path, or a list of them", _url_paths, _listed)
STATUSES = Kind("an HTTP status or a list of them", _statuses, _listed)
HEADER_NAME = Kind("an HTTP header's name", _header_name)
HEADER_VALUE = Kind("text", _header_value)
JSON_POINTER = Kind("a JSON pointer", _json_pointer)
JSON_VALUE = Kind("text, number, true or false", _json_value)
VARIABLE_NAME = Kind("a variable's name", _variable_name)
SECRET = Kind("text", _secret)
SERVICE_NAME = Kind("a service's name", _service_name)
NETWORKS = Kind("an address, a network, or a list of them", addresses.networks, _listed)
ADDRESS = Kind("`host:port`", addresses.address, lambda value: f'"{value}"')
PORTS = Kind("`first-last`", addresses.port_range, lambda value: f'"{addresses.port_range_text(value)}"')
SHARE = Kind("share, `20%` or 0.2", units.share, lambda value: f'"{units.share_text(value)}"')
SHARE_BETWEEN = Kind(
    "share, above 0% and below 100%", units.share_between, lambda value: f'"{units.share_text(value)}"'
)
RATE = Kind("rate, `1 per 30 days`", units.rate_per_s, lambda value: f'"{units.rate_text(value)}"')
