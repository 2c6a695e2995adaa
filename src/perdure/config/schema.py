"""The sections of `perdure.toml` and their keys: the one truth that `load`, `docs` and `reference` share.

Each field has a kind (how it is read and bounded), the default of the model, and one sentence for the reference.
Relations between keys are in `relations`; `build` turns these sections into `perdure.model.service`.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from perdure.config import kinds
from perdure.model import check as checks
from perdure.model import service as model
from perdure.model import snapshot

_SERVICE = model.Service("web", ("true",))
_CHECK = checks.Check(checks.CheckKind.TCP)
_CANARY = checks.Check(checks.CheckKind.HTTP)
_RETRY = model.Retry()
_ROLE = model.Role()
_KEEPING = snapshot.Keeping(snapshot.StateKind.FILES)
_RESTART = model.Restart()
_LIMITS = model.Limits()
_LOG = model.Log()
_DEPLOYMENT = model.Deployment(())


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)


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

    method: Annotated[str, kinds.choice("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")] = Field(
        default=_CANARY.method, description="How it asks; it has no body."
    )
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


class Role(Section):
    """How a warm replica of an active-passive service is told that it has become active."""

    signal: Annotated[str | None, kinds.SIGNAL] = Field(
        default=None, description="A signal to its process group; it reads the rest from $PERDURE_ROLE_FILE."
    )
    command: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="Run a command with PERDURE_ROLE and PERDURE_EPOCH; exit code 0 means done."
    )
    http: Annotated[str | None, kinds.URL_PATH] = Field(
        default=None, description="Send POST for this path to its port, with role and epoch as JSON; 2xx means done."
    )
    file: Annotated[bool | None, kinds.FLAG] = Field(
        default=None, description="The file $PERDURE_ROLE_FILE is enough: the program watches it."
    )
    timeout: Annotated[float, kinds.duration(0.1, 300)] = Field(
        default=_ROLE.timeout_s, description="How long the command or the request may take."
    )


class State(Section):
    """What of an active-passive service must survive, and how it is copied to those that stand by."""

    kind: Annotated[str, kinds.choice("files", "sqlite", "command")] = Field(
        description="A directory, an SQLite database, or what a command writes."
    )
    path: Annotated[str, kinds.LINE] = Field(
        default=_KEEPING.path, description="The directory or the database, below $PERDURE_STATE of each slot."
    )
    every: Annotated[float, kinds.duration(1, 604_800)] = Field(
        default=_KEEPING.every_s, description="Time from one snapshot to the next."
    )
    keep: Annotated[int, kinds.whole(1, 100_000)] = Field(
        default=_KEEPING.keep,
        description="Snapshots that are kept beside those that somebody relies on; of a time without changes, two.",
    )
    consistency: Annotated[str | None, kinds.choice("pause", "command", "none")] = Field(
        default=None,
        description="Only for files: the process is stopped for the copy (`pause`, the default), told before and after"
        " it (`command`), or goes on (`none`).",
    )
    before: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With consistency = `command`: run before the copy."
    )
    after: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With consistency = `command`: run after the copy, also after one that failed."
    )
    take: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With kind = `command`: writes the state to its standard output."
    )
    restore: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With kind = `command`: reads it from its standard input."
    )
    max_loss: Annotated[float | None, kinds.duration(0, 31_536_000)] = Field(
        default=None, description="A replica that lacks more of the present does not take over by itself."
    )
    check: Annotated[str, kinds.TEXT] = Field(
        default=_KEEPING.check, description="Only for sqlite: a query whose first value must be true of each restore."
    )
    key_file: Annotated[str | None, kinds.LINE] = Field(
        default=None, description="A file with 64 hexadecimal digits: snapshots are encrypted with it."
    )
    drill_every: Annotated[float, kinds.duration(60, 31_536_000)] = Field(
        default=_KEEPING.drill_every_s, description="A snapshot is restored aside and checked at least so often."
    )


class Retry(Section):
    """How often and how long a request is tried."""

    attempts: Annotated[int, kinds.whole(1, 10)] = Field(
        default=_RETRY.attempts, description="Tries of one request, the first included."
    )
    timeout: Annotated[float | None, kinds.duration(0.01, 3600)] = Field(
        default=None, description="How long one try may take; at most deadline / attempts."
    )
    deadline: Annotated[float | None, kinds.duration(0.01, 36_000)] = Field(
        default=None, description="How long all tries together may take; at least attempts x timeout."
    )
    budget: Annotated[float, kinds.SHARE] = Field(
        default=_RETRY.budget, description="Largest share of requests, over 10 s, that may be retries."
    )


class Restart(Section):
    """How a replica is ended, and when the next one starts."""

    backoff: Annotated[float, kinds.duration(0.01, 3600)] = Field(
        default=_RESTART.backoff_s, description="Pause before the first restart; it doubles with each."
    )
    backoff_max: Annotated[float, kinds.duration(0.01, 86_400)] = Field(
        default=_RESTART.backoff_s_max, description="Longest pause between restarts."
    )
    stop_signal: Annotated[str, kinds.SIGNAL] = Field(
        default=_RESTART.stop_signal, description="Signal that asks a replica to end."
    )
    stop_timeout: Annotated[float, kinds.duration(0, 3600)] = Field(
        default=_RESTART.stop_timeout_s, description="Time from that signal to SIGKILL."
    )
    start_timeout: Annotated[float, kinds.duration(0.1, 86_400)] = Field(
        default=_RESTART.start_timeout_s, description="Time until a new replica must answer its checks."
    )
    drain_timeout: Annotated[float, kinds.duration(0, 86_400)] = Field(
        default=_RESTART.drain_timeout_s,
        description="How long requests in flight may take to finish before a replica is ended.",
    )


class Limits(Section):
    """What one replica may use, and how many requests it gets at once."""

    memory: Annotated[int | None, kinds.size(1_000_000, 2**50)] = Field(
        default=_LIMITS.memory_bytes, description="Resident memory of a replica with all its children."
    )
    open_files: Annotated[int | None, kinds.whole(16, 2**30)] = Field(
        default=_LIMITS.open_files, description="Open files of each process."
    )
    max_concurrent: Annotated[int | None, kinds.whole(1, 1_000_000)] = Field(
        default=_LIMITS.max_concurrent, description="Requests (or TCP connections) in one replica at once."
    )
    max_queue: Annotated[int, kinds.whole(0, 1_000_000)] = Field(
        default=_LIMITS.max_queue, description="Requests that wait for a free replica; more get 503 at once."
    )
    queue_timeout: Annotated[float, kinds.duration(0.01, 3600)] = Field(
        default=_LIMITS.queue_timeout_s, description="How long a request waits there."
    )


class Log(Section):
    """What is kept of a replica's output."""

    size: Annotated[int, kinds.size(10_000, 2**40)] = Field(
        default=_LOG.size_bytes, description="Size at which the file is rotated."
    )
    count: Annotated[int, kinds.whole(0, 1000)] = Field(default=_LOG.count, description="Old files that are kept.")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class Service(Section):
    """One service: a program that Perdure runs as several replicas and keeps answering."""

    command: Annotated[tuple[str, ...], kinds.WORDS] = Field(
        description="The program and its arguments; $PORT and other variables are replaced."
    )
    replicas: Annotated[int, kinds.whole(1, 1000)] = Field(
        default=_SERVICE.replicas, description="How many run at once."
    )
    mode: Annotated[str, kinds.choice("active-active", "active-passive")] = Field(
        default=_SERVICE.mode.value,
        description="Whether all replicas get requests, or one while the others stand by.",
    )
    standby: Annotated[str | None, kinds.choice("cold", "warm")] = Field(
        default=None,
        description="Only for active-passive: whether a passive replica is started when it becomes active"
        " (`cold`, the default), or runs already and is told (`warm`).",
    )
    protocol: Annotated[str, kinds.choice("http", "tcp")] = Field(
        default=_SERVICE.protocol.value, description="Requests that can be retried, or bytes."
    )
    listen: Annotated[model.Address | None, kinds.ADDRESS] = Field(
        default=None, description="Where clients connect; a service without it is a worker."
    )
    trusted_proxies: Annotated[tuple[str, ...], kinds.NETWORKS] = Field(
        default=(), description="Proxies in front whose X-Forwarded headers are kept; from others they are removed."
    )
    endpoints: Annotated[tuple[str, ...], kinds.URL_PATHS] = Field(
        default=(), description="Paths whose requests are watched separately; others are found in the traffic."
    )
    port: Annotated[int | None, kinds.whole(1, 65_535)] = Field(
        default=None, description="Port of the one replica, for programs that cannot be told one."
    )
    env: dict[Annotated[str, kinds.VARIABLE_NAME], Annotated[str, kinds.SECRET]] = Field(
        default_factory=dict, description="Variables of the environment."
    )
    env_file: Annotated[tuple[str, ...], kinds.TEXTS] = Field(
        default=(), description="Files with more variables, relative to perdure.toml."
    )
    directory: Annotated[str, kinds.LINE] = Field(
        default=_SERVICE.directory, description="Where it runs, relative to perdure.toml."
    )
    user: Annotated[str | None, kinds.LINE] = Field(
        default=None, description="User it runs as; the default is the user that runs Perdure."
    )
    group: Annotated[str | None, kinds.LINE] = Field(
        default=None, description="Group it runs as; the default is the user's own."
    )
    depends_on: Annotated[tuple[str, ...], kinds.TEXTS] = Field(
        default=(), description="Services that must be ready before this one starts."
    )
    false_alarms: Annotated[float, kinds.RATE] = Field(
        default=_SERVICE.false_alarms_per_s, description="How often one healthy replica may be isolated by mistake."
    )
    check: Annotated[list[Check], BeforeValidator(_as_list)] = Field(
        default_factory=list,
        description="How replicas are asked; one table, or `[[service.NAME.check]]` for each of several.",
    )
    digest: Digest | None = Field(default=None, description="What must be equal on all replicas.")
    canary: Canary | None = Field(default=None, description="Synthetic requests.")
    heartbeat: Heartbeat | None = Field(default=None, description="How often replicas tell.")
    state: State | None = Field(default=None, description="What of it must survive; only for active-passive.")
    role: Role | None = Field(default=None, description="How a warm replica is told that it is active now.")
    retry: Retry = Field(default=Retry(), description="Repeated requests.")
    restart: Restart = Field(default=Restart(), description="Ending and starting replicas.")
    limits: Limits = Field(default=Limits(), description="What a replica may use.")
    log: Log = Field(default=Log(), description="Its output.")


