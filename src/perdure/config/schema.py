"""The sections of `perdure.toml` and their keys: the one truth that `load`, `docs` and `reference` share.

Each field has a kind (how it is read and bounded), the default of the model, and one sentence for the reference.
Those about what replicas are asked, about active-passive services and about releases are in `schema_checks`,
`schema_state` and `schema_deploy`.
Relations between keys are in `relations`; `build` turns these sections into `perdure.model.service`.
"""

from typing import Annotated

from pydantic import Field

from perdure.config import kinds
from perdure.config.schema_checks import Canary, Check, Digest, Expect, Heartbeat
from perdure.config.schema_deploy import Deploy, DeployTest, Step
from perdure.config.schema_section import ONE_OR_SEVERAL, Section
from perdure.config.schema_state import Role, State
from perdure.model import service as model

_SERVICE = model.Service("web", ("true",))
_RETRY = model.Retry()
_RESTART = model.Restart()
_LIMITS = model.Limits()
_LOG = model.Log()
_DEPLOYMENT = model.Deployment(())


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
    files: Annotated[tuple[str, ...] | None, kinds.FILE_PATTERNS] = Field(
        default=None,
        description="Which files of that directory belong to a release; each release has a copy of its own.",
    )
    exclude: Annotated[tuple[str, ...], kinds.FILE_PATTERNS] = Field(
        default=(), description="Which of these files do not; only with files."
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
    check: Annotated[list[Check], ONE_OR_SEVERAL] = Field(
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
    deploy: Deploy = Field(default=Deploy(), description="How a new release is let in, and thrown out.")
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
    "service.deploy": Deploy,
    "service.deploy.steps": Step,
    "service.deploy.test": DeployTest,
    "service.deploy.test.expect": Expect,
    "service.limits": Limits,
    "service.log": Log,
}
"""Section -> its model; names of services and numbers of checks, steps and tests are left out."""

_GIVEN_BY_PERDURE = frozenset({"PORT", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


def given_by_perdure(variable: str) -> bool:
    """Tell whether a variable is set by Perdure itself, so that the file may not."""
    return variable in _GIVEN_BY_PERDURE or variable.startswith("PERDURE_")
