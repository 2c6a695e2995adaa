"""Relations between keys: within a section, between the sections of a service, and between services.

Each check is a small generator over a `reading.Reading` and looks only at sound values, so that one mistake is
reported once. Those of `files` and `deploy` are in `relations_deploy`, those of addresses and ports in
`relations_ports`; what only the machine can tell (ports in use, programs, users) is in `preflight`.
"""

from collections.abc import Iterator

from perdure.config import build, explain, kinds, relations_deploy, relations_ports, schema, units
from perdure.config.mistake import Mistake
from perdure.config.reading import Reading
from perdure.model.errors import Problem

_WAYS = ("http", "tcp", "command")


def problems(reading: Reading) -> Iterator[Problem]:
    """Yield every violated relation, service by service, then those between services."""
    if not reading.document.service and reading.sound("service"):
        yield Problem(
            "service", "the file declares no service", "add a table [service.web]; `perdure init` writes an example"
        )
    for name, service in reading.document.service.items():
        yield from _name(name)
        yield from _fixed_port(reading, name, service)
        yield from _only_for_http(reading, name, service)
        yield from _standby(reading, name, service)
        yield from _state(reading, name, service)
        yield from _environment(reading, name)
        yield from _checks(reading, name, service)
        yield from _digest(reading, name)
        yield from _retry(reading, name, service.retry)
        yield from _restart(reading, name, service.restart)
        yield from relations_deploy.problems(reading, name, service)
    yield from relations_ports.problems(reading)
    yield from _unknown_dependencies(reading)
    yield from _cycles(reading)


def _name(name: str) -> Iterator[Problem]:
    """Names become part of HAProxy's configuration and commands, so they are checked here and nowhere else."""
    try:
        kinds.SERVICE_NAME.read(name)
    except Mistake as mistake:
        yield Problem(explain.path_text(("service", name)), mistake.sentence, mistake.hint)


def _fixed_port(reading: Reading, name: str, service: schema.Service) -> Iterator[Problem]:
    at = ("service", name)
    if service.port is None or not (reading.sound(*at, "replicas") and reading.sound(*at, "port")):
        return
    if service.replicas > 1:
        yield Problem(
            explain.path_text((*at, "replicas")),
            f"must be 1 when the port is fixed (got {service.replicas})",
            "remove `port` and give the program $PORT in its command",
        )


def _only_for_http(reading: Reading, name: str, service: schema.Service) -> Iterator[Problem]:
    at = ("service", name)
    if not (reading.sound(*at, "listen") and reading.sound(*at, "protocol")):
        return
    if service.listen is not None and service.protocol == "http":
        return
    for key, why in (
        ("trusted_proxies", "bytes carry no headers"),
        ("endpoints", "bytes carry no paths"),
        ("canary", "only requests of clients are like it"),
    ):
        if getattr(service, key):
            yield Problem(
                explain.path_text((*at, key)),
                f'has no meaning without `listen` and protocol = "http": {why}',
                "remove it",
            )


def _standby(reading: Reading, name: str, service: schema.Service) -> Iterator[Problem]:
    """What belongs to active-passive services has no meaning elsewhere, and a warm replica must be told somehow."""
    at = ("service", name)
    if not reading.sound(*at, "mode") or not reading.sound(*at, "standby"):
        return
    role = explain.value_at(reading.raw, (*at, "role"))
    if service.mode != "active-passive":
        state = explain.value_at(reading.raw, (*at, "state"))
        for key, given in (
            ("standby", service.standby is not None),
            ("role", role is not None),
            ("state", state is not None),
        ):
            if given:
                path = explain.path_text((*at, key))
                yield Problem(path, 'has a meaning only with mode = "active-passive"', "remove it, or set the mode")
        return
    if service.digest is not None:
        path = explain.path_text((*at, "digest"))
        yield Problem(path, "has no meaning when one replica is active: there is nobody to compare with", "remove it")
    if service.standby != "warm":
        if role is not None:
            path = explain.path_text((*at, "role"))
            yield Problem(path, "is only for warm replicas: a cold one is started as active", 'set standby = "warm"')
        return
    ways = [way for way in ("signal", "command", "http", "file") if isinstance(role, dict) and way in role]
    if len(ways) != 1:
        found = "none" if not ways else " and ".join(ways)
        path = explain.path_text((*at, "role"))
        sentence = f"must have exactly one of signal, command, http and file (got {found})"
        yield Problem(path, sentence, 'a program that cannot be told needs standby = "cold"')


def _state(reading: Reading, name: str, service: schema.Service) -> Iterator[Problem]:
    """Each kind of state has keys of its own."""
    at = ("service", name, "state")
    state = service.state
    if state is None or not reading.sound(*at):
        return
    belongs = {
        "take": state.kind == "command",
        "restore": state.kind == "command",
        "path": state.kind != "command",
        "check": state.kind == "sqlite",
        "consistency": state.kind == "files",
        "before": state.consistency == "command",
        "after": state.consistency == "command",
    }
    given = explain.value_at(reading.raw, at)
    for key, fits in belongs.items():
        if isinstance(given, dict) and key in given and not fits:
            kind = 'consistency = "command"' if key in ("before", "after") else "this kind of state"
            yield Problem(explain.path_text((*at, key)), f"has no meaning with {kind}", "see `perdure docs state`")
    needed = {"command": ("take", "restore"), "sqlite": ("path",), "files": ()}[state.kind]
    if state.consistency == "command":
        needed = (*needed, "before", "after")
    for key in needed:
        if isinstance(given, dict) and key not in given:
            yield Problem(explain.path_text((*at, key)), "is missing", "see `perdure docs state`")
    if state.path.startswith("/") or ".." in state.path.split("/"):
        sentence = "leads out of the directory that each slot has of its own"
        yield Problem(explain.path_text((*at, "path")), sentence, "write it relative to $PERDURE_STATE")


