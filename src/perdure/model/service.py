"""What the user declares: a service, its checks and its policies, as frozen values.

`config` makes these from the file, the deciders read them as policy, and the store keeps them as JSON (see `codec`).
Durations are seconds (float), sizes are bytes (int); a default here is the default of the file.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Deploy, Files
from perdure.model.snapshot import Keeping


class Mode(StrEnum):
    """How the replicas of a service share its traffic."""

    ACTIVE_ACTIVE = "active-active"
    """All of them get requests."""
    ACTIVE_PASSIVE = "active-passive"
    """One of them does; the others stand by."""


class Standby(StrEnum):
    """What a passive replica is."""

    COLD = "cold"
    """An empty slot: its process is started when it becomes active, so any program will do."""
    WARM = "warm"
    """A process that runs, and is told when it becomes active."""


class Protocol(StrEnum):
    """What HAProxy understands of the traffic: requests that can be retried, or bytes."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and TCP port; `host` is an IP address or a name, without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The service tells that it lives, at least every `every_s`."""

    every_s: float


@dataclass(frozen=True, slots=True)
class Canary:
    """Synthetic requests to each replica, `rate_per_s` of them; `check` says what is asked and expected."""

    check: Check
    rate_per_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Role:
    """How a warm replica is told that it has become active. The file `$PERDURE_ROLE_FILE` always says so; what else is
    declared is done after it was written.
    """

    signal: str | None = None
    command: tuple[str, ...] = ()
    """Run with PERDURE_ROLE and PERDURE_EPOCH; exit code 0 says that it is active."""
    http: str | None = None
    """Path of a POST to its own port, with `{"role": "active", "epoch": 7}`; a status of 2xx says that it is active."""
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeats in time: `attempts` counts the first try; `timeout_s` is per try, and all fit in `deadline_s`."""

    attempts: int = 3
    timeout_s: float = 30.0
    deadline_s: float = 90.0
    budget: float = 0.2
    """Largest share of requests, over 10 s, that may be retries."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How a replica is ended and when its slot gets the next one."""

    backoff_s: float = 0.1
    backoff_s_max: float = 30.0
    stop_signal: str = "SIGTERM"
    stop_timeout_s: float = 10.0
    start_timeout_s: float = 60.0
    drain_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Per replica; None means that Perdure sets no limit. `memory_bytes` is resident memory of the whole process
    group.
    """

    memory_bytes: int | None = None
    open_files: int | None = None
    max_concurrent: int | None = None
    max_queue: int = 1000
    queue_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Log:
    """Output of a replica: the file is rotated at `size_bytes`, and `count` old files are kept."""

    size_bytes: int = 10_000_000
    count: int = 5


@dataclass(frozen=True, slots=True)
class Service:
    """One declared service. `environment` is the merged result of `env_file` and `env`; its values are secret."""

    name: str
    command: tuple[str, ...]
    replicas: int = 1
    mode: Mode = Mode.ACTIVE_ACTIVE
    standby: Standby = Standby.COLD
    role: Role | None = None
    """Only for warm ones."""
    state: Keeping | None = None
    """What of it must survive, of an active-passive service."""
    protocol: Protocol = Protocol.HTTP
    listen: Address | None = None
    trusted_proxies: tuple[str, ...] = ()
    """Peers (addresses or networks) whose X-Forwarded headers are true; those of all others are removed."""
    port: int | None = None
    checks: tuple[Check, ...] = ()
    endpoints: tuple[str, ...] = ()
    """Prefixes of paths that are watched separately, beside those that are learned."""
    digest: Check | None = None
    """Asked of all replicas at once, each `interval_s`: what they say must be equal."""
    canary: Canary | None = None
    heartbeat: Heartbeat | None = None
    retry: Retry = field(default_factory=Retry)
    restart: Restart = field(default_factory=Restart)
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    directory: str = "."
    files: Files | None = None
    """Which files belong to a release; None: the program is installed elsewhere."""
    deploy: Deploy = field(default_factory=Deploy)
    user: str | None = None
    group: str | None = None
    depends_on: tuple[str, ...] = ()
    false_alarms_per_s: float = 1 / (30 * 86_400)
    """How often one healthy replica may be isolated by mistake (default: once in 30 days)."""

    @property
    def one_active(self) -> bool:
        """Whether at most one replica may get requests."""
        return self.mode is Mode.ACTIVE_PASSIVE

    @property
    def asked(self) -> tuple[Check, ...]:
        """The checks that replicas are asked: the declared ones, or a connection when there is traffic and no check."""
        if self.checks or self.listen is None:
            return self.checks
        return (Check(CheckKind.TCP),)

    @property
    def asked_by_balancer(self) -> Check:
        """What HAProxy's own checks ask: the first HTTP check; without one, a server only has to accept connections."""
        kinds = {check.kind: check for check in reversed(self.checks)}
        return kinds.get(CheckKind.HTTP) or kinds.get(CheckKind.TCP) or Check(CheckKind.TCP)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything one file declares: the services, and the settings of the daemon itself."""

    services: tuple[Service, ...]
    ports: range = range(21_000, 30_000)
    """Where replicas get their ports from: below the kernel's ephemeral range, so that no client socket takes one."""
    haproxy: str | None = None
    """Path of the HAProxy to use; None means the one on PATH if it is new enough, else the one of the wheel."""
