"""In what two releases differ, for people; and a digest of what makes a release a different one, for machines.

The difference names files with their sizes, variables of the environment without their values, the command, and all
other settings as `check.http: /a -> /b`. Values of the environment are secret: whether they are equal is found out
here, and nothing of them is handed on, no digest either: it would tell whoever guesses a value that he is right.
Where the file repeats such a value elsewhere, the variable's name is shown for it.

The digest is what "the same content is refused" goes by. It covers the values too, since it is stored beside them; for
that very reason it is not to be shown. Neighbours: `settings` says what there is in the words of the file,
`model.bundle` what a list of files is, `control.release_records` calls both.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from perdure.model import codec
from perdure.model.bundle import Entry, EntryKind
from perdure.model.check import Check
from perdure.model.release import Release
from perdure.model.service import Role, Service
from perdure.recover import settings

SECRET_LENGTH_MIN = 6
"""Shorter values (`1`, `8080`, `prod`) are hardly secret, and occur anywhere."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """What became of one file, link or empty directory; None: it is not there. Entries are without their digests, and
    bytes of a path that are no UTF-8 are shown as such."""

    path: str
    before: Entry | None
    after: Entry | None
    rewritten: bool = False
    """Whether it is a file of either, with another content."""


@dataclass(frozen=True, slots=True)
class Names:
    """Variables of the environment, each list sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, in the words of the file; `settings.NOT_SET` where there is none."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """In what the release `after` differs from `before`, both by name."""

    before: str
    after: str
    files: tuple[FileChange, ...] = ()
    environment: Names = field(default_factory=Names)
    command: Setting | None = None
    settings: tuple[Setting, ...] = ()

    @property
    def none(self) -> bool:
        """Whether the two are the same, as far as a person is told."""
        return not (self.files or self.settings or self.command) and self.environment == Names()


def compare(before: Release, after: Release, files_before: Sequence[Entry], files_after: Sequence[Entry]) -> Difference:
    """In what two releases differ; the lists are those of their files, empty for one that has none of its own."""
    old, new = before.service, after.service
    veil = _Veil.of(old, new)
    command = (settings.command(old.command), settings.command(new.command))
    return Difference(
        before.name,
        after.name,
        _files(files_before, files_after),
        _environment(dict(old.environment), dict(new.environment)),
        veil.over("command", *command) if old.command != new.command else None,
        _settings(settings.settings(old), settings.settings(new), veil),
    )


def content_digest(service: Service, files_digest: str) -> str:
    """SHA-256, in hexadecimal, of all that makes a release a different one: what its replicas run, on what, and how
    they are asked. What applies to running replicas (how many, retries, logs, how it is deployed) is not in it. Stored
    beside the environment's values, and like them never shown.

    `service` may have the directory of the declaration or that of the release's own copy: with files of its own, those
    count, wherever they lie. Of checks and role, what has its default is left out, so that a setting that a later
    Perdure adds does not make all releases different ones.
    """
    content = {
        "command": list(service.command),
        "environment": dict(service.environment),
        "files": files_digest,
        "directory": service.directory if service.files is None else None,
        "user": service.user,
        "group": service.group,
        "port": service.port,
        "heartbeat": codec.encode(service.heartbeat),
        "open_files": service.limits.open_files,
        "checks": [_set(check, Check(check.kind)) | {"kind": check.kind.value} for check in service.checks],
        "role": _set(service.role, Role()) if service.role is not None else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def lines(difference: Difference) -> list[str]:
    """The difference for a person, a line for each; + is only in the newer release, - only in the older one."""
    told = [_file_line(one) for one in difference.files]
    environment = difference.environment
    told += [f"+ env {name}" for name in environment.added]
    told += [f"- env {name}" for name in environment.removed]
    told += [f"~ env {name}" for name in environment.changed]
    said = ([difference.command] if difference.command is not None else []) + list(difference.settings)
    return told + [f"~ {one.path}: {one.before} -> {one.after}" for one in said]


def document(difference: Difference) -> dict[str, Any]:
    """The difference as JSON, with `lines`."""
    return {**codec.encode(difference), "lines": lines(difference)}


def _files(before: Sequence[Entry], after: Sequence[Entry]) -> tuple[FileChange, ...]:
    old, new = _telling(before), _telling(after)
    paths = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    return tuple(_change(old.get(path), new.get(path)) for path in paths)


def _change(before: Entry | None, after: Entry | None) -> FileChange:
    told = [
        replace(one, path=_readable(one.path), target=_readable(one.target), digest="") if one else None
        for one in (before, after)
    ]
    path = next(one.path for one in told if one is not None)
    rewritten = before is not None and after is not None and before.digest != after.digest
    return FileChange(path, told[0], told[1], rewritten)


def _readable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _telling(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Without directories that have something in them: that says it already."""
    parents = {entry.path.rpartition("/")[0] for entry in entries}
    return {
        entry.path: entry for entry in entries if entry.kind is not EntryKind.DIRECTORY or entry.path not in parents
    }


