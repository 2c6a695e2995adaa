"""Real files: missing, unreadable, huge, binary, special; and the env_files that a file names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.config import load
from perdure.model.errors import ConfigError

NOBODY = 65_534


@contextmanager
def not_root() -> Iterator[None]:
    """Give up root for a while, so that permissions count; nothing to do for anybody else."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if own == 0:
            os.seteuid(own)


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load.load(path)
    assert str(path) in caught.value.sentence
    assert caught.value.hint
    assert caught.value.problems == ()
    return caught.value


def test_a_missing_file_leads_to_init(tmp_path: Path) -> None:
    assert "perdure init" in refusal(tmp_path / "perdure.toml").hint


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path).sentence


def test_an_unreadable_file_is_said_to_be_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "perdure.toml"
    path.write_text("")
    path.chmod(0)
    with not_root():
        assert "may not be read by this user" in refusal(path).sentence


def test_a_file_below_a_file_and_a_name_that_is_too_long_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in refusal(tmp_path / "file" / "perdure.toml").sentence
    assert "cannot be opened" in refusal(tmp_path / ("x" * 300)).sentence


def test_a_name_with_a_nul_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        load.load(tmp_path / "a\0b")


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe").sentence


def test_a_device_is_no_file() -> None:
    assert "is not a regular file" in refusal(Path("/dev/zero")).sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a = 1\n\0", "binary file"),
        (b"\x7fELF\x02\x01\x01\0\0", "binary file"),
        (b"a = 1\nb = '\xff'", "not UTF-8 text (line 2)"),
        (b"#" * 10_000_000, "larger than 1 MB"),
        (b"[service.web\n", "line 1, column 13"),
    ],
)
def test_a_file_with_the_wrong_content_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "perdure.toml"
    path.write_bytes(content)
    assert sentence in refusal(path).sentence


def test_a_byte_order_mark_and_carriage_returns_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "perdure.toml"
    path.write_bytes(b"\xef\xbb\xbf[service.web]\r\ncommand = 'app'\r\n")
    assert load.load(path).services[0].command == ("app",)


def test_paths_are_relative_to_the_file_and_links_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    (tmp_path / "perdure.toml").write_text('[service.web]\ncommand = "app"\ndirectory = "current/../current"')
    monkeypatch.chdir(tmp_path)
    assert load.load(Path("perdure.toml")).services[0].directory == str(tmp_path / "current")


def test_env_files_are_merged_in_order_and_env_wins(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "two.env").write_text("B=2\nC=2\n")
    (tmp_path / "perdure.toml").write_text(
        '[service.web]\ncommand = "app"\nenv_file = ["one.env", "two.env"]\nenv = { C = "3" }'
    )
    service = load.load(tmp_path / "perdure.toml").services[0]
    assert dict(service.environment) == {"A": "1", "B": "2", "C": "3"}


def test_every_wrong_env_file_is_a_problem_beside_all_others(tmp_path: Path) -> None:
    (tmp_path / "bad.env").write_text("A=1\ns3cr3t\n")
    (tmp_path / "binary.env").write_bytes(b"A=\0")
    (tmp_path / "perdure.toml").write_text(
        '[service.web]\ncommand = "app"\nreplicas = 0\nenv_file = ["bad.env", "none.env", "binary.env", "."]'
    )
    with pytest.raises(ConfigError, match="5 problems") as caught:
        load.load(tmp_path / "perdure.toml")
    sentences = [problem.sentence for problem in caught.value.problems if problem.path == "service.web.env_file"]
    assert [sentence.removeprefix(f"{tmp_path}") for sentence in sentences] == [
        "/bad.env line 2 is not KEY=value",
        "/none.env does not exist",
        "/binary.env is a binary file: it holds NUL bytes",
        " is a directory",
    ]


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "perdure.toml"
    path.write_bytes(b"\0")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for wrong in (path, tmp_path, tmp_path / "none"):
        refusal(wrong)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_an_error_in_one_printable_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load.load(path)
    assert caught.value.sentence.isprintable()
