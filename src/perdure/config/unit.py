"""A systemd service unit as `perdure.toml`: what means the same is carried over, and what is not is named at the top.

Commands become lists, because systemd expands $NAME, ${NAME} and $$ in single arguments exactly as Perdure does in
lists. Every value goes through the kind that will read it, so that the result loads. `init` shows this to the command
line; `unit_values` knows systemd's spelling of times and sizes.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.config import kinds, schema, schema_section, unit_values, units, writing
from perdure.config.mistake import Mistake
from perdure.model.errors import ConfigError

_CONTINUED = re.compile(r"\\\n[ \t]*")
_PREFIXES = "@-:+!|"
_VARIABLE_WORD = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_SPECIFIER = re.compile(r"%([%a-zA-Z])")
_MORE_REPLICAS = (
    "replicas = 1\n"
    "# For several replicas behind one address, let the program listen on 127.0.0.1:$PORT, then:\n"
    "# replicas = 3\n"
    '# listen = "127.0.0.1:8080"'
)
_ORDERING = ("After", "Requires", "Wants", "BindsTo", "PartOf")
_RESTARTS = ("always", "on-failure", "on-abnormal", "on-abort", "on-watchdog")


@dataclass
class Conversion:
    """A unit on its way: its settings, what became of them, and what did not."""

    name: str
    settings: dict[str, list[str]]
    lines: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, key: str) -> list[str]:
        """Remove a setting and return its values."""
        return self.settings.pop(key, [])

    def write(self, section: str, key: str, value: str) -> None:
        """Add a key, already in TOML's spelling, to a section of the service."""
        self.lines.setdefault(section, []).append(f"{key} = {value}")


def convert(content: str, name: str) -> str:
    """Return the text of a file with one service; raises ConfigError when the unit starts nothing."""
    work = Conversion(writing.service_name(name.removesuffix(".service")), _settings(content))
    _command(work)
    _environment(work)
    _place(work)
    _policies(work)
    _life(work)
    return _text(work)


def _settings(content: str) -> dict[str, list[str]]:
    """Collect all settings but those of [Install]; an empty value forgets the earlier ones, as in systemd."""
    settings: dict[str, list[str]] = {}
    section = ""
    for line in _CONTINUED.sub(" ", content.replace("\r\n", "\n")).split("\n"):
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif stripped and stripped[0] not in "#;" and "=" in stripped and section in ("[Unit]", "[Service]"):
            key, _, value = (part.strip() for part in stripped.partition("="))
            settings[key] = [*settings.get(key, []), value] if value else []
    return settings


def _command(work: Conversion) -> None:
    commands = work.take("ExecStart")
    if not commands:
        raise ConfigError("the unit has no ExecStart= in [Service]", "name the unit of a service that starts a program")
    if len(commands) > 1:
        work.notes.append(f"ExecStart: {len(commands)} commands; only the first is here")
    bare = commands[0].lstrip(_PREFIXES + " ")
    prefixes = commands[0][: len(commands[0]) - len(bare)]
    words = [_specified(work, word) for word in _split(bare)]
    if "@" in prefixes and len(words) > 1:
        del words[1]  # what the program is told as its own name
    if ":" in prefixes:
        words = [word.replace("$", "$$") for word in words]
    for word in words:
        if _VARIABLE_WORD.fullmatch(word):
            work.notes.append(f"ExecStart: {word} is one argument here; systemd splits its value at spaces")
    words = [word.replace("\0", "") for word in words]
    if not words or not words[0]:
        raise ConfigError("the unit's ExecStart= names no program", "correct the unit first")
    work.write("", "command", writing.texts(words))


def _environment(work: Conversion) -> None:
    variables: dict[str, str] = {}
    for line in work.take("Environment"):
        for word in _split(line):
            name, equals, value = _specified(work, word).partition("=")
            if name == "PORT" and value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 65_535:
                work.write("", "port", str(int(value)))
            elif not equals or not _reads(kinds.VARIABLE_NAME, name) or schema.given_by_perdure(name) or "\0" in value:
                work.notes.append(f"Environment: {name}")
            else:
                variables[name] = value
    if variables:
        work.write("", "env", writing.table(variables))
    files: list[str] = []
    for file in (_specified(work, value) for value in work.take("EnvironmentFile")):
        if file.startswith("/") and not set(file) & set("*?[") and _reads(kinds.LINE, file):
            files.append(file)
        else:
            why = "an optional file; Perdure's must exist" if file.startswith("-") else "not the path of one file"
            work.notes.append(f"EnvironmentFile={file}: {why}")
    if files:
        work.write("", "env_file", writing.texts(files))


