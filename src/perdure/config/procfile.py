"""A Procfile (Heroku, Foreman, Honcho) as `perdure.toml`.

Lines of a Procfile are run by a shell. Most need none and become plain commands; those that use the shell's syntax
keep it. `init` shows this to the command line.
"""

import re
import shlex

from perdure.config import writing
from perdure.model.errors import ConfigError

_LINE = re.compile(r"([A-Za-z0-9_-]+)[ \t]*:[ \t]*(\S.*)")
_SHELL_SYNTAX = re.compile(
    r"[|&;<>()`*?\[\]~#{}!\n]|\$[^A-Za-z_]|\$$|^\s*(?:[A-Za-z_][A-Za-z0-9_]*=|cd\s|\.\s|source\s|exec\s)"
)
_BRACED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LISTEN = "127.0.0.1:8080"


def convert(content: str) -> str:
    """Return the text of a file with one service a process type; raises ConfigError when there is none."""
    parts: list[str] = []
    names: list[str] = []
    left_out: list[str] = []
    for line in content.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None or found[1].lower() == "release":
            left_out.append(line.strip() if found is None else f"{found[1]}: a step of a deployment, and no service")
            continue
        names.append(writing.service_name(found[1], names))
        parts.append(_service(names[-1], found[2]))
    if not parts:
        raise ConfigError(
            "the Procfile declares no process", "a line is a name, a colon and a command: web: gunicorn app"
        )
    notes = [writing.comment(f"Not carried over: {line}") for line in left_out]
    head = [
        "# Made from a Procfile. Run `perdure check`, then `perdure up`; `perdure docs` explains every option.",
        *notes,
    ]
    return "\n".join(head) + "\n\n" + "\n".join(parts)


def _service(name: str, command: str) -> str:
    lines = [f"[service.{name}]", f"command = {_command(command)}"]
    if name == "web":
        lines += ["replicas = 2", f'listen = "{_LISTEN}"', '# env_file = ".env"', "", "[service.web.check]"]
        lines += ['tcp = true  # better: http = "/healthz", which also notices a program that hangs']
    else:
        lines += ["replicas = 1", '# env_file = ".env"']
    return "\n".join(lines) + "\n"


def _command(command: str) -> str:
    if not _SHELL_SYNTAX.search(_BRACED.sub(r"$\1", command)):
        try:
            words = shlex.split(command)
        except ValueError:
            words = []
        if words and words[0] and "\0" not in command:
            return writing.text(command)
    # The dollars are left to the shell, which knows more forms than $NAME.
    return writing.texts(["sh", "-c", command.replace("\0", "").replace("$", "$$")])
