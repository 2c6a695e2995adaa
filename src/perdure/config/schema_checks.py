"""The sections about what replicas are asked, and what they tell: checks, digest, canary, heartbeat.

Part of `schema`, which says what fields are. What counts as a good answer (`Expect`) is the same for checks, synthetic
requests and the tests of a release (`schema_deploy`).
"""

from typing import Annotated

from pydantic import Field

from perdure.config import kinds
from perdure.config.schema_section import Section
from perdure.model import check as checks
from perdure.model import service as model

_CHECK = checks.Check(checks.CheckKind.TCP)
_CANARY = checks.Check(checks.CheckKind.HTTP)
METHODS = kinds.choice("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
"""How a request asks that has no body."""


class Expect(Section):
    """What counts as a good answer to an HTTP check."""

    status: Annotated[tuple[int, ...], kinds.STATUSES] = Field(
        default=(), description="Statuses that count as good; none given: 200 to 399."
    )
    body: Annotated[str | None, kinds.TEXT] = Field(default=None, description="Text that must occur in the body.")
    headers: dict[Annotated[str, kinds.HEADER_NAME], Annotated[str, kinds.HEADER_VALUE]] = Field(
        default_factory=dict, description="Headers that must be there with exactly this value."
    )
    fields: dict[Annotated[str, kinds.JSON_POINTER], Annotated[str, kinds.JSON_VALUE]] = Field(
        default_factory=dict, description="JSON pointers into the body with the value that must be there."
    )
    min_size: Annotated[int, kinds.size(0, 100_000_000)] = Field(
        default=_CHECK.expect_bytes, description="The least size of the body."
    )


class Check(Section):
    """One endpoint that every replica is asked about."""

    http: Annotated[str | None, kinds.URL_PATH] = Field(
        default=None, description="Send GET for this path to the replica's port."
    )
    tcp: Annotated[bool | None, kinds.FLAG] = Field(
        default=None, description="Open a TCP connection to the replica's port."
    )
    command: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="Run a command; exit code 0 is good."
    )
    tls: Annotated[bool, kinds.YES_NO] = Field(
        default=_CHECK.tls, description="Ask over TLS; the certificate must not have expired."
    )
    interval: Annotated[float, kinds.duration(0.05, 3600)] = Field(
        default=_CHECK.interval_s, description="Time from one start to the next."
    )
    timeout: Annotated[float, kinds.duration(0.01, 60)] = Field(
        default=_CHECK.timeout_s, description="How long an answer may take."
    )
    expect: Expect | None = Field(default=None, description="What counts as a good answer; only for http.")


class Digest(Section):
    """What every replica says of its data: equal on all of them."""

    path: Annotated[str | None, kinds.URL_PATH] = Field(
        default=None, description="Send GET for this path; the body of the answer is compared."
    )
    command: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="Run a command; what it writes is compared."
    )
    every: Annotated[float, kinds.duration(0.5, 86_400)] = Field(
        default=10.0, description="Time from one round to the next."
    )
    timeout: Annotated[float, kinds.duration(0.01, 60)] = Field(default=5.0, description="How long an answer may take.")


class Canary(Section):
    """Synthetic requests to every replica, for services with little traffic."""

    method: Annotated[str, METHODS] = Field(default=_CANARY.method, description="How it asks; it has no body.")
    path: Annotated[str, kinds.URL_PATH] = Field(description="What it asks for.")
    rate: Annotated[float, kinds.frequency(1 / 60, 50)] = Field(
        default=model.Canary(_CANARY).rate_per_s, description="Requests to each replica."
    )
    timeout: Annotated[float, kinds.duration(0.01, 60)] = Field(
        default=_CANARY.timeout_s, description="How long an answer may take."
    )
    expect: Expect | None = Field(default=None, description="What counts as a good answer.")


class Heartbeat(Section):
    """The service tells by itself that it lives."""

    every: Annotated[float, kinds.duration(0.1, 3600)] = Field(description="Longest pause between two heartbeats.")
