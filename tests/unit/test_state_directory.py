"""Copies of a directory that is used meanwhile, trees that are written back, and passive replicas that follow."""

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from slots import FILES, picture
from trees import UNPAUSED, Directory, grow

from perdure.adapters.runner import stat
from perdure.adapters.state import directory, pausing, tree
from perdure.adapters.state.directory import Mirror
from perdure.adapters.state.vault import Entry, EntryKind
from perdure.detect import probe
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.snapshot import Consistency, Keeping


@pytest.fixture
def slot(tmp_path: Path) -> Directory:
    slot = Directory(tmp_path)
    grow(slot.place.live)
    return slot


def test_a_tree_comes_back_as_it_was(slot: Directory) -> None:
    before = picture(slot.place.live)
    assert picture(slot.restored(slot.take())) == before
    assert slot.aside.stat().st_mtime_ns != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_come_back(slot: Directory) -> None:
    os.chown(slot.place.live / "file", 1234, 2345)
    os.chown(slot.place.live / "link", 1234, 2345, follow_symlinks=False)
    restored = slot.restored(slot.take())
    for name in ("file", "link"):
        seen = (restored / name).lstat()
        assert (seen.st_uid, seen.st_gid) == (1234, 2345)


def test_what_is_no_state_and_what_is_perdures_own_is_left_out(slot: Directory) -> None:
    root = slot.place.live
    os.mkfifo(root / "pipe")
    (root / ".perdure-applied").write_text("{}")
    (root / "sub" / ".perdure-mine").write_text("not at the top: the service's own")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        content = slot.take()
    assert directory.scan(root)[1] == ["pipe", "socket"]
    names = {entry.path for entry in content.entries}
    assert "sub/.perdure-mine" in names
    assert not names & {"pipe", "socket", ".perdure-applied"}


