"""The page about the command line says what the commands say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from perdure.cli import failure, main, reference
from perdure.model import errors

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_is_the_one_that_the_commands_generate() -> None:
    assert PAGE.read_text() == reference.reference(), "run: python -m perdure.cli.reference > docs/reference/cli.md"


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of groups included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_and_option_is_explained() -> None:
    page = PAGE.read_text()
    for name, command in commands(typer.main.get_command(main.app)):
        assert f"## perdure {name}\n" in page
        for param in command.params:
            assert param.help, f"perdure {name}: {param.name} has no help"
            assert param.param_type_name == "argument" or f"`{param.opts[0]}`" in page


def test_every_class_of_error_has_a_documented_exit_code() -> None:
    documented = {code for code, _ in failure.EXIT_CODES}
    assert {kind.exit_code for kind in errors.PerdureError.__subclasses__()} <= documented
