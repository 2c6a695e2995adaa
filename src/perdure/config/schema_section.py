"""What all sections of the file are: a table whose keys are fields, each with a kind, a default and a sentence.

`schema` and the modules beside it declare the sections; `explain` and `reference` ask here for the keys as the file
spells them, since a key may be a word that Python keeps for itself (`for`).
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.fields import FieldInfo

from perdure.config import kinds


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


ONE_OR_SEVERAL = BeforeValidator(_as_list)
"""Marks a list of tables that may be written as a single table."""


def keys(section: type[Section]) -> Mapping[str, FieldInfo]:
    """Return the fields of a section by their names in the file."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def kind_of(section: type[Section], key: str) -> kinds.Kind | None:
    """Return the kind of a key's value; None for a key that is a table."""
    found: list[Any] = [mark for mark in keys(section)[key].metadata if isinstance(mark, kinds.Kind)]
    return found[0] if found else None
