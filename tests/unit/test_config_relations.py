"""Relations between keys, within a service and between services."""

from pathlib import Path

import pytest

from perdure.config import load
from perdure.model.errors import ConfigError


def problems(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load.parse(text, Path("/srv"))
    return {problem.path: f"{problem.sentence} ({problem.hint})" for problem in caught.value.problems}


def services(**tables: str) -> str:
    return "\n".join(f'[service.{name}]\ncommand = "app"\n{lines}' for name, lines in tables.items())


@pytest.mark.parametrize(
    ("lines", "path", "sentence"),
    [
        ("port = 80\nreplicas = 2", "replicas", "must be 1 when the port is fixed (got 2)"),
        ('trusted_proxies = "::1"', "trusted_proxies", "no meaning without `listen`"),
        ('listen = ":80"\nprotocol = "tcp"\ntrusted_proxies = "::1"', "trusted_proxies", "bytes carry no headers"),
        ('listen = ":80"\nprotocol = "tcp"\nendpoints = "/pay"', "endpoints", "bytes carry no paths"),
        ('check = { http = "/", tcp = true }', "check", "exactly one of http, tcp and command (got http and tcp)"),
        ('check = { interval = "1s" }', "check", "(got none)"),
        ('digest = { path = "/a", command = "b" }', "digest", "exactly one of path and command (got path and command)"),
        ('digest = { every = "1s" }', "digest", "(got none)"),
        ('canary = { path = "/" }', "canary", "no meaning without `listen`"),
        ('listen = ":80"\nprotocol = "tcp"\ncanary = { path = "/" }', "canary", "only requests of clients are like it"),
        ('listen = ":80"\ncheck = { http = "/", tls = true }', "check.tls", "HAProxy speaks without TLS"),
        ('protocol = "tcp"\ncheck = { command = "a", tls = true }', "check.tls", "no meaning with a command"),
        ("check = { tcp = true, expect.status = 200 }", "check.expect", "is only for http (got tcp)"),
        (
            "[[service.web.check]]\ntcp = true\n[[service.web.check]]\ntcp = true",
            "check[1]",
            "asks the same as service.web.check[0]",
        ),
        ('retry = { timeout = "2s", deadline = "5s" }', "retry.deadline", "attempts x timeout = 6s"),
        ('restart = { backoff = "1m" }', "restart.backoff", 'backoff_max = "30s", the default'),
        ('restart = { backoff = "2s", backoff_max = "1s" }', "restart.backoff", 'backoff_max = "1s" (got "2s")'),
    ],
)
def test_a_relation_within_a_service_is_checked(lines: str, path: str, sentence: str) -> None:
    found = problems(services(web=lines))
    assert sentence in found[f"service.web.{path}"]
    assert len(found) == 1


@pytest.mark.parametrize("one", ["127.0.0.1:80", "localhost:80", ":80", "[::]:80"])
def test_an_address_that_is_used_twice_names_both_services(one: str) -> None:
    found = problems(services(a=f'listen = "{one}"', b='listen = "127.0.0.1:80"'))
    assert "is used twice: 127.0.0.1:80 also by service.a.listen" in found["service.b.listen"]


def test_equal_ports_on_different_addresses_are_no_problem() -> None:
    text = services(a='listen = "127.0.0.1:80"', b='listen = "127.0.0.2:80"')
    assert len(load.parse(text, Path("/srv")).services) == 2


def test_a_fixed_port_cannot_be_shared_nor_be_the_one_of_a_listener() -> None:
    found = problems(services(a="port = 80", b="port = 80", c='port = 90\nlisten = ":90"'))
    assert "also by service.a.port" in found["service.b.port"]
    assert "is the port of service.c.listen" in found["service.c.port"]


def test_a_range_of_ports_must_hold_all_replicas() -> None:
    found = problems('perdure.ports = "2000-2003"\n' + services(a="replicas = 3", b="replicas = 2", c="port = 1"))
    assert "each of 5 replicas (got 2000-2003: 4)" in found["perdure.ports"]


def test_an_unknown_dependency_gets_the_nearest_name() -> None:
    assert (
        "did you mean `worker`?" in problems(services(web='depends_on = "wrker"', worker=""))["service.web.depends_on"]
    )


@pytest.mark.parametrize(
    ("tables", "cycle"),
    [
        ({"a": 'depends_on = "a"'}, "a -> a"),
        ({"a": 'depends_on = "b"', "b": 'depends_on = ["c", "a"]', "c": ""}, "a -> b -> a"),
        (
            {"x": 'depends_on = "a"', "a": 'depends_on = "b"', "b": 'depends_on = "c"', "c": 'depends_on = "a"'},
            "a -> b -> c -> a",
        ),
    ],
)
def test_a_cycle_of_dependencies_is_shown(tables: dict[str, str], cycle: str) -> None:
    found = problems(services(**tables))
    assert len(found) == 1
    assert cycle in next(iter(found.values()))


def test_two_separate_cycles_are_both_shown() -> None:
    links = {"a": "b", "b": "a", "c": "d", "d": "c"}
    found = problems(services(**{name: f'depends_on = "{other}"' for name, other in links.items()}))
    assert set(found) == {"service.a.depends_on", "service.c.depends_on"}


def test_a_long_chain_without_a_cycle_is_fine() -> None:
    chain = {f"s{number}": f'depends_on = "s{number + 1}"' for number in range(300)} | {"s300": ""}
    assert len(load.parse(services(**chain), Path("/srv")).services) == 301


def test_a_relation_is_not_judged_by_a_value_that_is_wrong_itself() -> None:
    found = problems(services(web='restart = { backoff = "1m", backoff_max = "long" }\nport = 0\nreplicas = 5'))
    assert set(found) == {"service.web.restart.backoff_max", "service.web.port"}


def test_a_relation_is_judged_although_another_value_is_wrong() -> None:
    found = problems(
        services(web='replicas = 0\ncheck = { http = "/", tcp = true, interval = 1 }', b='depends_on = "c"')
    )
    assert set(found) == {
        "service.web.replicas",
        "service.web.check.interval",
        "service.web.check",
        "service.b.depends_on",
    }
