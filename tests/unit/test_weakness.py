"""What `perdure doctor` finds: each rule with a deployment that has the weakness, and none for a strong one."""

from dataclasses import replace

import pytest

from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Deploy, DeployTest, Files
from perdure.model.event import Severity
from perdure.model.service import Address, Deployment, Heartbeat, Limits, Protocol, Restart, Retry, Service
from perdure.prevent import weakness

STRONG = Service(
    name="web",
    command=("serve", "--port", "$PORT"),
    replicas=3,
    listen=Address("10.0.0.5", 8080),
    checks=(Check(CheckKind.HTTP, path="/healthz"),),
    heartbeat=Heartbeat(2.0),
    limits=Limits(max_concurrent=20),
    user="shop",
    files=Files("/srv/shop", ("**",)),
    deploy=Deploy(tests=(DeployTest(("smoke",)),)),
)
FINE = weakness.Facts("2.8.5", root=True, daemon_supervised=True)
TCP = Check(CheckKind.TCP)
LOOPBACK = Address("127.0.0.1", 8080)
MACHINE = "W04"


def rules(service: Service, facts: weakness.Facts = FINE) -> set[str]:
    return {finding.rule for finding in weakness.judge(Deployment((service,)), facts)}


def test_a_strong_service_has_only_the_weakness_of_its_one_machine() -> None:
    assert rules(STRONG) == {MACHINE}


@pytest.mark.parametrize(
    ("rule", "service"),
    [
        ("W05", replace(STRONG, replicas=1, port=9000)),
        ("W06", replace(STRONG, replicas=1)),
        ("W07", replace(STRONG, command=("serve",))),
        ("W07", replace(STRONG, command=("sh", "-c", "exec serve"))),
        ("W08", replace(STRONG, checks=(), heartbeat=None)),
        ("W09", replace(STRONG, checks=(TCP,))),
        ("W10", replace(STRONG, heartbeat=None)),
        ("W11", replace(STRONG, listen=None)),
        ("W12", replace(STRONG, listen=LOOPBACK)),
        ("W12", replace(STRONG, listen=Address("localhost", 80))),
        ("W12", replace(STRONG, listen=Address("::1", 80))),
        ("W13", replace(STRONG, limits=Limits())),
        ("W14", replace(STRONG, retry=Retry(attempts=1))),
        ("W15", replace(STRONG, retry=Retry(timeout_s=60.0))),
        ("W16", replace(STRONG, restart=Restart(stop_timeout_s=0.5))),
        ("W17", replace(STRONG, user=None)),
    ],
)
def test_each_weakness_of_a_service_is_found_and_alone(rule: str, service: Service) -> None:
    assert rules(service) == {MACHINE, rule}


@pytest.mark.parametrize(
    "service",
    [
        replace(STRONG, command=("serve", "${PORT}")),
        replace(STRONG, command=("/bin/bash", "run.sh")),
        replace(STRONG, protocol=Protocol.TCP, checks=(TCP,), retry=Retry(attempts=1)),
        replace(STRONG, checks=(TCP, STRONG.checks[0])),
    ],
)
def test_what_only_looks_like_a_weakness_is_not_reported(service: Service) -> None:
    assert rules(service) == {MACHINE}


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("W01", replace(FINE, haproxy_version=None)),
        ("W02", replace(FINE, haproxy_lua=False)),
        ("W03", replace(FINE, daemon_supervised=False)),
    ],
)
def test_each_weakness_of_the_machine_is_found(rule: str, facts: weakness.Facts) -> None:
    assert rules(STRONG, facts) == {MACHINE, rule}


def test_what_is_not_known_of_the_daemon_is_not_judged() -> None:
    assert rules(STRONG, replace(FINE, daemon_supervised=None)) == {MACHINE}


def test_the_reason_why_haproxy_is_missing_is_told() -> None:
    facts = replace(FINE, haproxy_version=None, haproxy_missing="/opt/haproxy is too old")
    assert weakness.judge(Deployment((STRONG,)), facts)[0].sentence == "/opt/haproxy is too old"


def test_the_worst_comes_first() -> None:
    weak = Service(name="web", command=("serve",), listen=LOOPBACK)
    order = list(Severity)
    found = [order.index(one.severity) for one in weakness.judge(Deployment((weak,)), FINE)]
    assert found == sorted(found, reverse=True)
    assert found[0] == order.index(Severity.ALARM)


def test_every_finding_says_what_to_do() -> None:
    weak = Service(name="web", command=("serve",), listen=LOOPBACK)
    for finding in weakness.judge(Deployment((weak,)), weakness.Facts(None, daemon_supervised=False)):
        assert finding.sentence and finding.remedy


def test_an_empty_deployment_has_no_weakness() -> None:
    assert weakness.judge(Deployment(()), FINE) == ()
