"""Wrong files and commands: a sentence with the place and the remedy, exit code 2, nothing started, nothing lost."""

import socket
import subprocess
from collections.abc import Iterator

import pytest
from e2e import Site, site

GOOD = '[service.web]\ncommand = "sleep 600"\n'


@pytest.fixture(scope="module")
def idle() -> Iterator[Site]:
    """A directory in which nothing runs."""
    with site() as made:
        yield made


@pytest.fixture(scope="module")
def busy() -> Iterator[Site]:
    """A small deployment that runs."""
    with site() as made:
        made.write(GOOD)
        made.up()
        yield made


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        (GOOD + "replcas = 3\n", "service.web.replcas", "unknown"),
        (GOOD + 'replicas = "three"\n', "service.web.replicas", "three"),
        (GOOD + 'check = { tcp = true, interval = "5 parsecs" }\n', "service.web.check.interval", "5 parsecs"),
        ('[service.web]\ncommand = "no-such-program --port 1"\n', "service.web.command", "no-such-program"),
        ("[service.web\n", "perdure.toml", "line 1"),
    ],
    ids=["unknown key", "wrong type", "bad duration", "missing program", "no TOML"],
)
def test_a_mistake_in_the_file_is_named_with_its_place_and_starts_nothing(
    idle: Site, text: str, place: str, sentence: str
) -> None:
    idle.file.write_text(text)
    said = _refused(idle)
    assert place in said and sentence in said


def test_a_port_in_use_is_named_and_nothing_is_started(idle: Site) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", idle.port))
        taken.listen()
        idle.web()
        said = _refused(idle)
    assert "service.web.listen" in said and str(idle.port) in said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"# comment\n" * 1_000_001, "larger than"), (bytes(range(256)) * 40, "text")],
    ids=["10 MB", "binary"],
)
def test_a_file_that_cannot_be_meant_is_refused(idle: Site, content: bytes, sentence: str) -> None:
    idle.file.write_bytes(content)
    said = _refused(idle)
    assert str(idle.file) in said or idle.file.name in said
    assert sentence in said


def test_a_file_that_cannot_be_read_is_refused(idle: Site) -> None:
    """Root may read every file, but nobody can read a directory as one."""
    idle.file.unlink(missing_ok=True)
    idle.file.mkdir()
    said = _refused(idle)
    idle.file.rmdir()
    assert idle.file.name in said


def test_a_path_too_long_for_a_socket_is_refused_before_anything_starts(idle: Site) -> None:
    deep = idle.directory / ("d" * 100)
    deep.mkdir()
    file = deep / "perdure.toml"
    file.write_text(GOOD)
    done = idle.run("-f", str(file), "up", "-d", PERDURE_HOME=str(deep / ".perdure"))
    assert done.returncode == 2, done.stderr
    assert "PERDURE_HOME" in done.stderr and "Traceback" not in done.stderr
    assert idle.left() == []


@pytest.mark.parametrize(
    "text", [GOOD + "replcas = 3\n", "[service.web\n", ""], ids=["unknown key", "no TOML", "no service"]
)
def test_a_reload_with_a_mistake_changes_nothing_that_runs(busy: Site, text: str) -> None:
    before, since = busy.pids(), busy.newest()
    busy.file.write_text(text)
    done = busy.run("reload")
    busy.write(GOOD)
    assert done.returncode == 2, done.stdout + done.stderr
    assert busy.file.name in done.stderr or "service" in done.stderr
    assert "Traceback" not in done.stderr
    assert (busy.pids(), busy.rules(since), busy.state()) == (before, [], "ok")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("restart wob", "'wob' (there are: web)"),
        ("drain web/7", "web/7"),
        ("scale web=0", "1 to 1000 replicas, not 0"),
        ("scale web=many", "many"),
        ("explain web/x", "'web/x'"),
    ],
)
def test_a_wrong_target_is_named_and_changes_nothing(busy: Site, words: str, named: str) -> None:
    before, since = busy.pids(), busy.newest()
    done = busy.run(*words.split())
    assert done.returncode == 2, done.stderr
    assert named in done.stderr and "Traceback" not in done.stderr
    assert (busy.pids(), busy.rules(since)) == (before, [])


def _refused(idle: Site) -> str:
    """What `up` says on stderr; it must refuse, and start nothing."""
    done: subprocess.CompletedProcess[str] = idle.run("up", "-d")
    assert done.returncode == 2, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr and done.stderr.startswith("perdure: ")
    assert "try: " in done.stderr or "(" in done.stderr, "a remedy"
    assert idle.left() == []
    return done.stderr
