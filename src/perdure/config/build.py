"""From the checked sections of the file to the model: paths made absolute, derived values filled in.

Called by `load` when nothing is wrong any more, so nothing here can fail. `relations` asks `check` for labels.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from perdure.config import schema
from perdure.model import check as checks
from perdure.model import service as model
from perdure.model import snapshot

Variables = Mapping[str, Mapping[str, str]]
"""Service -> what its env_files hold."""


def deployment(document: schema.Document, folder: Path, variables: Variables) -> model.Deployment:
    """Make the whole model; `folder` is that of the file, and absolute."""
    haproxy = document.perdure.haproxy
    return model.Deployment(
        services=tuple(_service(name, one, folder, variables.get(name, {})) for name, one in document.service.items()),
        ports=document.perdure.ports,
        haproxy=absolute(folder, haproxy) if haproxy is not None else None,
    )


def absolute(folder: Path, path: str) -> str:
    """Resolve a path of the file against its folder; symbolic links stay, because releases are switched with them."""
    return os.path.abspath(folder / path)  # noqa: PTH100 - Path.resolve would follow the links


def check(section: schema.Check) -> checks.Check:
    """Make one check; exactly one of its three ways is given."""
    kind = checks.CheckKind.COMMAND
    if section.command is None:
        kind = checks.CheckKind.TCP if section.http is None else checks.CheckKind.HTTP
    asked = checks.Check(
        kind=kind,
        path=section.http or "/",
        command=section.command or (),
        interval_s=section.interval,
        timeout_s=section.timeout,
        tls=section.tls,
    )
    return _expecting(asked, section.expect)


def digest(section: schema.Digest) -> checks.Check:
    """Make the question whose answers are compared; exactly one of its two ways is given."""
    return checks.Check(
        kind=checks.CheckKind.HTTP if section.path is not None else checks.CheckKind.COMMAND,
        path=section.path or "/",
        command=section.command or (),
        interval_s=section.every,
        timeout_s=section.timeout,
        role=checks.CheckRole.DIGEST,
    )


def canary(section: schema.Canary) -> model.Canary:
    """Make the synthetic requests."""
    asked = checks.Check(
        kind=checks.CheckKind.HTTP,
        path=section.path,
        interval_s=1.0 / section.rate,
        timeout_s=section.timeout,
        method=section.method,
        role=checks.CheckRole.CANARY,
    )
    return model.Canary(_expecting(asked, section.expect), section.rate)


def _expecting(asked: checks.Check, section: schema.Expect | None) -> checks.Check:
    expect = section or schema.Expect()
    return dataclasses.replace(
        asked,
        expect_status=expect.status,
        expect_body=expect.body,
        expect_headers=tuple(expect.headers.items()),
        expect_json=tuple(expect.fields.items()),
        expect_bytes=expect.min_size,
    )


def role(section: schema.Role) -> model.Role:
    """Make the way in which a warm replica is told; exactly one is given, and the file needs nothing."""
    return model.Role(section.signal, section.command or (), section.http, section.timeout)


def state(section: schema.State, folder: Path) -> snapshot.Keeping:
    """Make what must survive, and how."""
    return snapshot.Keeping(
        snapshot.StateKind(section.kind),
        section.path,
        section.every,
        section.keep,
        snapshot.Consistency(section.consistency or snapshot.Consistency.PAUSE),
        section.max_loss,
        section.take or (),
        section.restore or (),
        section.before or (),
        section.after or (),
        section.check,
        absolute(folder, section.key_file) if section.key_file is not None else "",
        section.drill_every,
    )


def retry(section: schema.Retry) -> model.Retry:
    """Fill in what is not given: a try gets its part of the deadline, the deadline has room for all tries."""
    default = model.Retry()
    timeout_s = section.timeout
    if timeout_s is None:
        fair_s = default.timeout_s if section.deadline is None else section.deadline / section.attempts
        timeout_s = min(default.timeout_s, fair_s)
    deadline_s = section.attempts * timeout_s if section.deadline is None else section.deadline
    return model.Retry(section.attempts, timeout_s, deadline_s, section.budget)


def _service(name: str, section: schema.Service, folder: Path, variables: Mapping[str, str]) -> model.Service:
    return model.Service(
        name=name,
        command=section.command,
        replicas=section.replicas,
        mode=model.Mode(section.mode),
        standby=model.Standby(section.standby or model.Standby.COLD),
        role=role(section.role) if section.role is not None else None,
        state=state(section.state, folder) if section.state is not None else None,
        protocol=model.Protocol(section.protocol),
        listen=section.listen,
        trusted_proxies=section.trusted_proxies,
        endpoints=section.endpoints,
        port=section.port,
        checks=tuple(check(one) for one in section.check),
        digest=digest(section.digest) if section.digest is not None else None,
        canary=canary(section.canary) if section.canary is not None else None,
        heartbeat=model.Heartbeat(section.heartbeat.every) if section.heartbeat is not None else None,
        retry=retry(section.retry),
        restart=_restart(section.restart),
        limits=_limits(section.limits),
        log=model.Log(section.log.size, section.log.count),
        environment=tuple({**variables, **section.env}.items()),
        directory=absolute(folder, section.directory),
        user=section.user,
        group=section.group,
        depends_on=tuple(dict.fromkeys(section.depends_on)),
        false_alarms_per_s=section.false_alarms,
    )


def _restart(section: schema.Restart) -> model.Restart:
    return model.Restart(
        backoff_s=section.backoff,
        backoff_s_max=section.backoff_max,
        stop_signal=section.stop_signal,
        stop_timeout_s=section.stop_timeout,
        start_timeout_s=section.start_timeout,
        drain_timeout_s=section.drain_timeout,
    )


def _limits(section: schema.Limits) -> model.Limits:
    return model.Limits(
        memory_bytes=section.memory,
        open_files=section.open_files,
        max_concurrent=section.max_concurrent,
        max_queue=section.max_queue,
        queue_timeout_s=section.queue_timeout,
    )