def _place(work: Conversion) -> None:
    directory = _specified(work, (work.take("WorkingDirectory") or ["/"])[-1])
    if not directory.startswith("/") or not _reads(kinds.LINE, directory):
        work.notes.append(f"WorkingDirectory={directory}")
        directory = "/"
    work.write("", "directory", writing.text(directory))
    for key in ("User", "Group"):
        for value in (_specified(work, one) for one in work.take(key)[-1:]):
            if _reads(kinds.LINE, value):
                work.write("", key.lower(), writing.text(value))


def _policies(work: Conversion) -> None:
    """Carry over what has a rule; a restart pause above the default longest one becomes the longest one too."""
    for value in work.take("TimeoutSec")[-1:]:
        for key in ("TimeoutStartSec", "TimeoutStopSec"):
            work.settings.setdefault(key, [value])
    done: dict[tuple[str, str], str | int] = {}
    for key, rule in unit_values.RULES.items():
        for value in work.take(key)[-1:]:
            written = rule.convert(value)
            kind = schema_section.kind_of(schema.SECTIONS[f"service.{rule.section}"], rule.key)
            if written is None or kind is None or not _reads(kind, written):
                work.notes.append(f"{key}={value}")
            else:
                done.setdefault((rule.section, rule.key), written)
    backoff = done.get(("restart", "backoff"))
    longest = done.get(("restart", "backoff_max"))
    if backoff is not None:
        longest_s = units.duration_s(longest) if longest is not None else schema.Restart().backoff_max
        if units.duration_s(backoff) > longest_s:
            done["restart", "backoff_max"] = backoff
    for (section, key), written in done.items():
        work.write(section, key, str(written) if isinstance(written, int) else writing.text(written))


def _life(work: Conversion) -> None:
    for restart in work.take("Restart")[-1:]:
        if restart not in _RESTARTS:
            work.notes.append(f"Restart={restart}: Perdure always replaces a replica that ended")
    for kind in work.take("Type")[-1:]:
        if kind in ("forking", "oneshot", "dbus", "idle"):
            work.notes.append(f"Type={kind}: the program must stay in the foreground")
    for key in _ORDERING:
        for value in work.take(key):
            work.notes.append(f"{key}={value}: services of this file are named in depends_on")
    ignored = set(work.settings) - {"Description", "Documentation"}
    work.notes += sorted(f"{key}" for key in ignored if work.settings[key])


def _text(work: Conversion) -> str:
    head = [f"# Made from the systemd unit {work.name}. Run `perdure check`; `perdure docs` explains every option."]
    if work.notes:
        head += ["# Not carried over, or different here:", *(writing.comment(f"  {note}") for note in work.notes)]
    parts = ["\n".join([*head, ""]), "\n".join([f"[service.{work.name}]", *work.lines.pop("", []), _MORE_REPLICAS])]
    parts += ["\n".join([f"\n[service.{work.name}.{section}]", *lines]) for section, lines in work.lines.items()]
    return "\n".join(parts) + "\n"


def _split(line: str) -> Sequence[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _specified(work: Conversion, value: str) -> str:
    """Replace the specifiers that have a meaning here, and note the others."""

    def replace(found: re.Match[str]) -> str:
        known = {"%": "%", "n": f"{work.name}.service", "N": work.name, "p": work.name}
        if found[1] not in known:
            work.notes.append(f"the specifier {found[0]} stays as it is written")
        return known.get(found[1], found[0])

    return _SPECIFIER.sub(replace, value)


def _reads(kind: kinds.Kind, value: object) -> bool:
    try:
        kind.read(value)
    except Mistake:
        return False
    return True
