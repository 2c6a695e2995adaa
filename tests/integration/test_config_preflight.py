"""Preflight on this machine: programs, directories, accounts, ports in use, limits, HAProxy, socket paths."""

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.config import accounts, bindings, load, preflight
from perdure.model.errors import Problem, UnavailableError
from perdure.model.service import Address, Deployment

REST = '[service.web]\ncommand = "sh"\n'


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> Address:
    return Address("127.0.0.1", server.getsockname()[1])


def deployment(folder: Path, text: str) -> Deployment:
    return load.parse(text, folder)


def found(folder: Path, text: str, in_use_ok: frozenset[Address] = frozenset()) -> dict[str, Problem]:
    problems = preflight.problems(deployment(folder, text), in_use_ok=in_use_ok)
    assert all(str(problem).isprintable() and problem.hint for problem in problems)
    return {problem.path: problem for problem in problems}


def script(path: Path, first_line: str = "#!/bin/sh", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n")
    path.chmod(mode)
    return path


def test_a_deployment_that_can_run_has_no_problems(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "app")
    text = '[service.web]\ncommand = "bin/app"\ncheck.command = "sh -c true"\n[service.two]\ncommand = "sh"'
    assert found(tmp_path, text) == {}


def test_a_program_that_is_not_on_path_is_named(tmp_path: Path) -> None:
    problem = found(tmp_path, '[service.web]\ncommand = "no-such-program x"')["service.web.command"]
    assert problem.sentence == 'the program "no-such-program" is not on PATH'


@pytest.mark.parametrize(
    ("first_line", "mode", "sentence"),
    [
        ("#!/bin/sh", 0o644, "is not executable"),
        ("#!/no/such/python -u", 0o755, 'needs "/no/such/python", which is missing'),
    ],
)
def test_a_program_that_cannot_be_run_says_why(tmp_path: Path, first_line: str, mode: int, sentence: str) -> None:
    script(tmp_path / "app", first_line, mode)
    assert sentence in found(tmp_path, '[service.web]\ncommand = "./app"')["service.web.command"].sentence


@pytest.mark.parametrize("word", ["./none", "./folder", "./" + "x" * 300, "/dev/null", "./app/below"])
def test_what_is_no_program_is_a_problem(tmp_path: Path, word: str) -> None:
    (tmp_path / "folder").mkdir()
    script(tmp_path / "app")
    assert "service.web.command" in found(tmp_path, f'[service.web]\ncommand = "{word}"')


def test_the_path_and_the_variables_of_the_service_decide(tmp_path: Path) -> None:
    script(tmp_path / "tools" / "app")
    text = f'[service.{{}}]\ncommand = "{{}}"\nenv = {{{{ PATH = "tools:/bin", HOME_OF_APP = "{tmp_path}/s3cr3t" }}}}\n'
    assert found(tmp_path, text.format("web", "app")) == {}
    problem = found(tmp_path, text.format("web", "${HOME_OF_APP}/app"))["service.web.command"]
    assert "${HOME_OF_APP}/app" in problem.sentence
    assert "s3cr3t" not in str(problem)


def test_the_program_of_a_check_is_looked_up_too(tmp_path: Path) -> None:
    checks = '[[service.web.check]]\ntcp = true\n[[service.web.check]]\ncommand = "no-such-probe"'
    assert set(found(tmp_path, REST + checks)) == {"service.web.check[1].command"}


def test_the_program_of_a_test_of_a_release_is_looked_up_too(tmp_path: Path) -> None:
    tests = '[[service.web.deploy.test]]\nhttp = "/"\n[[service.web.deploy.test]]\ncommand = "no-such-test"'
    assert set(found(tmp_path, REST + tests)) == {"service.web.deploy.test[1].command"}


def test_a_file_of_a_release_that_does_not_exist_is_named_and_patterns_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    problem = found(tmp_path, REST + 'files = ["app", "link", "*.py", "app/[ab]", "ap"]')["service.web.files"]
    assert problem.sentence == f'"ap" does not exist in {tmp_path}'
    assert found(tmp_path, REST + 'files = ["app", "link", ".", "no?e", "none/**"]') == {}


def test_a_missing_directory_is_one_problem(tmp_path: Path) -> None:
    problems = found(tmp_path, '[service.web]\ncommand = "./app"\ndirectory = "none"\nfiles = "app"')
    assert set(problems) == {"service.web.directory"}
    assert f"{tmp_path}/none does not exist" in problems["service.web.directory"].sentence


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    script(tmp_path / "app")
    assert "is not a directory" in found(tmp_path, REST + 'directory = "app"')["service.web.directory"].sentence


def test_unknown_users_and_groups_are_problems(tmp_path: Path) -> None:
    problems = found(tmp_path, REST + 'user = "no-such-user"\ngroup = "no-such-group"')
    assert 'there is no user "no-such-user"' in problems["service.web.user"].sentence
    assert 'there is no group "no-such-group"' in problems["service.web.group"].sentence


def test_the_own_user_by_name_or_number_is_no_problem(tmp_path: Path) -> None:
    assert found(tmp_path, REST + f'user = "{os.geteuid()}"\ngroup = "{os.getegid()}"') == {}


def test_only_root_may_run_a_service_as_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    problems = found(
        tmp_path,
        REST + 'user = "root"\ngroup = "nogroup"' if os.getegid() == 0 else REST + 'user = "root"\ngroup = "0"',
    )
    assert "only root may run" in problems["service.web.user"].sentence
    assert "only root may run" in problems["service.web.group"].sentence


def test_a_port_in_use_names_the_process_that_holds_it(tmp_path: Path, listener: socket.socket) -> None:
    wanted = address(listener)
    problem = found(tmp_path, REST + f'listen = "{wanted}"')["service.web.listen"]
    assert f"{wanted} is in use by" in problem.sentence
    assert f"(pid {os.getpid()})" in problem.sentence


def test_a_port_in_use_is_found_for_every_address_and_for_a_fixed_port(tmp_path: Path, listener: socket.socket) -> None:
    port = address(listener).port
    assert "is in use by" in found(tmp_path, REST + f'listen = ":{port}"')["service.web.listen"].sentence
    assert "is in use by" in found(tmp_path, REST + f"port = {port}")["service.web.port"].sentence


@pytest.mark.parametrize("listen", ["127.0.0.1:{port}", ":{port}"])
def test_what_the_daemon_itself_holds_is_no_problem(tmp_path: Path, listener: socket.socket, listen: str) -> None:
    own = address(listener)
    text = REST + f'listen = "{listen.format(port=own.port)}"'
    assert found(tmp_path, text, frozenset({own})) == {}


def test_a_port_of_somebody_else_is_found_beside_the_own_one(tmp_path: Path, listener: socket.socket) -> None:
    own = Address("127.0.0.2", address(listener).port)
    with socket.create_server((own.host, own.port)):
        problem = found(tmp_path, REST + f'listen = ":{own.port}"', frozenset({own}))["service.web.listen"]
    assert f"(pid {os.getpid()})" in problem.sentence


def test_closed_connections_do_not_occupy_a_port(tmp_path: Path, listener: socket.socket) -> None:
    port = address(listener).port
    with socket.create_connection(("127.0.0.1", port)):
        connection, _ = listener.accept()
        connection.close()
    listener.close()
    assert found(tmp_path, REST + f'listen = "127.0.0.1:{port}"') == {}


def test_an_address_of_another_machine_is_a_problem(tmp_path: Path) -> None:
    problem = found(tmp_path, REST + 'listen = "192.0.2.1:8080"')["service.web.listen"]
    assert "192.0.2.1:8080 is no address of this machine" in problem.sentence


def test_a_host_that_nobody_knows_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # no test asks a name server
    problem = found(tmp_path, REST + 'listen = "nowhere:80"')["service.web.listen"]
    assert "nowhere:80 has a host that no address is known for" in problem.sentence


def test_a_privileged_port_says_who_may_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    wrong = bindings.wrong(Address("127.0.0.1", 80), frozenset())
    assert wrong is not None
    assert "only root may listen there" in wrong.sentence
    assert "ip_unprivileged_port_start=80" in wrong.hint


def test_a_listener_within_the_range_of_replicas_is_a_problem(tmp_path: Path) -> None:
    problem = found(tmp_path, REST + 'listen = "127.0.0.1:21000"')["service.web.listen"]
    assert "21000 lies in perdure.ports (21000-29999)" in problem.sentence


def test_a_range_without_free_ports_is_a_problem(tmp_path: Path, listener: socket.socket) -> None:
    own = address(listener)
    text = f'perdure.ports = "{own.port}-{own.port}"\n{REST}'
    assert "has 0 free ports for 1 replicas" in found(tmp_path, text)["perdure.ports"].sentence
    assert found(tmp_path, text, frozenset({own})) == {}


def test_a_limit_that_this_user_may_not_set_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(accounts, "_may_raise_limits", lambda: False)
    assert found(tmp_path, REST + "limits.open_files = 4096") == {}
    problem = found(tmp_path, REST + "limits.open_files = 4097")["service.web.limits.open_files"]
    assert problem.sentence == "must be at most 4096, the limit of this user (got 4097)"


def test_a_missing_haproxy_is_reported_with_the_finders_own_words(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def find(configured: str | None) -> object:
        asked.append(configured)
        raise UnavailableError("no HAProxy was found", "install one")

    problems = preflight.problems(deployment(tmp_path, 'perdure.haproxy = "hap"\n' + REST), find_haproxy=find)
    assert problems == (Problem("perdure.haproxy", "no HAProxy was found", "install one"),)
    assert asked == [f"{tmp_path}/hap"]


@pytest.mark.parametrize("umlauts", [0, 3])
def test_a_socket_path_may_be_exactly_as_long_as_the_kernel_allows(umlauts: int) -> None:
    room = preflight.SOCKET_PATH_BYTES_MAX - len("/run/haproxy-999999.sock")
    fits = Path("/" + "ä" * umlauts + "x" * (room - 1 - 2 * umlauts))
    assert preflight.socket_path_problem(fits) is None
    problem = preflight.socket_path_problem(Path(f"{fits}x"))
    assert problem is not None
    assert "1 bytes too long" in problem.sentence
    assert "PERDURE_HOME" in problem.hint


def test_the_kernel_agrees_about_the_longest_socket_path(tmp_path: Path) -> None:
    room = preflight.SOCKET_PATH_BYTES_MAX - len(os.fsencode(tmp_path)) - 1
    with socket.socket(socket.AF_UNIX) as good, socket.socket(socket.AF_UNIX) as bad:
        good.bind(str(tmp_path / ("x" * room)))
        with pytest.raises(OSError, match="too long"):
            bad.bind(str(tmp_path / ("y" * (room + 1))))


def test_a_long_state_directory_is_among_the_problems(tmp_path: Path) -> None:
    state = Path("/" + "x" * 100)
    (problem,) = preflight.problems(deployment(tmp_path, REST), state_directory=state)
    assert problem.path == str(state)
