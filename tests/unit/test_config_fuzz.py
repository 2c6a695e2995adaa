"""Whatever the file holds, loading gives a deployment or a ConfigError, and every problem can be printed."""

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.config import load, schema
from perdure.config.schema_section import keys
from perdure.model.errors import ConfigError
from perdure.model.service import Deployment

KNOWN = sorted(
    {key for section in schema.SECTIONS.values() for key in keys(section)} | {"web", "db", "Bad name", "PORT"}
)
GOOD = [
    "1s",
    "2m",
    "64MB",
    "20%",
    "1 per day",
    "/",
    ":80",
    "127.0.0.1:80",
    "web",
    "db",
    "http",
    "tcp",
    "app $PORT",
    "SIGINT",
]
LEAVES = st.sampled_from(GOOD) | st.text(max_size=8) | st.integers(-2, 70_000) | st.floats() | st.booleans()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)
SECTION = st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=8)
DOCUMENTS = st.fixed_dictionaries(
    {"service": st.dictionaries(st.sampled_from(["web", "db", "Bad name"]), SECTION, max_size=3)},
    optional={"perdure": SECTION, "zzz": VALUES},
)


def toml(value: Any) -> str:
    """Write any value as TOML, tables inline."""
    match value:
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
        case float():
            return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), f"{value:.3f}")
        case _:
            return str(value)


def outcome(text: str) -> Deployment | ConfigError:
    """Load a text, and hold every problem to the form that all have."""
    try:
        return load.parse(text, Path("/srv"))
    except ConfigError as error:
        for problem in error.problems:
            assert problem.path
            assert problem.sentence
            assert str(problem).isprintable()
            assert len(str(problem)) < 1000
        assert error.sentence.isprintable()
        return error


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
@example({"service": {"web": {"check": [{"tcp": True}, 3, []]}}})
@example({"service": {"web": {"deploy": {"steps": [{"share": "5%"}, 3, {"for": "1s"}], "test": [[], {"http": "x"}]}}}})
@example({"service": {"web": {"deploy": {"steps": "5%", "test": 3}}, "db": {"deploy": {"steps": {"share": 2}}}}})
@example({"service": {"web": {"deploy": {"test": [{"http": "/", "expect": {"headers": {"a b": "1", "c": 2}}}]}}}})
@example({"service": {"web": {"command": ["a"], "check": [{"http": 3}, {"http": "/"}], "depends_on": ["web"]}}})
def test_any_document_gives_a_deployment_or_all_its_problems(document: dict[str, Any]) -> None:
    result = outcome("\n".join(f"{key} = {toml(value)}" for key, value in document.items()))
    assert isinstance(result, Deployment) or result.problems


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_gives_a_deployment_or_an_error(text: str) -> None:
    assert isinstance(outcome(text), ConfigError)