def test_only_what_looks_different_is_read_again(slot: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    slot.take()
    time.sleep(2 * directory.TICK_NS / 1e9)  # The clock that dates files must tick: it is the kernel's own.
    slot.take()
    read: list[str] = []
    fetch = Mirror._fetch

    def noting(self: Mirror, root: Path, one: directory.Found, until_at: float | None) -> bool:
        read.append(one.path)
        return fetch(self, root, one, until_at)

    monkeypatch.setattr(Mirror, "_fetch", noting)
    slot.take()
    assert read == []
    (slot.place.live / "file").write_text("new")
    content = slot.take()
    assert set(read) == {"file"}
    assert b"".join(content.read("file")) == b"new"


def test_what_is_written_through_a_mapping_is_seen_though_no_call_says_so(tmp_path: Path) -> None:
    """A page that is dirty already gets no new time when it is written again, unless it was flushed in between."""
    slot = Directory(tmp_path)
    path = slot.place.live / "mapped"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as mapped:
        mapped[0] = 1
        time.sleep(2 * directory.TICK_NS / 1e9)
        for number in range(2, 12):
            slot.take()
            mapped[0] = number
            content = slot.take()
            assert b"".join(content.read("mapped"))[0] == number
            time.sleep(2 * directory.TICK_NS / 1e9)


def test_what_changed_just_before_it_was_looked_at_is_read_again(
    slot: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are dated by a clock that stands still for some milliseconds: here, for all of the test."""
    monkeypatch.setattr(directory, "TICK_NS", 10**15)
    slot.take()
    path = slot.place.live / "file"
    before = path.stat()
    path.write_bytes(b"y" * before.st_size)
    look = (before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
    monkeypatch.setattr(directory.Found, "look", property(lambda one: look if one.path == "file" else _look(one)))
    monkeypatch.setattr(directory, "_look", lambda seen: look if seen.st_ino == before.st_ino else _look_of(seen))
    content = slot.take()
    assert b"".join(content.read("file")) == b"y" * before.st_size


_look_of = directory._look


def _look(one: directory.Found) -> tuple[int, int, int, int]:
    return _look_of(one.seen)


def test_files_that_go_come_and_change_their_kind_are_followed(slot: Directory) -> None:
    slot.take()
    root = slot.place.live
    (root / "file").unlink()
    (root / "file").mkdir()
    (root / "file" / "inner").write_text("x")
    (root / "link").unlink()
    (root / "link").write_text("no link any more")
    before = picture(root)
    assert picture(slot.restored(slot.take())) == before


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    slot = Directory(tmp_path, replace(UNPAUSED, path="missing"))
    with pytest.raises(UnavailableError, match="there is no directory"):
        slot.take()


WRITER = """
import os, sys
number = 0
while True:
    number += 1
    for name in ("a", "b"):
        with open(os.path.join(sys.argv[1], name), "r+") as file:
            file.write(f"{number:09}")
    if number == 1:
        print("writing", flush=True)
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, as replicas are, that has said its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def writing(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One number is in two files, and both change without pause."""
    for name in ("a", "b"):
        (root / name).write_text("0" * 9)
    with running(WRITER, str(root)) as process:
        yield process


def test_a_paused_copy_is_of_one_moment_and_the_process_goes_on(tmp_path: Path) -> None:
    slot = Directory(tmp_path, FILES)
    with writing(slot.place.live) as process:
        for _ in range(10):
            content = slot.take(process.pid)
            a, b = (int(b"".join(content.read(name))) for name in ("a", "b"))
            assert a - 1 <= b <= a
            assert letter(process) in "RSD"


def letter(process: subprocess.Popen[bytes]) -> str:
    seen = stat.read(process.pid)
    assert seen is not None
    return seen.letter


@pytest.mark.parametrize(("times", "held"), [(1, True), (3, True), (4, False)])
def test_without_a_pause_a_file_that_changes_while_it_is_read_is_read_again_and_then_fails_the_snapshot(
    tmp_path: Path, times: int, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = Directory(tmp_path, UNPAUSED)
    path = slot.place.live / "file"
    path.write_text("x")
    copy = directory._copy
    lengths = iter(range(2, 2 + times))

    def racing(reading: int, writing: int, until_at: float | None) -> bool:
        copied = copy(reading, writing, until_at)
        for length in lengths:
            path.write_text("x" * length)
            break
        return copied

    monkeypatch.setattr(directory, "_copy", racing)
    if held:
        assert b"".join(slot.take().read("file")) == path.read_bytes()
    else:
        with pytest.raises(UnavailableError, match="file changes while it is read"):
            slot.take()
        assert slot.kept.kept() == []


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=str)
def test_the_process_goes_on_when_the_copy_fails(
    tmp_path: Path, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = Directory(tmp_path, FILES)
    exact = Mirror._exact

    def fail(self: Mirror, root: Path, until_at: float | None) -> directory.Copied:
        exact(self, root, until_at)
        assert letter(process) == "T"
        raise failure

    monkeypatch.setattr(Mirror, "_exact", fail)
    with writing(slot.place.live) as process:
        with pytest.raises(type(failure)):
            slot.take(process.pid)
        assert letter(process) in "RSD"


def test_the_process_goes_on_when_the_copier_is_killed(tmp_path: Path) -> None:
    copier = """
import os, sys, time
from perdure.adapters.state import pausing
with pausing.paused(int(sys.argv[1]), 600.0):
    print("paused", flush=True)
    time.sleep(600)
"""
    with writing(tmp_path) as process:
        with running(copier, str(process.pid)) as killed:
            assert letter(process) == "T"
            os.kill(killed.pid, signal.SIGKILL)
            wait_until(lambda: letter(process) != "T")
        assert letter(process) in "RSD"


def wait_until(true: object) -> None:
    """Fails when it does not become so."""
    assert callable(true)
    until_at = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until_at
        time.sleep(0.001)


def test_a_pause_ends_after_its_time_whatever_the_copier_does(tmp_path: Path) -> None:
    with writing(tmp_path) as process, pausing.paused(process.pid, 0.05):
        assert letter(process) == "T"
        wait_until(lambda: letter(process) != "T")


def test_all_of_the_group_is_paused_children_in_other_process_groups_too(tmp_path: Path) -> None:
    parent = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            with pausing.paused(process.pid, 10.0):
                letters = [one.letter for pid in (process.pid, child) if (one := stat.read(pid)) is not None]
                assert letters == ["T", "T"]
            letters = [one.letter for pid in (process.pid, child) if (one := stat.read(pid)) is not None]
            assert "T" not in letters
        finally:
            os.kill(child, signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)


def test_a_process_that_somebody_else_stopped_stays_stopped(tmp_path: Path) -> None:
    slot = Directory(tmp_path, FILES)
    with writing(slot.place.live) as process:
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: letter(process) == "T")
        slot.take(process.pid)
        assert letter(process) == "T"


def test_what_changes_too_much_for_a_pause_is_given_up_and_the_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "PAUSE_S_MAX", -1.0)
    slot = Directory(tmp_path, FILES)
    with writing(slot.place.live) as process:
        with pytest.raises(UnavailableError, match=r"takes longer than -1 s"):
            slot.take(process.pid)
        assert letter(process) in "RSD"


def test_a_look_at_all_names_that_outlasts_the_pause_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is copied in the pause, but the process went on before the look was over."""
    slot = Directory(tmp_path, FILES)
    (slot.place.live / "file").write_text("x")
    time.sleep(2 * directory.TICK_NS / 1e9)  # else it is read again in the pause, whose end is seen there
    monkeypatch.setattr(directory, "GUARD_S", -2 * directory.PAUSE_S_MAX)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        with pytest.raises(UnavailableError, match="takes longer than"):
            slot.take(process.pid)
        process.kill()


def test_a_pause_is_shorter_than_the_silence_that_convicts_a_replica() -> None:
    assert directory.PAUSE_S_MAX + directory.GUARD_S < probe.PAUSE_S


def commands(tmp_path: Path, before: str, after: str) -> Keeping:
    wrapped = (("sh", "-c", f"{{ {one}; }} >> '{tmp_path}/said'") for one in (before, after))
    first, last = wrapped
    return replace(FILES, consistency=Consistency.COMMAND, before=first, after=last)


def test_the_services_own_commands_are_run_around_the_copy(tmp_path: Path) -> None:
    slot = Directory(tmp_path, commands(tmp_path, "cat file; echo frozen > file", "cat file; echo thawed > file"))
    (slot.place.live / "file").write_text("running\n")
    content = slot.take(os.getpid())
    assert b"".join(content.read("file")) == b"frozen\n"
    assert (tmp_path / "said").read_text() == "running\nfrozen\n"
    assert (slot.place.live / "file").read_text() == "thawed\n"


@pytest.mark.parametrize("before", ["echo no; false", "echo yes"])
def test_the_second_command_is_run_in_every_case(tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = Directory(tmp_path, commands(tmp_path, before, "echo thawed"))
    if "yes" in before:
        monkeypatch.setattr(Mirror, "_exact", lambda *_: (_ for _ in ()).throw(UnavailableError("no room")))
    with pytest.raises(UnavailableError):
        slot.take(os.getpid())
    assert (tmp_path / "said").read_text().endswith("thawed\n")


def test_where_nobody_runs_there_is_nobody_whom_the_commands_could_hold(tmp_path: Path) -> None:
    slot = Directory(tmp_path, commands(tmp_path, "false", "false"))
    (slot.place.live / "file").write_text("at rest")
    assert b"".join(slot.take().read("file")) == b"at rest"
    assert not (tmp_path / "said").exists()


def entry(path: str, kind: EntryKind = EntryKind.FILE, target: str = "") -> Entry:
    return Entry(path, kind, 0o755, os.geteuid(), os.getegid(), 0, 0, target)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../out")],
        [entry("/out")],
        [entry("a/../out")],
        [entry("link", EntryKind.SYMLINK, "/tmp"), entry("link/out")],
        [entry("a/b")],
        [entry("a"), entry("a/b")],
        [entry("")],
        [entry("."), entry("a")],
        [entry("a//b"), entry("a", EntryKind.DIRECTORY)],
        [entry("a"), entry("a")],
    ],
)
def test_a_snapshot_whose_paths_lead_elsewhere_is_refused(entries: list[Entry]) -> None:
    with pytest.raises(CorruptionError, match="leads elsewhere"):
        tree.checked(entries)