class Perdure(Section):
    """Settings of Perdure itself."""

    ports: Annotated[range, kinds.PORTS] = Field(
        default=_DEPLOYMENT.ports, description="Where replicas get their ports from."
    )
    haproxy: Annotated[str | None, kinds.LINE] = Field(
        default=None,
        description="The HAProxy to use; none given: the one on PATH if it is 2.6 or newer, else Perdure's own.",
    )


class Document(Section):
    """The whole file."""

    perdure: Perdure = Field(default=Perdure(), description="Settings of Perdure itself.")
    service: dict[str, Service] = Field(default_factory=dict, description="The services, each by its name.")


SECTIONS: dict[str, type[Section]] = {
    "": Document,
    "perdure": Perdure,
    "service": Service,
    "service.check": Check,
    "service.check.expect": Expect,
    "service.digest": Digest,
    "service.canary": Canary,
    "service.canary.expect": Expect,
    "service.heartbeat": Heartbeat,
    "service.role": Role,
    "service.state": State,
    "service.retry": Retry,
    "service.restart": Restart,
    "service.limits": Limits,
    "service.log": Log,
}
"""Section -> its model; names of services and numbers of checks are left out."""

_GIVEN_BY_PERDURE = frozenset({"PORT", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


def given_by_perdure(variable: str) -> bool:
    """Tell whether a variable is set by Perdure itself, so that the file may not."""
    return variable in _GIVEN_BY_PERDURE or variable.startswith("PERDURE_")


def kind_of(section: type[Section], key: str) -> kinds.Kind | None:
    """Return the kind of a key's value; None for a key that is a table."""
    found: list[Any] = [mark for mark in section.model_fields[key].metadata if isinstance(mark, kinds.Kind)]
    return found[0] if found else None
