"""The documents are true where a machine can tell: examples load, commands and options exist, links lead somewhere, and
the numbers that are worked out on a page are those of the code.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from perdure.cli import main
from perdure.config import load

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
WITH_EXAMPLES = [page for page in PAGES if "reference" not in page.parts]
"""The reference is generated, and its examples have tests of their own."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`(perdure [^`]+)`|^ {4,}(?:\$ )?(?:.*[;&] )?(perdure .*)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_EXISTS_IN_THE_FILE_ONLY = {"SUBCOMMAND", "COMMAND", "SECTION"}


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCED.findall(page.read_text()) if found == language]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words after `perdure`, of every mention in code."""
    for inline, line in _CODE.findall(page.read_text()):
        for part in re.split(r"[|;&]+|  #", inline or line):
            words = part.split()
            if len(words) > 1 and words[0] == "perdure":
                yield words[1:]


def commands() -> dict[str, Any]:
    command: Any = typer.main.get_command(main.app)
    return dict(command.commands)


def anchors(page: Path) -> set[str]:
    """Those that a forge makes of the headings, outside of fenced blocks."""
    text = _FENCED.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=named)
def test_every_example_of_the_file_loads(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        assert load.parse(text, tmp_path).services


def test_the_pages_have_examples_at_all() -> None:
    assert sum(len(blocks(page, "toml")) for page in WITH_EXAMPLES) >= 10
    assert blocks(ROOT / "README.md", "toml")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    known = commands()
    for words in command_lines(page):
        while words and words[0] in ("-f", "--file"):
            words = words[2:]
        if not words or words[0] in _EXISTS_IN_THE_FILE_ONLY or words[0] in ("--version", "--help"):
            continue
        name = words[0].rstrip(",.:)")
        if not re.fullmatch(r"[a-z]+", name):
            continue
        assert name in known, f"perdure {' '.join(words)}"
        own = words[1 : words.index("--")] if "--" in words else words[1:]
        options = {option for param in known[name].params for option in param.opts} | {"-f", "--file", "--help"}
        for word in own:
            if word.startswith("-"):
                assert word.split("=")[0] in options, f"perdure {' '.join(words)}"


def test_commands_are_found_on_the_pages() -> None:
    found = {words[0] for page in PAGES for words in command_lines(page)}
    assert found >= {
        "init",
        "check",
        "up",
        "down",
        "reload",
        "status",
        "explain",
        "events",
        "logs",
        "restart",
        "doctor",
    }


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCED.sub("", page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_first_page_leads_to_every_guide() -> None:
    text = (ROOT / "README.md").read_text()
    assert [named(page) for page in (ROOT / "docs" / "guides").glob("*.md") if named(page) not in text] == []


def test_every_metric_is_explained() -> None:
    names = set(re.findall(r'"(perdure_\w+)"', (ROOT / "src/perdure/control/metrics.py").read_text()))
    page = (ROOT / "docs/guides/metrics.md").read_text()
    assert names
    assert {name for name in names if f"| `{name}` |" not in page} == set()
    assert set(re.findall(r"\bperdure_\w+", page)) <= names


def test_every_module_that_the_reading_order_names_exists() -> None:
    text = (ROOT / "docs/internals/README.md").read_text()
    modules = {path.name for path in (ROOT / "src" / "perdure").rglob("*.*")}
    mentioned = set(re.findall(r"([a-z_]+\.(?:py|lua|j2))`", text.replace("haproxy.cfg.j2", "")))
    assert len(mentioned) > 50
    assert mentioned - modules - {path.name for path in (ROOT / "tests").glob("*.py")} == set()


def test_the_worked_numbers_are_those_of_the_code() -> None:
    page = ROOT / "docs/internals/detection.md"
    programs, outputs = blocks(page, "python"), blocks(page, "text")
    assert len(programs) == len(outputs) >= 2
    for program, output in zip(programs, outputs, strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program, named(page), "exec"), {})
        assert printed.getvalue() == output


def test_the_other_programs_on_the_pages_are_programs() -> None:
    for page in WITH_EXAMPLES:
        for program in blocks(page, "python"):
            compile(program, named(page), "exec")


def test_the_heartbeat_table_repeats_the_worked_numbers() -> None:
    worked = blocks(ROOT / "docs/internals/detection.md", "text")[1].split()
    guide = (ROOT / "docs/guides/checks-and-heartbeats.md").read_text()
    shown = re.findall(r"^\| ([\d.]+) (ms|s) \| ([\d.]+) s \|$", guide, re.MULTILINE)
    every = [float(number) / (1000 if unit == "ms" else 1) for number, unit, _ in shown]
    assert [float(word) for word in worked[::2]] == every
    assert worked[1::2] == [silence for _, _, silence in shown]
