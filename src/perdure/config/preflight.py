"""What only this machine can tell about a deployment: programs, directories, users, ports, limits, HAProxy.

`perdure check` asks before anything starts, `up` and `reload` before they act. Nothing here changes anything, and the
answer is true for the moment only; the runner and the balancer report the same faults when they meet them later.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from perdure.config import accounts, addresses, bindings, mistake, patterns, programs
from perdure.config.mistake import Mistake
from perdure.model.check import CheckKind
from perdure.model.deploy import Files
from perdure.model.errors import PerdureError, Problem
from perdure.model.service import Address, Deployment, Service

SOCKET_PATH_BYTES_MAX = 107
"""Size of sun_path in a Unix socket's address, less the final NUL."""
_LONGEST_SOCKET = Path("run") / "haproxy-999999.sock"
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV")
"""What replicas get of the daemon's own environment (the runner sees to it)."""

FindHAProxy = Callable[[str | None], object]
"""Takes the configured path; raises a PerdureError when there is no usable HAProxy."""


def problems(
    deployment: Deployment,
    *,
    in_use_ok: frozenset[Address] = frozenset(),
    find_haproxy: FindHAProxy | None = None,
    state_directory: Path | None = None,
) -> tuple[Problem, ...]:
    """Find everything that would keep the deployment from running here.

    `in_use_ok` are the addresses that the running daemon itself holds: where its services listen, and `127.0.0.1`
    with the ports of its replicas. Takes some milliseconds, and what `find_haproxy` takes.
    """
    found: list[Problem] = []
    for service in deployment.services:
        found += _service(service, deployment.ports, in_use_ok)
    found += _ports(deployment, in_use_ok)
    if find_haproxy is not None:
        found += _haproxy(deployment.haproxy, find_haproxy)
    if state_directory is not None and (too_long := socket_path_problem(state_directory)):
        found.append(too_long)
    return tuple(found)


def socket_path_problem(state_directory: Path) -> Problem | None:
    """Tell whether the sockets that will lie under the state directory have names that the kernel can take."""
    longest = os.fsencode(state_directory.absolute() / _LONGEST_SOCKET)
    excess = len(longest) - SOCKET_PATH_BYTES_MAX
    if excess <= 0:
        return None
    return Problem(
        str(state_directory),
        f"this path is {excess} bytes too long for the sockets that Perdure keeps in it",
        "set PERDURE_HOME to a shorter directory, such as /var/lib/perdure",
    )


def _service(service: Service, ports: range, in_use_ok: frozenset[Address]) -> Iterator[Problem]:
    at = f"service.{service.name}"
    yield from accounts.problems(service)
    mode = programs.mode_of(Path(service.directory))
    if not stat.S_ISDIR(mode):
        reason = "is not a directory" if mode else "does not exist"
        yield Problem(f"{at}.directory", f"{service.directory} {reason}", "create it, or correct the path")
    else:
        yield from _programs(at, service)
        if service.files is not None:
            yield from _files(at, service.files)
    yield from _listen(at, service, ports, in_use_ok)
    if service.limits.open_files is not None and (wrong := accounts.wrong_open_files(service.limits.open_files)):
        yield _problem(f"{at}.limits.open_files", wrong)


def _programs(at: str, service: Service) -> Iterator[Problem]:
    where = programs.Surroundings(_environment(service), service.directory)
    for key, command in _commands(service):
        if wrong := programs.wrong(command, where):
            yield _problem(f"{at}.{key}", wrong)


def _commands(service: Service) -> Iterator[tuple[str, tuple[str, ...]]]:
    """All commands that are run from the directory of the service, with their keys."""
    yield "command", service.command
    if service.digest is not None and service.digest.command:
        yield "digest.command", service.digest.command
    for index, check in enumerate(service.checks):
        if check.kind is CheckKind.COMMAND:
            yield f"check{_number(index, service.checks)}.command", check.command
    for index, test in enumerate(service.deploy.tests):
        if test.command:
            yield f"deploy.test{_number(index, service.deploy.tests)}.command", test.command


def _number(index: int, tables: Sequence[object]) -> str:
    return f"[{index}]" if len(tables) > 1 else ""


def _files(at: str, files: Files) -> Iterator[Problem]:
    """Only names can be looked up at once; what a pattern matches is known when a release is made."""
    for name in filter(patterns.plain, files.include):
        if not os.path.lexists(Path(files.source) / name):
            yield Problem(
                f"{at}.files",
                f"{mistake.quoted(name)} does not exist in {files.source}",
                "correct it, or build it first",
            )


def _environment(service: Service) -> Mapping[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, **inherited, **accounts.variables(service.user), **dict(service.environment)}


def _listen(at: str, service: Service, ports: range, in_use_ok: frozenset[Address]) -> Iterator[Problem]:
    wanted = {"listen": service.listen, "port": Address("127.0.0.1", service.port) if service.port else None}
    for key, address in wanted.items():
        if address is None:
            continue
        if address.port in ports:
            between = addresses.port_range_text(ports)
            sentence = f"{address.port} lies in perdure.ports ({between}), where any replica may take it"
            yield Problem(f"{at}.{key}", sentence, "choose a port outside, or set perdure.ports to another range")
        if address not in in_use_ok and (wrong := bindings.wrong(address, in_use_ok)):
            yield _problem(f"{at}.{key}", wrong)


def _ports(deployment: Deployment, in_use_ok: frozenset[Address]) -> Iterator[Problem]:
    needed = sum(service.replicas for service in deployment.services if service.port is None)
    own = {address.port for address in in_use_ok}
    taken = sum(port in deployment.ports and port not in own for port in bindings.listening_ports())
    free = len(deployment.ports) - taken
    if free < needed:
        between = addresses.port_range_text(deployment.ports)
        yield Problem("perdure.ports", f"{between} has {free} free ports for {needed} replicas", "widen the range")


def _haproxy(configured: str | None, find: FindHAProxy) -> Iterator[Problem]:
    try:
        find(configured)
    except PerdureError as error:
        yield Problem("perdure.haproxy", error.sentence, error.hint)


def _problem(path: str, wrong: Mistake) -> Problem:
    return Problem(path, wrong.sentence, wrong.hint)
