"""The lock on the state directory between real processes: one daemon at a time, and a dead one keeps nobody out."""

import os
import subprocess
from pathlib import Path

import pytest
from store_children import ANSWER_TIMEOUT_S, running, wait_for_line

from perdure.control.lock import DirectoryLock
from perdure.model.errors import ConflictError, UnavailableError

HOLDER = """
import sys
from pathlib import Path
from perdure.control.lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_daemon_is_told_the_pid_of_the_first_and_may_run_when_that_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with running(HOLDER, str(path)) as child:
        wait_for_line(child, b"locked\n")
        with pytest.raises(ConflictError) as caught:
            DirectoryLock(path).acquire()
        assert caught.value.sentence == f"a daemon with pid {child.pid} already runs for this directory"
        assert caught.value.hint == "perdure status"
        child.kill()
        child.wait(ANSWER_TIMEOUT_S)
        with DirectoryLock(path):
            assert int(path.read_text()) == os.getpid()


def test_a_program_that_the_daemon_started_does_not_keep_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = DirectoryLock(path)
    lock.acquire()
    with subprocess.Popen(["sleep", "20"], close_fds=False) as child:
        try:
            lock.release()
            with DirectoryLock(path):
                assert child.poll() is None
        finally:
            child.kill()


def test_a_lock_can_be_released_twice_and_taken_again(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "lock")
    for _ in range(2):
        lock.acquire()
        with pytest.raises(ConflictError, match=str(os.getpid())):
            DirectoryLock(tmp_path / "lock").acquire()
        lock.release()
        lock.release()
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lock").read_text() == ""


def test_a_lock_without_a_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be used") as caught:
        DirectoryLock(tmp_path / "missing" / "lock").acquire()
    assert caught.value.hint


def test_a_lock_whose_holder_has_not_written_its_pid_is_still_a_conflict(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with DirectoryLock(path):
        path.write_bytes(b"")
        with pytest.raises(ConflictError, match="a daemon already runs"):
            DirectoryLock(path).acquire()
