"""The prober asks one replica one question."""

from dataclasses import dataclass
from typing import Protocol

from perdure.model.check import Check
from perdure.model.evidence import Outcome


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask: the replica's port on the loopback address; the rest is for command checks."""

    port: int
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = "."
    user: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the outcome, and an excerpt of at most 300 characters for a person."""

    outcome: Outcome
    excerpt: str = ""
    status: int = 0
    """Of an HTTP answer; 0: there was none."""
    digest: str = ""
    """Of a good answer's body or a command's output, in hexadecimal; only for checks whose role is to compare it."""
    certificate_until: float | None = None
    """Until when the certificate is valid, as Unix time in seconds; None: the check does not go over TLS."""
    clock_ahead_s: float | None = None
    """By how many seconds the replica's clock is ahead of the host's, as an HTTP answer tells; None: it does not."""


class Prober(Protocol):
    """Every failure of the target is an Answer. Raises UnavailableError when this daemon has nothing to ask with
    (descriptors, memory, processes); otherwise only bugs raise.
    """

    async def probe(self, check: Check, target: Target, timeout_s: float, twice: bool = False) -> Answer:
        """Ask once, on a new connection, and return within `timeout_s`; `twice`: then once more on the same connection,
        if it was kept alive.
        """

    async def echo(self, timeout_s: float) -> bool:
        """Ask this daemon itself, over the same loopback; whether it answered within `timeout_s`.

        Raises UnavailableError as `probe` does: that it was not asked says nothing of the loopback.
        """

    async def close(self) -> None:
        """Close pooled connections and end what is left of command checks."""