def _environment(before: Mapping[str, str], after: Mapping[str, str]) -> Names:
    return Names(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
    )


def _settings(before: Mapping[str, str], after: Mapping[str, str], veil: "_Veil") -> tuple[Setting, ...]:
    pairs = {
        path: (before.get(path, settings.NOT_SET), after.get(path, settings.NOT_SET))
        for path in sorted(before.keys() | after.keys())
    }
    return tuple(veil.over(path, *pair) for path, pair in pairs.items() if pair[0] != pair[1])


@dataclass(frozen=True, slots=True)
class _Veil:
    """Hides values of the environment that are repeated elsewhere: value -> name, the longest value first."""

    values: tuple[tuple[str, str], ...] = field(repr=False)

    @classmethod
    def of(cls, *services: Service) -> "_Veil":
        found = {value: name for service in services for name, value in service.environment}
        secret = [
            (spelled, name)
            for value, name in found.items()
            if len(value) >= SECRET_LENGTH_MIN
            for spelled in _spellings(value)
        ]
        return cls(tuple(sorted(secret, key=lambda pair: -len(pair[0]))))

    def over(self, path: str, before: str, after: str) -> Setting:
        """A setting without those values, in its path neither."""
        return Setting(self._hidden(path), self._hidden(before), self._hidden(after))

    def _hidden(self, text: str) -> str:
        for value, name in self.values:
            text = text.replace(value, f"${name}")
        return text


def _spellings(value: str) -> set[str]:
    """As it may be within other text: as it is, in a command, in JSON."""
    return {value, shlex.quote(f"{value} ")[1:-2], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}


def _set(value: Any, plain: Any) -> dict[str, Any]:
    """The fields of a dataclass that have not their default."""
    assert is_dataclass(value)
    names = [one.name for one in fields(value)]
    return {name: codec.encode(getattr(value, name)) for name in names if getattr(value, name) != getattr(plain, name)}


def _file_line(one: FileChange) -> str:
    if one.before is None or one.after is None:
        entry = one.after or one.before
        assert entry is not None
        return f"{'-' if one.after is None else '+'} {one.path}{_what(entry)}"
    before, after = one.before, one.after
    if before.kind is not after.kind:
        return f"~ {one.path}: {before.kind.value} -> {after.kind.value}"
    if before.kind is EntryKind.LINK:
        return f"~ {one.path}: -> {before.target}, now -> {after.target}"
    mode = f", mode {before.mode:04o} -> {after.mode:04o}" if before.mode != after.mode else ""
    if not one.rewritten:
        return f"~ {one.path}{mode}"
    size = f"{before.size:,} -> {after.size:,}" if before.size != after.size else f"{after.size:,}"
    return f"~ {one.path} ({size} bytes){mode}"


def _what(entry: Entry) -> str:
    match entry.kind:
        case EntryKind.FILE:
            return f" ({entry.size:,} bytes)"
        case EntryKind.LINK:
            return f" -> {entry.target}"
        case EntryKind.DIRECTORY:
            return "/"
