"""The settings of a service in the words of the file: all of them, and no other words."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.config import schema, schema_section, units
from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Deploy, DeployTest, Files, Step, Strategy
from perdure.model.service import Address, Canary, Heartbeat, Mode, Protocol, Role, Service, Standby
from perdure.model.snapshot import Consistency, Keeping, StateKind
from perdure.recover import settings, spelling

EXPECTING = Check(
    CheckKind.HTTP,
    "/a",
    expect_status=(200,),
    expect_body="ok",
    expect_headers=(("A", "b"),),
    expect_json=(("/a", "1"),),
)
FULL = Service(
    "web",
    ("app",),
    mode=Mode.ACTIVE_PASSIVE,
    standby=Standby.WARM,
    role=Role("SIGUSR1", ("tell",), "/role"),
    state=Keeping(
        StateKind.COMMAND, max_loss_s=1.0, take=("t",), restore=("r",), before=("b",), after=("a",), key_file="/k"
    ),
    listen=Address("127.0.0.1", 80),
    trusted_proxies=("10.0.0.0/8",),
    port=1,
    checks=(EXPECTING,),
    endpoints=("/e",),
    digest=Check(CheckKind.HTTP, "/d"),
    canary=Canary(EXPECTING),
    heartbeat=Heartbeat(1.0),
    files=Files("/srv", ("a", "b"), ("c",)),
    deploy=Deploy(
        tests=(DeployTest(("t",)), DeployTest(check=EXPECTING, tries=2)), errors_max=0.01, steps=(Step(0.05, 60.0),)
    ),
    user="u",
    group="g",
    depends_on=("db", "cache"),
)

NOT_TOLD = {
    "name": "it is that of the release",
    "command": "is told apart",
    "environment": "is secret",
    "directory": "is where the release's own files lie",
    "checks[0].command": "of what is asked over HTTP",
    "checks[0].method": "always GET",
    "checks[0].role": "not declared",
    "digest.kind": "HTTP or a command, and never what it is changed to here",
    "digest.command": "of what is asked over HTTP",
    "digest.expect_status": "not declared",
    "digest.expect_body": "not declared",
    "digest.expect_headers": "not declared",
    "digest.expect_json": "not declared",
    "digest.expect_bytes": "not declared",
    "digest.tls": "not declared",
    "digest.method": "always GET",
    "digest.role": "not declared",
    "canary.check.kind": "always HTTP",
    "canary.check.command": "of what is asked over HTTP",
    "canary.check.interval_s": "follows from the rate",
    "canary.check.tls": "not declared",
    "canary.check.role": "not declared",
    "deploy.tests[1].command": "of what is asked over HTTP",
    "deploy.tests[1].check.kind": "always HTTP",
    "deploy.tests[1].check.command": "of what is asked over HTTP",
    "deploy.tests[1].check.interval_s": "not declared",
    "deploy.tests[1].check.timeout_s": "is that of the test",
    "deploy.tests[1].check.tls": "not declared",
    "deploy.tests[1].check.role": "not declared",
}


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case Enum():
            return next(one for one in type(value) if one is not value)
        case str():
            return f"{value}x"
        case int() | float():
            return value + 1
        case None:
            return 7
        case tuple() if not value or isinstance(value[0], str):
            return (*value, "more")
        case tuple() if isinstance(value[0], tuple):
            return (*value, ("more", "1"))
        case tuple():
            return (*value, value[0])
        case Address():
            return replace(value, port=value.port + 1)
    raise AssertionError(value)


def variants(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each field, however deep, changed: its path, and the whole with it."""
    for field in dataclasses.fields(value):
        inner, at = getattr(value, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(inner) and not isinstance(inner, Address):
            for name, variant in variants(inner, f"{at}."):
                yield name, replace(value, **{field.name: variant})
        elif isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]) and field.name != "steps":
            for number, one in enumerate(inner):
                for name, variant in variants(one, f"{at}[{number}]."):
                    items = (*inner[:number], variant, *inner[number + 1 :])
                    yield name, replace(value, **{field.name: items})
        else:
            other = EXPECTING if field.name == "check" else changed(inner)
            yield at, replace(value, **{field.name: other})


