"""The reference of the file, generated from `schema` and the examples, so that it cannot lag behind them.

`python -m perdure.config.reference > docs/reference/file.md` rewrites the page; a test compares.
"""

import sys
from collections.abc import Iterator

from perdure.config import build, docs, schema, schema_checks
from perdure.config.schema_section import Section, keys, kind_of

_INTRODUCTION = """\
# perdure.toml

<!-- Generated: python -m perdure.config.reference > docs/reference/file.md -->

One TOML file declares what should run. Perdure looks for `perdure.toml` in the working directory; `-f` names another.
`perdure init` writes one to start from, `perdure check` finds everything that is wrong with it, `perdure docs SECTION`
shows the examples of this page.

- **Unknown keys are errors**, and all errors are reported at once, each with its path.
- **Durations** have units: `"500ms"`, `"1s"`, `"2m"`, `"1h30m"`. A bare number is an error.
- **Sizes** have units: `"64MB"` (1000 each) or `"1GiB"` (1024 each).
- **Paths** are relative to the directory of the file.
- **Values of `env` and `env_file` are secret**: no message shows them.
"""

_TITLES = {
    "service": "[service.NAME]",
    "env": "[service.NAME.env]",
    "perdure": "[perdure]",
}


def reference() -> str:
    """Return the whole page."""
    return _INTRODUCTION + "".join("\n" + _section(name) for name in docs.sections())


def default_text(section: type[Section], key: str) -> str:
    """Write the default of a key as the file would; `required`, or `none` for what is simply absent."""
    field = keys(section)[key]
    kind = kind_of(section, key)
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if section is schema.Retry and default is None:
        default = getattr(build.retry(schema.Retry()), f"{key}_s")
    if kind is None or default is None or default == () or default == {}:
        return "none"
    return kind.write(default)


def tables(name: str) -> dict[str, type[Section]]:
    """Return the models that an example stands for, with the prefix of their keys (`expect.` is shown with `check`)."""
    if name == "env":
        return {}
    path = name if name in schema.SECTIONS else f"service.{name}"
    inner = {
        key.removeprefix(path + ".") + ".": model
        for key, model in schema.SECTIONS.items()
        if key.startswith(path + ".") and (model is not schema_checks.Expect or name == "check")
    }
    return {"": schema.SECTIONS[path]} | (inner if name != "service" else {})


def _section(name: str) -> str:
    rows = list(_rows(name))
    table = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows) + "\n" if rows else ""
    title = _TITLES.get(name, f"[service.NAME.{name}]")
    return f"## {title}\n\n{table}```toml\n{docs.show(name)}```\n"


def _rows(name: str) -> Iterator[str]:
    for prefix, section in tables(name).items():
        for key, field in keys(section).items():
            kind = kind_of(section, key)
            default = default_text(section, key)
            shown = default if default in ("none", "required") else f"`{default}`"
            yield f"| `{prefix}{key}` | {kind.label if kind else 'table'} | {shown} | {field.description} |\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
