"""The settings of a service in the words of the file, for people: `check.timeout` -> `500ms`.

Most of it is by rule, from the fields of the model (the unit at the end of a name says how its value is written), so
that a new field cannot be forgotten; what the file calls otherwise is listed. The environment is not among them: its
values are secret. Nor is, for a release with files of its own, where they lie: that is another place for each.
Neighbours: `spelling` writes the values, `difference` compares two services.
"""

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Deploy, DeployTest, Files
from perdure.model.service import Address, Canary, Service
from perdure.recover import spelling

NOT_SET = "not set"
COMMANDS = frozenset({"command", "take", "restore", "before", "after"})
"""Lists of words that are one command."""
SHARES = frozenset({"budget", "errors_max"})
NAMES = {"errors_max": "max_errors"}
"""Field -> what the file calls it, where the rule is wrong."""
_APART: Mapping[type, frozenset[str]] = {
    Service: frozenset({"name", "command", "environment", "directory", "files", "checks", "digest", "canary"}),
    Deploy: frozenset({"steps", "tests", "breaks_data"}),
}
"""Fields that are not written by rule, or not here."""
_UNITS = (("_per_s", ""), ("_s_max", "_max"), ("_bytes", ""), ("_s", ""))
"""Ends of the names of fields, and what the file has instead."""

_PLAIN = re.compile(r"[\w@%+=:,./${}-]+")

Settings = Iterator[tuple[str, str]]


def settings(service: Service) -> Mapping[str, str]:
    """Path below `service.NAME` -> the value as the file would have it. What is not set is left out."""
    return {path: text for path, text in _all(service) if text != NOT_SET}


def command(words: Sequence[str]) -> str:
    """A command as it may stand in the file: quoted like a shell's, but for what Perdure itself replaces."""
    return " ".join(word if _PLAIN.fullmatch(word) else shlex.quote(word) for word in words)


def _all(service: Service) -> Settings:
    yield from _fields(service, "")
    yield from _deploy(service.deploy)
    for check, at in zip(service.checks, _places("check", [one.label for one in service.checks]), strict=True):
        yield from _check(check, at)
    if service.digest is not None:
        yield from _digest(service.digest)
    if service.canary is not None:
        yield from _canary(service.canary)
    yield from _files(service.files, service.directory)


def _fields(value: Any, prefix: str) -> Settings:
    """All fields of a dataclass, and of those in it."""
    apart = _APART.get(type(value), frozenset())
    for name in [field.name for field in dataclasses.fields(value) if field.name not in apart]:
        inner = getattr(value, name)
        path = f"{prefix}{_name(name)}"
        if dataclasses.is_dataclass(inner) and not isinstance(inner, Address):
            yield from _fields(inner, f"{path}.")
        else:
            yield path, _text(name, inner)


def _name(field: str) -> str:
    if field in NAMES:
        return NAMES[field]
    for end, instead in _UNITS:
        if field.endswith(end):
            return field.removesuffix(end) + instead
    return field


def _text(field: str, value: Any) -> str:
    if value is None or value == () or value == "":
        return NOT_SET
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return command(value) if field in COMMANDS else ", ".join(map(str, value))
    if isinstance(value, Enum):
        return str(value.value)
    if field in SHARES:
        return spelling.share(value)
    if field.endswith("_per_s"):
        return spelling.rate(value)
    if field.endswith(("_s", "_s_max")):
        return spelling.duration(value)
    return spelling.size(value) if field.endswith("_bytes") else str(value)


def _places(section: str, labels: Sequence[str]) -> list[str]:
    """A table that stands alone has the name of its section, several are told apart by what they ask; the same asked
    twice, by its turn."""
    if len(labels) == 1:
        return [section]
    turns = [labels[:number].count(label) for number, label in enumerate(labels)]
    return [
        f"{section}[{label}]" if turn == 0 else f"{section}[{label}, {turn + 1}]"
        for label, turn in zip(labels, turns, strict=True)
    ]


def _check(check: Check, at: str) -> Settings:
    match check.kind:
        case CheckKind.HTTP:
            yield f"{at}.http", check.path
        case CheckKind.TCP:
            yield f"{at}.tcp", "true"
        case CheckKind.COMMAND:
            yield f"{at}.command", command(check.command)
    yield f"{at}.tls", "true" if check.tls else NOT_SET
    yield f"{at}.interval", spelling.duration(check.interval_s)
    yield f"{at}.timeout", spelling.duration(check.timeout_s)
    yield from _expected(check, at)


def _digest(check: Check) -> Settings:
    is_command = check.kind is CheckKind.COMMAND
    yield ("digest.command", command(check.command)) if is_command else ("digest.path", check.path)
    yield "digest.every", spelling.duration(check.interval_s)
    yield "digest.timeout", spelling.duration(check.timeout_s)


def _canary(canary: Canary) -> Settings:
    yield "canary.method", canary.check.method
    yield "canary.path", canary.check.path
    yield "canary.rate", spelling.frequency(canary.rate_per_s)
    yield "canary.timeout", spelling.duration(canary.check.timeout_s)
    yield from _expected(canary.check, "canary")


def _expected(check: Check, at: str) -> Settings:
    yield f"{at}.expect.status", _text("status", check.expect_status)
    yield f"{at}.expect.body", _text("body", check.expect_body)
    yield f"{at}.expect.headers", _pairs(check.expect_headers)
    yield f"{at}.expect.fields", _pairs(check.expect_json)
    yield f"{at}.expect.min_size", spelling.size(check.expect_bytes) if check.expect_bytes else NOT_SET


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in pairs) or NOT_SET


def _deploy(deploy: Deploy) -> Settings:
    steps = (f"{spelling.share(one.share)} for {spelling.duration(one.for_s)}" for one in deploy.steps)
    yield "deploy.steps", ", ".join(steps) or NOT_SET
    yield "deploy.data", "breaking" if deploy.breaks_data else "compatible"
    for test, at in zip(deploy.tests, _places("deploy.test", [one.label for one in deploy.tests]), strict=True):
        yield from _test(test, at)


def _test(test: DeployTest, at: str) -> Settings:
    if test.check is not None:
        yield f"{at}.http", test.check.path
        yield f"{at}.method", test.check.method
        yield from _expected(test.check, at)
    else:
        yield f"{at}.command", command(test.command)
    yield f"{at}.timeout", spelling.duration(test.timeout_s)
    yield f"{at}.tries", str(test.tries)


def _files(files: Files | None, directory: str) -> Settings:
    """Of a release with files of its own, `directory` is where its copy lies, and says nothing."""
    if files is None:
        yield "directory", directory
    else:
        yield "directory", files.source
        yield "files", ", ".join(files.include)
        yield "exclude", _text("exclude", files.exclude)