def test_a_change_of_any_field_changes_a_setting() -> None:
    told = dict(settings.settings(FULL))
    silent = {path for path, variant in variants(FULL) if dict(settings.settings(variant)) == told}
    assert silent == set(NOT_TOLD)


def keys(section: str) -> set[str]:
    return set(schema_section.keys(schema.SECTIONS[section]))


@pytest.mark.parametrize(
    "service",
    [
        FULL,
        Service("web", ("app",)),
        replace(
            FULL,
            checks=(Check(CheckKind.TCP), Check(CheckKind.COMMAND, command=("c",)), EXPECTING),
            digest=Check(CheckKind.COMMAND, command=("d",)),
            files=None,
        ),
    ],
)
def test_each_setting_is_a_key_of_the_file(service: Service) -> None:
    for path in settings.settings(service):
        plain = re.sub(r"\[.*\]", "", path)
        section, _, key = f"service.{plain}".rpartition(".")
        assert key in keys(section), path


def test_values_are_spelled_as_in_the_file() -> None:
    told = settings.settings(
        replace(FULL, protocol=Protocol.TCP, deploy=replace(FULL.deploy, strategy=Strategy.ROLLING))
    )
    for path, text in {
        "replicas": "1",
        "mode": "active-passive",
        "protocol": "tcp",
        "listen": "127.0.0.1:80",
        "depends_on": "db, cache",
        "false_alarms": "1 per 30 days",
        "role.command": "tell",
        "state.consistency": Consistency.PAUSE.value,
        "state.every": "1m",
        "retry.budget": "20%",
        "restart.backoff": "100ms",
        "restart.backoff_max": "30s",
        "limits.queue_timeout": "10s",
        "log.size": "10MB",
        "check.http": "/a",
        "check.expect.fields": "/a = 1",
        "digest.path": "/d",
        "canary.rate": "1/s",
        "files": "a, b",
        "exclude": "c",
        "directory": "/srv",
        "deploy.strategy": "rolling",
        "deploy.steps": "5% for 1m",
        "deploy.max_errors": "1%",
        "deploy.data": "compatible",
        "deploy.test[t].tries": "1",
        "deploy.test[GET /a].tries": "2",
    }.items():
        assert told[path] == text, path


def test_what_is_not_set_is_left_out() -> None:
    told = settings.settings(Service("web", ("app",)))
    assert {"user", "port", "check.http", "role.signal", "files", "limits.memory", "deploy.test.http"}.isdisjoint(told)
    assert settings.NOT_SET not in told.values()


def test_the_same_asked_twice_is_told_apart_by_its_turn() -> None:
    tests = (DeployTest(("a",)), DeployTest(("a",), tries=3), DeployTest(("b",)))
    told = settings.settings(replace(FULL, deploy=Deploy(tests=tests)))
    assert told["deploy.test[a].tries"] == "1"
    assert told["deploy.test[a, 2].tries"] == "3"
    assert told["deploy.test[b].tries"] == "1"


@given(st.integers(0, 10**9), st.integers(0, 2**60))
def test_durations_and_sizes_are_spelled_as_the_reference_does(milliseconds: int, count: int) -> None:
    assert spelling.duration(milliseconds / 1000) == units.duration_text(milliseconds / 1000)
    for size in (count, count // 10**9 * 10**6, count // 2**40 * 2**20):
        assert spelling.size(size) == units.size_text(size)


@given(st.floats(1e-9, 50.0))
def test_rates_and_shares_are_spelled_as_the_reference_does(number: float) -> None:
    assert spelling.frequency(number) == units.frequency_text(number)
    assert spelling.share(number) == units.share_text(number)
    if number < 1 / 3600:
        assert spelling.rate(number) == units.rate_text(number)
