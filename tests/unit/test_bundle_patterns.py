"""Which paths a pattern for the files of a release matches."""

import pytest

from perdure.adapters.bundle import patterns
from perdure.model.errors import ConfigError


def matches(text: str, path: str, directory: bool = False) -> bool:
    """Whether a pattern matches a path itself, walked name by name."""
    pattern = patterns.compiled(text)
    *above, name = path.split("/")
    places = pattern.start
    for one in above:
        places = pattern.step(places, one).places
    step = pattern.step(places, name)
    return step.as_directory if directory else step.as_file


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("app", "app"),
        ("./app", "app"),
        ("*.py", "wsgi.py"),
        ("*", ".env"),
        ("app/*.py", "app/main.py"),
        ("app/**", "app/main.py"),
        ("app/**", "app/deep/down/.hidden"),
        ("**/*.pyc", "a.pyc"),
        ("**/*.pyc", "a/b/c.pyc"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("a/**/**/z", "a/z"),
        ("**/**", "a"),
        ("a/**/b/**/c", "a/x/b/b/y/c"),
        ("[ab]?.[!x]", "a1.y"),
        (".", "anything"),
        ("./", "any/thing"),
        ("a//b", "a/b"),
        ("a b\n*", "a b\nc"),
    ],
)
def test_a_pattern_matches_a_file(text: str, path: str) -> None:
    assert matches(text, path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("*.py", "app/main.py"),
        ("app", "apps"),
        ("app", "app/main.py"),
        ("app/*", "app/deep/main.py"),
        ("app/**", "app"),
        ("app/", "app"),
        ("a/**/z", "a/zz"),
        ("a/**/z", "z"),
        ("a**c", "a/c"),
        ("*.py", "main.PY"),
        ("[!a]", "a"),
        ("a.c", "abc"),
    ],
)
def test_a_pattern_does_not_match_a_file(text: str, path: str) -> None:
    assert not matches(text, path)


@pytest.mark.parametrize(("text", "path"), [("app", "app"), ("app/", "app"), ("app/**", "app"), ("**/x", "a/x")])
def test_a_pattern_matches_a_directory_and_so_all_that_is_below(text: str, path: str) -> None:
    assert matches(text, path, directory=True)


def test_a_directory_is_not_entered_where_nothing_can_match() -> None:
    pattern = patterns.compiled("app/*.py")
    assert not pattern.step(pattern.start, "other").places
    inside = pattern.step(pattern.start, "app")
    assert inside.places
    assert not pattern.step(inside.places, "deep").places


@pytest.mark.parametrize("text", ["", "/etc/passwd", "..", "../x", "a/../b", "a\0b"])
def test_a_pattern_that_leads_elsewhere_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        patterns.compiled(text)
    assert repr(text) in caught.value.sentence
    assert caught.value.hint
