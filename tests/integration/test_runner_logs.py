"""Logs: the last lines, and rotation while a process writes."""

import sys
from pathlib import Path

import pytest
import test_runner_start
from test_runner_start import SLOT, Bench, until

from perdure.adapters.runner import logs

bench = test_runner_start.bench

WRITER = """
import sys
for number in range(200_000):
    print(f"line {number}", flush=number % 7 == 0)
"""


def read_all(log: Path, count: int) -> bytes:
    """Old logs and the present one, oldest first."""
    paths = [log.with_name(f"{log.name}.{number}") for number in range(count, 0, -1)]
    return b"".join(path.read_bytes() for path in [*paths, log] if path.exists())


def collapses(directory: Path) -> bool:
    """Whether this file system can cut a file's beginning off."""
    path = directory / "trial"
    path.write_bytes(b"x" * 100_000)
    with path.open("r+b") as file:
        return logs._collapse(file.fileno(), 65_536)


async def test_no_line_is_lost_or_doubled_while_a_process_writes_as_fast_as_it_can(bench: Bench) -> None:
    process = bench.start(sys.executable, "-c", WRITER)
    log = bench.path / "log/web.1.log"
    rotations = 0

    def rotate() -> bool:
        nonlocal rotations
        rotations += bench.runner.rotate_logs(SLOT, 100_000, 100)
        return process in bench.ended

    await until(rotate)
    assert rotations >= 3
    lines = read_all(log, 100).decode().splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.count(" ") == 1]
    if collapses(bench.path):
        assert numbers == list(range(200_000))
    else:  # truncation may lose what is written in the microseconds between two calls
        assert numbers == sorted(set(numbers))
        assert len(numbers) > 190_000


def test_where_nothing_can_be_cut_off_the_log_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_collapse", lambda descriptor, size_bytes: False)
    log = tmp_path / "web.1.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(10_000):
            writer.write(b"line %d\n" % number)
            if number % 3_000 == 2_999:
                assert logs.rotate(log, 1_000, 5)
                assert log.stat().st_size == 0
    assert read_all(log, 5) == b"".join(b"line %d\n" % number for number in range(10_000))


def test_only_a_log_that_is_too_large_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "web.1.log"
    assert not logs.rotate(log, 10, 3)
    log.write_bytes(b"x" * 10)
    assert not logs.rotate(log, 10, 3)
    log.write_bytes(b"x" * 11)
    assert logs.rotate(log, 10, 3)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_old_logs_are_kept_as_asked_for(tmp_path: Path, count: int) -> None:
    log = tmp_path / "web.1.log"
    for number in range(1, 8):
        (tmp_path / f"web.1.log.{number}").write_text(f"old {number}")
    log.write_text("new")
    assert logs.rotate(log, 1, count)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["web.1.log", *(f"web.1.log.{number}" for number in range(1, count + 1))]
    texts = [(tmp_path / f"web.1.log.{number}").read_text() for number in range(1, count + 1)]
    assert texts == ["new", "old 1", "old 2"][:count]


def test_a_log_that_cannot_be_rotated_stays_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "web.1.log"
    log.write_text("text")
    (tmp_path / "web.1.log.rotating").mkdir()
    assert not logs.rotate(log, 1, 3)
    assert log.read_text() == "text"


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "web.1.log").symlink_to(tmp_path / "precious")
    assert not logs.rotate(tmp_path / "web.1.log", 1, 3)
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_last_lines_come_oldest_first(tmp_path: Path) -> None:
    log = tmp_path / "web.1.log"
    assert logs.last_lines(log, 5) == []
    log.write_text("")
    assert logs.last_lines(log, 5) == []
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert logs.last_lines(log, 3) == ["line 99997", "line 99998", "line 99999"]
    assert logs.last_lines(log, 0) == []
    assert len(logs.last_lines(log, 20_000)) == 20_000


def test_the_last_lines_reach_back_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "web.1.log"
    (tmp_path / "web.1.log.1").write_text("one\ntwo\nthr")
    log.write_text("ee\nfour\nfi")
    assert logs.last_lines(log, 4) == ["two", "three", "four", "fi"]
    assert logs.last_lines(log, 10) == ["one", "two", "three", "four", "fi"]


def test_undecodable_and_endless_lines_do_not_harm(tmp_path: Path) -> None:
    log = tmp_path / "web.1.log"
    log.write_bytes(b"\xff\xfe\r\n" + b"x" * 5_000_000)
    (line,) = logs.last_lines(log, 1)
    assert len(line) == logs.LINE_LENGTH
    log.write_bytes(b"\xff\xfe\r\n")
    assert logs.last_lines(log, 1) == ["\ufffd\ufffd"]
