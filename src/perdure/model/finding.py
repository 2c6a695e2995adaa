"""What `perdure doctor` finds: a weakness of a deployment, no mistake in its file."""

from dataclasses import dataclass

from perdure.model.event import Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One weakness: by which rule, how bad, of what (a service, `balancer`, ...), the sentence, and the remedy."""

    rule: str
    severity: Severity
    subject: str
    sentence: str
    remedy: str
