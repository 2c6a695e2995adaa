"""Checks: what a replica is asked, and what counts as a good answer.

Declared for a service (`model.service`), or for the tests of a release (`model.deploy`); the probers ask them, and
`detect.probe` judges what came of it.
"""

from dataclasses import dataclass
from enum import StrEnum


class CheckKind(StrEnum):
    """How a replica is asked."""

    HTTP = "http"
    TCP = "tcp"
    COMMAND = "command"


class CheckRole(StrEnum):
    """What a question is for."""

    CHECK = "check"
    """It tells whether the replica is well."""
    CONFIRMS = "confirms"
    """Not declared: what clients ask most, asked because requests of clients get no answer."""
    DIGEST = "digest"
    """Its answer must be the same on all replicas."""
    CANARY = "canary"
    """A synthetic request, judged as those of clients are."""


CONFIRMING = "http, as clients ask: "
"""How the label of a check begins that nobody declared."""


@dataclass(frozen=True, slots=True)
class Check:
    """One endpoint that a replica is asked about: what to send, how often, and what counts as a good answer."""

    kind: CheckKind
    path: str = "/"
    command: tuple[str, ...] = ()
    interval_s: float = 1.0
    timeout_s: float = 1.0
    expect_status: tuple[int, ...] = ()
    expect_body: str | None = None
    expect_headers: tuple[tuple[str, str], ...] = ()
    expect_json: tuple[tuple[str, str], ...] = ()
    """JSON pointers (RFC 6901) into the body, each with the JSON text of the value that must be there."""
    expect_bytes: int = 0
    """The body must be at least this long."""
    tls: bool = False
    """Over TLS; the certificate must be valid now, by whomever it was signed."""
    method: str = "GET"
    role: CheckRole = CheckRole.CHECK

    @property
    def label(self) -> str:
        """The name of the endpoint in evidence, events and `explain`: `http /healthz`, `tcp`, `command pg_isready`."""
        match self.role:
            case CheckRole.CONFIRMS:
                return f"{CONFIRMING}{self.path}"
            case CheckRole.DIGEST:
                return f"digest {self.path}" if self.kind is CheckKind.HTTP else f"digest {self.command[0]}"
            case CheckRole.CANARY:
                return f"canary {self.method} {self.path}"
            case CheckRole.CHECK:
                pass
        match self.kind:
            case CheckKind.HTTP:
                return f"https {self.path}" if self.tls else f"http {self.path}"
            case CheckKind.TCP:
                return "tls" if self.tls else "tcp"
            case CheckKind.COMMAND:
                return f"command {self.command[0]}"
