"""How parts of the control shell hand an event to the loop, which records it with its next turn."""

from collections.abc import Mapping
from typing import Protocol

from perdure.model.event import Fact, Severity


class Tell(Protocol):
    """Called with the rule's id, the subject (`web`, `web/2`, `balancer`, `daemon`), a sentence, severity and facts."""

    def __call__(
        self,
        rule: str,
        subject: str,
        sentence: str,
        severity: Severity = Severity.INFO,
        facts: Mapping[str, Fact] | None = None,
    ) -> None: ...
