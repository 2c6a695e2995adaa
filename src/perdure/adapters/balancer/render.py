"""Renders HAProxy's configuration from the declared services: pure, so the same services always give the same text.

`haproxy.HAProxy` compares the digest of the text to find out whether anything changed, writes it, and hands it to a new
process. Membership is not in it: each backend only reserves servers, and replicas are put in over the runtime socket.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from perdure.adapters.balancer import sample
from perdure.model.check import Check, CheckKind
from perdure.model.errors import ConfigError
from perdure.model.service import Address, Protocol, Service
from perdure.model.traffic import WEIGHT, BackendSpec

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
CONNECT_TIMEOUT_S_MAX = 0.2
"""On one machine only a full listen backlog takes longer. HAProxy also waits this long (at most 1 s) before it tries
again when one server is left, so it is what the first request feels after one of two replicas was killed.
"""
HARD_STOP_S_MIN = 60.0
SINGLE_REPLICA_TRIES = 8
"""Measured: with 2, one of 50,000 requests still failed when the only replica was killed under full load. Pooled
connections are kept below it, for each that is dead may cost a try: without that 9 of 350,000 failed.
"""
WAITING_ROOM_ID = 100_000
"""What HAProxy calls the waiting room's server in rules: above the number of any replica's."""
SOCKET_PATH_BYTES_MAX = 90
"""Of the 107 that the kernel allows; HAProxy appends its pid and a suffix while it binds."""
WAITING_ROOM = Path(__file__).with_name("waiting_room.lua")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where one generation of HAProxy has its files; sockets and the map change with every generation."""

    directory: Path
    generation: int
    waiting_room: Path = WAITING_ROOM

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.directory / f"haproxy-{self.generation}.cfg"

    @property
    def stats(self) -> Path:
        """The runtime socket."""
        return self.directory / f"haproxy-{self.generation}.sock"

    @property
    def retries_off(self) -> Path:
        """The list of the services, by their number in the configuration, whose L7 retries are switched off."""
        return self.directory / f"retries-off-{self.generation}.list"

    @property
    def epochs(self) -> Path:
        """The epoch of each active-passive service."""
        return self.directory / f"epochs-{self.generation}.map"

    @property
    def log(self) -> Path:
        """Where the log goes: the same in every generation, for the daemon that reads it outlives them."""
        return self.directory / "log.sock"

    def waiting(self, service: str) -> Path:
        """The socket of the waiting room of a service: the same in every generation, so that requests that an old
        process still has wait in the new one.
        """
        return self.directory / f"wait-{service}.sock"


def render(specs: Sequence[BackendSpec], listen: Mapping[str, Address], paths: Paths, lua: bool) -> str:
    """The configuration; `listen` maps service -> numeric address of its listening socket, and may lack services."""
    services = [
        _service(spec, listen.get(spec.service.name), lua) | _logging(spec, len(specs)) | {"number": number}
        for number, spec in enumerate(specs, 1)
    ]
    hard_stop_s = max([HARD_STOP_S_MIN, *(spec.service.retry.deadline_s for spec in specs)])
    return _template().render(
        services=services,
        paths=paths,
        lua=lua,
        hard_stop_ms=_ms(hard_stop_s),
        thinned=sample.THINNED,
        waiting_room_id=WAITING_ROOM_ID,
        weight=WEIGHT,
    )


def render_retries_off(services: Iterable[str], retry_allowed: Mapping[str, bool]) -> str:
    """The initial content of the list that switches L7 retries off: the numbers of services, in this order."""
    return "".join(f"{number}\n" for number, name in enumerate(services, 1) if not retry_allowed.get(name, True))


def render_epochs(services: Iterable[str], epochs: Mapping[str, int]) -> str:
    """The initial content of the map of epochs, of every service."""
    return "".join(f"{name} {epochs.get(name, 0)}\n" for name in services)


def backend_name(service: str) -> str:
    """The name of a service's backend, checked before it reaches a command."""
    assert NAME.fullmatch(service), f"not a service name: {service!r}"
    return f"be-{service}"


