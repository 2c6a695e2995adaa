"""Shell patterns for the files of a release: read from the file, refused when they lead out of the directory.

What they match is found out when a release is made (`adapters.bundle`); nothing here looks at a disk, so a pattern may
name what a build has yet to write. Used by `kinds`; `preflight` asks which of them are plain names.
"""

from perdure.config.mistake import Mistake, got

_EXAMPLE = 'such as ["app/**", "*.py"]'
_MAGIC = frozenset("*?[")


def read(value: object) -> tuple[str, ...]:
    """Read one pattern or a list of them, each once, relative to the directory of the service."""
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise Mistake("must name at least one pattern", f'{_EXAMPLE}; "." is the whole directory')
    return tuple(dict.fromkeys(_pattern(item, value) for item in listed))


def plain(pattern: str) -> bool:
    """Tell whether a pattern is the name of one file or directory."""
    return not _MAGIC & set(pattern)


def _pattern(pattern: object, value: object) -> str:
    if not isinstance(pattern, str):
        raise Mistake(f"must be a shell pattern in quotes, or a list of them {got(value)}", _EXAMPLE)
    if not pattern:
        raise Mistake("must not hold an empty pattern", 'the whole directory is "."')
    if not pattern.isprintable():
        raise Mistake(f"must hold no control characters {got(pattern)}")
    if pattern.startswith(("/", "~/")):
        raise Mistake(
            f"must be relative to the directory of the service {got(pattern)}", "`directory` says where to begin"
        )
    if ".." in pattern.split("/"):
        raise Mistake(
            f"must not lead out of the directory of the service {got(pattern)}", "choose a `directory` further up"
        )
    return pattern
