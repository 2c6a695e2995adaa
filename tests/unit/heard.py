"""A listener of the unit tests: it takes events as the daemon's log does, and keeps what was told."""

from collections.abc import Mapping

from perdure.model.event import Fact, Severity


class Heard:
    """Everything that was told, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, Mapping[str, Fact]]] = []

    def __call__(
        self,
        rule: str,
        subject: str,
        sentence: str,
        severity: Severity = Severity.INFO,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        self.all.append((rule, subject, facts or {}))

    @property
    def rules(self) -> list[str]:
        return [rule for rule, _, _ in self.all]

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """Each rule with what it was told of."""
        return [(rule, subject) for rule, subject, _ in self.all]
