"""Recorded decisions and observations; the CLI, the API and the tests read the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Fact = str | int | float | bool | None


class Severity(StrEnum):
    """How much a person should care."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the history. `wall_at` is Unix time for people; no decision is ever taken from it."""

    rule: str
    subject: str
    """A service (`web`), a slot (`web/2`), `balancer` or `daemon`."""
    sentence: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    severity: Severity = Severity.INFO
    wall_at: float = 0.0
    number: int = 0
    """Given by the store, counted from 1 without gaps."""
