"""The configuration as text: what is rendered for which service, and that nothing can break out of its place."""

from pathlib import Path

import pytest

from perdure.adapters.balancer import render
from perdure.model.check import Check, CheckKind
from perdure.model.errors import ConfigError
from perdure.model.service import Address, Limits, Mode, Protocol, Retry, Service
from perdure.model.traffic import BackendSpec

PATHS = render.Paths(Path("/run/web shop"), 3, Path("/lib/waiting_room.lua"))
LISTEN = Address("127.0.0.1", 8080)


def rendered(service: Service, servers: int = 4, lua: bool = True) -> list[str]:
    text = render.render([BackendSpec(service, servers)], {"web": LISTEN}, PATHS, lua)
    return [line.strip() for line in text.splitlines()]


def web(**declared: object) -> Service:
    return Service("web", ("server",), **declared)  # type: ignore[arg-type]


def test_the_same_services_give_the_same_text() -> None:
    assert rendered(web()) == rendered(web())


def test_servers_are_reserved_disabled_and_checked() -> None:
    lines = rendered(web(), servers=7)
    assert "server-template s 1-7 127.0.0.1:1 disabled" in lines
    assert any(line.startswith("default-server weight 100 check inter 2s") for line in lines)


def test_attempts_count_the_first_try() -> None:
    assert "retries 3" in rendered(web(replicas=3, retry=Retry(attempts=4)))


def test_one_attempt_means_no_retry_of_any_kind() -> None:
    lines = rendered(web(replicas=1, retry=Retry(attempts=1)))
    assert "retries 0" in lines
    assert not any(line.startswith("retry-on") for line in lines)


def test_a_single_replica_gets_tries_to_outlast_its_dead_connections() -> None:
    assert f"retries {2 + render.SINGLE_REPLICA_TRIES}" in rendered(web(replicas=1))
    assert "retries 2" in rendered(web(replicas=1), lua=False)
    one_active = web(replicas=3, mode=Mode.ACTIVE_PASSIVE)
    assert f"retries {2 + render.SINGLE_REPLICA_TRIES}" in rendered(one_active)


def test_without_lua_there_is_no_waiting_room() -> None:
    assert any("wait_http" in line for line in rendered(web()))
    assert not any("wait" in line or "lua" in line for line in rendered(web(), lua=False))


def test_a_queue_is_bounded_only_where_there_can_be_one() -> None:
    assert not any("queue ge" in line for line in rendered(web()))
    lines = rendered(web(limits=Limits(max_concurrent=5, max_queue=7)))
    assert any(line.endswith("{ queue ge 7 }") for line in lines)
    assert any(line.endswith("maxconn 5") for line in lines)


def test_a_service_of_bytes_has_no_rule_about_requests() -> None:
    lines = rendered(web(protocol=Protocol.TCP))
    assert lines.count("mode tcp") == 3
    assert not any(line.startswith(("http-request", "http-response", "retry-on")) for line in lines)


def test_the_first_http_check_is_haproxys_too() -> None:
    checks = (
        Check(CheckKind.COMMAND, command=("true",)),
        Check(
            CheckKind.HTTP, "/up?a=b c", timeout_s=0.5, expect_status=(200, 204), expect_body='say "$ok"\\',
            expect_headers=(("X-Name", "1"),),
        ),
    )  # fmt: skip
    lines = rendered(web(checks=checks))
    assert 'http-check send meth GET uri "/up?a=b c" ver HTTP/1.1 hdr Host localhost hdr Connection close' in lines
    assert "http-check expect status 200,204" in lines
    assert 'http-check expect hdr name "X-Name" value "1"' in lines
    assert 'http-check expect string "say \\"\\$ok\\"\\\\"' in lines
    assert "timeout check 500ms" in lines


def test_a_body_of_several_lines_is_left_to_the_monitor() -> None:
    lines = rendered(web(checks=(Check(CheckKind.HTTP, expect_body="a\nb"),)))
    assert not any("expect string" in line for line in lines)


def test_a_control_character_in_a_path_is_an_error_of_the_file() -> None:
    with pytest.raises(ConfigError, match="control"):
        rendered(web(checks=(Check(CheckKind.HTTP, "/a\nuser root"),)))


@pytest.mark.parametrize("name", ["Web", "web;x", "web x", "", "-web", "w" * 64, "web\n"])
def test_a_name_that_is_no_service_name_goes_nowhere(name: str) -> None:
    with pytest.raises(AssertionError):
        render.backend_name(name)


@pytest.mark.parametrize(
    ("host", "bind"), [("::1", "[::1]:80 v6only"), ("::", "[::]:80 v4v6"), ("1.2.3.4", "1.2.3.4:80")]
)
def test_the_kind_of_an_address_is_said_in_full(host: str, bind: str) -> None:
    text = render.render([BackendSpec(web(), 4)], {"web": Address(host, 80)}, PATHS, lua=True)
    assert f"    bind {bind} name public\n" in text


@pytest.mark.parametrize(
    ("checks", "asked"),
    [
        ((), "check inter"),
        ((Check(CheckKind.TCP, tls=True),), "check check-ssl verify none inter"),
        ((Check(CheckKind.TCP, tls=True), Check(CheckKind.HTTP)), "check inter"),  # the HTTP check is the one it makes
    ],
)
def test_haproxy_asks_over_tls_what_is_to_be_asked_so(checks: tuple[Check, ...], asked: str) -> None:
    secure = Service("web", ("serve",), protocol=Protocol.TCP, checks=checks)
    text = render.render([BackendSpec(secure, 4)], {"web": Address("127.0.0.1", 80)}, PATHS, lua=True)
    assert f"default-server weight 100 {asked} 2s" in text


def test_the_list_of_retries_that_are_off_keeps_what_was_switched() -> None:
    assert render.render_retries_off(["web", "api"], {"web": True, "api": False, "gone": False}) == "2\n"