def quoted(value: object) -> str:
    """One word of the configuration, whatever characters it has; ConfigError for a line break, which none can hold."""
    text = str(value)
    if any(ord(character) < 0x20 for character in text):
        raise ConfigError(f"HAProxy's configuration cannot hold control characters: {text!r}", "leave them out")
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


def fits_expressions(path: Path) -> bool:
    """Whether a path can be an argument of a converter, between single quotes inside of `%[...]`."""
    return not set(str(path)) & set("'\"\\,()[]")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["quoted"] = quoted
    return environment.get_template("haproxy.cfg.j2")


def _service(spec: BackendSpec, listen: Address | None, lua: bool) -> dict[str, Any]:
    service = spec.service
    backend_name(service.name)
    assert spec.servers >= 1
    return {
        "name": service.name,
        "http": service.protocol is Protocol.HTTP,
        "one_active": service.one_active,
        "listen": listen,
        "listen_options": _listen_options(listen),
        "trusted": " ".join(service.trusted_proxies),
        "servers": spec.servers,
        # With few requests at a time leastconn heeds no weights: servers without a connection are all equal to it.
        "balance": "roundrobin" if spec.by_weight else "leastconn",
        "retries": _retries(service, lua),
        "pooled": SINGLE_REPLICA_TRIES if _alone(service) and lua else None,
        "connect_ms": _ms(min(CONNECT_TIMEOUT_S_MAX, service.retry.timeout_s)),
        "server_ms": _ms(service.retry.timeout_s),
        "queue_ms": _ms(service.limits.queue_timeout_s),
        "waits_longer_than_a_try": lua and service.retry.timeout_s < service.limits.queue_timeout_s + 1.0,
        "max_concurrent": service.limits.max_concurrent,
        "max_queue": service.limits.max_queue,
        "checks": _check_lines(service),
        "check_options": " check-ssl verify none" if service.asked_by_balancer.tls else "",
    }


def _logging(spec: BackendSpec, services: int) -> dict[str, Any]:
    """From which rates on what share of the good requests is logged; see `sample.stands_for`."""
    below = sample.all_logged_below(spec.servers, services)
    return {
        "all_logged_below": below,
        "thinned_from": [below * sample.THINNED**level for level in range(sample.LEVELS)],
    }


def _listen_options(listen: Address | None) -> str:
    """Said in full, for HAProxy takes over a lent socket only when it is of exactly the kind it would open itself."""
    if listen is None or ":" not in listen.host:
        return ""
    return " v4v6" if listen.host == "::" else " v6only"


def _retries(service: Service, lua: bool) -> int:
    """How often HAProxy may try again.

    A replica that is killed leaves dead connections in HAProxy's pool, and each costs a try, as does the refused
    connection that tells HAProxy that it is down. With several that serve the next try goes to another one; a single
    one has to be outlasted until the request is in the waiting room.
    """
    retries = service.retry.attempts - 1
    return retries + SINGLE_REPLICA_TRIES if retries and _alone(service) and lua else retries


def _alone(service: Service) -> bool:
    """Whether at most one replica serves."""
    return service.replicas == 1 or service.one_active


def _check_lines(service: Service) -> Sequence[str]:
    """HAProxy's own checks: the first HTTP check of the user; without one, a server only has to accept connections."""
    check = service.asked_by_balancer
    timeout = f"timeout check {_ms(check.timeout_s)}ms"
    if check.kind is not CheckKind.HTTP:
        return [timeout]
    send = f"http-check send meth GET uri {quoted(check.path)} ver HTTP/1.1 hdr Host localhost hdr Connection close"
    return [timeout, "option httpchk", send, *_expectations(check)]


def _expectations(check: Check) -> Sequence[str]:
    status = ",".join(str(code) for code in check.expect_status) or "200-399"
    lines = [f"http-check expect status {status}"]
    lines += [
        f"http-check expect hdr name {quoted(name)} value {quoted(value)}" for name, value in check.expect_headers
    ]
    # A body of several lines cannot be written here: then only the monitor looks at it.
    if check.expect_body is not None and check.expect_body.isprintable():
        lines.append(f"http-check expect string {quoted(check.expect_body)}")
    return lines


def _ms(duration_s: float) -> int:
    return max(1, round(duration_s * 1000))