def _environment(reading: Reading, name: str) -> Iterator[Problem]:
    variables = explain.value_at(reading.raw, ("service", name, "env"))
    for key in variables if isinstance(variables, dict) else ():
        if schema.given_by_perdure(key):
            hint = "remove it; a program with a port of its own has `port` instead" if key == "PORT" else "remove it"
            yield Problem(explain.path_text(("service", name, "env", key)), "is given to the program by Perdure", hint)


def _checks(reading: Reading, name: str, service: schema.Service) -> Iterator[Problem]:
    at = ("service", name, "check")
    raw = explain.value_at(reading.raw, at)
    tables = (
        {(): raw} if isinstance(raw, dict) else {(i,): t for i, t in enumerate(raw)} if isinstance(raw, list) else {}
    )
    for index, table in tables.items():
        if not isinstance(table, dict):
            continue
        path = explain.path_text((*at, *index))
        ways = [way for way in _WAYS if way in table]
        if len(ways) != 1:
            found = "none" if not ways else " and ".join(ways)
            yield Problem(
                path, f"must have exactly one of http, tcp and command (got {found})", "for several, [[...check]] each"
            )
        elif "expect" in table and ways != ["http"]:
            hint = "a command answers by its exit code" if ways == ["command"] else 'ask with http = "/path"'
            yield Problem(f"{path}.expect", f"is only for http (got {ways[0]})", hint)
        elif table.get("tls") is True and (ways == ["command"] or service.protocol == "http"):
            what = "a command" if ways == ["command"] else 'protocol = "http", which HAProxy speaks without TLS'
            yield Problem(f"{path}.tls", f"has no meaning with {what}", 'TLS passes HAProxy with protocol = "tcp"')
    if reading.sound(*at) and all(
        sum(way is not None for way in (c.http, c.tcp, c.command)) == 1 for c in service.check
    ):
        yield from _same_checks(explain.path_text(at), service)


def _same_checks(path: str, service: schema.Service) -> Iterator[Problem]:
    """Evidence is kept by the label of a check, so no two may share it."""
    first: dict[str, int] = {}
    for index, check in enumerate(service.check):
        label = build.check(check).label
        if label in first:
            hint = "give each command a program of its own" if check.command else "remove one of them"
            yield Problem(f"{path}[{index}]", f"asks the same as {path}[{first[label]}]: {label}", hint)
        first.setdefault(label, index)


def _digest(reading: Reading, name: str) -> Iterator[Problem]:
    at = ("service", name, "digest")
    table = explain.value_at(reading.raw, at)
    if not isinstance(table, dict):
        return
    ways = [way for way in ("path", "command") if way in table]
    if len(ways) != 1:
        sentence = f"must have exactly one of path and command (got {' and '.join(ways) or 'none'})"
        yield Problem(explain.path_text(at), sentence, 'for example path = "/digest"')


def _retry(reading: Reading, name: str, retry: schema.Retry) -> Iterator[Problem]:
    at = ("service", name, "retry")
    if (
        retry.timeout is None
        or retry.deadline is None
        or not all(reading.sound(*at, key) for key in ("attempts", "timeout", "deadline"))
    ):
        return
    # Compared in milliseconds: 3 x 0.1 is not 0.3 in binary.
    needed_s = round(retry.attempts * retry.timeout, 3)
    if needed_s > retry.deadline:
        yield Problem(
            explain.path_text((*at, "deadline")),
            f"must be at least attempts x timeout = {units.duration_text(needed_s)}"
            f' (got "{units.duration_text(retry.deadline)}")',
            f'write deadline = "{units.duration_text(needed_s)}", or remove one of timeout and deadline',
        )


def _restart(reading: Reading, name: str, restart: schema.Restart) -> Iterator[Problem]:
    at = ("service", name, "restart")
    if (
        not (reading.sound(*at, "backoff") and reading.sound(*at, "backoff_max"))
        or restart.backoff <= restart.backoff_max
    ):
        return
    default = "" if "backoff_max" in restart.model_fields_set else ", the default"
    yield Problem(
        explain.path_text((*at, "backoff")),
        f'must be at most backoff_max = "{units.duration_text(restart.backoff_max)}"{default}'
        f' (got "{units.duration_text(restart.backoff)}")',
        "raise backoff_max",
    )


def _unknown_dependencies(reading: Reading) -> Iterator[Problem]:
    raw = explain.value_at(reading.raw, ("service",))
    names = list(raw) if isinstance(raw, dict) else []
    for name, service in reading.document.service.items():
        for other in service.depends_on:
            if other not in names:
                hint = explain.did_you_mean(other, names[:1000]) or "the services are " + ", ".join(names[:20])
                path = explain.path_text(("service", name, "depends_on"))
                yield Problem(path, f"unknown service {explain.path_text((other,))}", hint)


def _cycles(reading: Reading) -> Iterator[Problem]:
    """Take away services that depend on nothing that is left; whatever remains leads into a cycle."""
    left = {
        name: [d for d in s.depends_on if d in reading.document.service] for name, s in reading.document.service.items()
    }
    while left:
        free = [name for name, needs in left.items() if not any(other in left for other in needs)]
        if free:
            for name in free:
                del left[name]
            continue
        walk = [next(iter(left))]
        while (following := next(other for other in left[walk[-1]] if other in left)) not in walk:
            walk.append(following)
        cycle = walk[walk.index(following) :]
        shown = " -> ".join([*cycle, following])
        path = explain.path_text(("service", cycle[0], "depends_on"))
        yield Problem(
            path, f"depends on itself: {shown}", "one of them must start first, without waiting for the others"
        )
        for name in cycle:
            del left[name]
