"""From the checked sections of the file to the model: paths made absolute, derived values filled in.

Called by `load` when nothing is wrong any more, so nothing here can fail. `relations` asks `check` for labels.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from perdure.config import schema, schema_checks, schema_deploy, schema_state
from perdure.model import check as checks
from perdure.model import deploy as releases
from perdure.model import service as model
from perdure.model import snapshot
from perdure.recover import rollout_facts

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


def check(section: schema_checks.Check) -> checks.Check:
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


def digest(section: schema_checks.Digest) -> checks.Check:
    """Make the question whose answers are compared; exactly one of its two ways is given."""
    return checks.Check(
        kind=checks.CheckKind.HTTP if section.path is not None else checks.CheckKind.COMMAND,
        path=section.path or "/",
        command=section.command or (),
        interval_s=section.every,
        timeout_s=section.timeout,
        role=checks.CheckRole.DIGEST,
    )


def canary(section: schema_checks.Canary) -> model.Canary:
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


def _expecting(asked: checks.Check, section: schema_checks.Expect | None) -> checks.Check:
    expect = section or schema_checks.Expect()
    return dataclasses.replace(
        asked,
        expect_status=expect.status,
        expect_body=expect.body,
        expect_headers=tuple(expect.headers.items()),
        expect_json=tuple(expect.fields.items()),
        expect_bytes=expect.min_size,
    )


def role(section: schema_state.Role) -> model.Role:
    """Make the way in which a warm replica is told; exactly one is given, and the file needs nothing."""
    return model.Role(section.signal, section.command or (), section.http, section.timeout)


def state(section: schema_state.State, folder: Path) -> snapshot.Keeping:
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


def deploy(section: schema_deploy.Deploy, service: model.Service) -> releases.Deploy:
    """Make how releases are let in; what is not given follows from the service, and from the times it must fit."""
    usual = releases.Strategy.CANARY if rollout_facts.beside(service) else releases.Strategy.ROLLING
    steps = tuple(releases.Step(one.share, one.for_s) for one in section.steps or ())
    return releases.Deploy(
        strategy=releases.Strategy(section.strategy or usual),
        steps=steps or releases.STEPS,
        bake_s=section.bake,
        stable_s=section.stable,
        exposure=section.exposure,
        tests=tuple(deploy_test(one) for one in section.test),
        watch_s=section.watch,
        warm_s=section.warm if "warm" in section.model_fields_set else min(section.warm, section.watch),
        deadline_s=deadline_s(section, service.restart.start_timeout_s),
        keep=section.keep,
        errors_max=section.max_errors,
        breaks_data=section.data == "breaking",
    )


def deadline_s(section: schema_deploy.Deploy, start_timeout_s: float) -> float:
    """How long a rollout may make no progress; unless it is given, there is room for a start that takes long."""
    if "deadline" in section.model_fields_set:
        return section.deadline
    return max(section.deadline, 2.0 * (start_timeout_s + section.stable))


def deploy_test(section: schema_deploy.DeployTest) -> releases.DeployTest:
    """Make one test of a release; exactly one of its two ways is given."""
    if section.http is None:
        return releases.DeployTest(section.command or (), timeout_s=section.timeout, tries=section.tries)
    asked = checks.Check(
        kind=checks.CheckKind.HTTP, path=section.http, timeout_s=section.timeout, method=section.method
    )
    return releases.DeployTest((), _expecting(asked, section.expect), section.timeout, section.tries)


def _files(section: schema.Service, directory: str) -> releases.Files | None:
    if section.files is None:
        return None
    return releases.Files(directory, section.files, section.exclude)


def _service(name: str, section: schema.Service, folder: Path, variables: Mapping[str, str]) -> model.Service:
    made = model.Service(
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
        files=_files(section, absolute(folder, section.directory)),
        user=section.user,
        group=section.group,
        depends_on=tuple(dict.fromkeys(section.depends_on)),
        false_alarms_per_s=section.false_alarms,
    )
    return dataclasses.replace(made, deploy=deploy(section.deploy, made))


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
