"""The commented example of each section: at once manual, test, and what `perdure docs SECTION` prints.

One TOML file a section, each a whole file that loads. Tests hold them to `schema`: every key is there, and every
default that a comment states is the true one. `reference` puts them into the documentation.
"""

import difflib
from importlib import resources

from perdure.model.errors import ConfigError

_ORDER = (
    "service",
    "check",
    "canary",
    "digest",
    "heartbeat",
    "role",
    "state",
    "retry",
    "restart",
    "deploy",
    "limits",
    "env",
    "log",
    "perdure",
)


def sections() -> tuple[str, ...]:
    """Name the sections that have an example, in the order in which they are best read."""
    return _ORDER


def show(section: str) -> str:
    """Return the commented example of a section; raises ConfigError for a section that there is not."""
    if section not in _ORDER:
        near = difflib.get_close_matches(section[:64], _ORDER, n=1)
        hint = f"did you mean `perdure docs {near[0]}`?" if near else "there are: " + ", ".join(_ORDER)
        raise ConfigError("there is no such section", hint)
    return resources.files(__name__).joinpath(f"{section}.toml").read_text("utf-8")
