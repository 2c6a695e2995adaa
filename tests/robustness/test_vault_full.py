"""A disk that is full while a snapshot is taken: the reason is told, nothing half is there, and removing makes room."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vaults
from perdure.adapters.state.vault import Vault
from perdure.model.errors import UnavailableError
from vaults import noise, restored, take, with_changes

MEGABYTE = 1024 * 1024
SMALL = {"": noise(1, MEGABYTE)}
LARGE = {"": noise(2, 6 * MEGABYTE)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB, where this user may mount one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def free(directory: Path) -> int:
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize


def test_a_snapshot_without_room_is_reported_with_what_it_needs_and_leaves_nothing(small_disk: Path) -> None:
    vault = Vault(small_disk / "store")
    take(vault, SMALL)
    before, free_before = vaults.state_of(vault.directory), free(small_disk)
    with pytest.raises(UnavailableError, match=rf"no room in {vault.directory}: up to") as caught:
        take(vault, LARGE)
    needed = int(caught.value.sentence.partition("up to ")[2].partition(" bytes")[0].replace(",", ""))
    assert 6 * MEGABYTE < needed < 7.1 * MEGABYTE
    assert "keep fewer snapshots" in caught.value.hint
    assert vaults.state_of(vault.directory) == before
    assert free(small_disk) == free_before
    assert restored(vault.open("s-0001")) == SMALL
    vault.verify("s-0001")
    changed = {"": with_changes(SMALL[""], 5)}
    assert restored(vault.open(take(vault, changed).id)) == changed


@pytest.mark.parametrize("left", range(0, 120_000, 8192))
def test_however_little_room_there_is_a_snapshot_is_whole_or_not_there(small_disk: Path, left: int) -> None:
    vault = Vault(small_disk / "store")
    take(vault, SMALL)
    (small_disk / "ballast").write_bytes(bytes(free(small_disk) - left))
    changed = {"": with_changes(SMALL[""], *range(0, 100_000, 4096))}
    try:
        take(vault, changed)
    except UnavailableError as error:
        assert "no room in" in error.sentence
        assert len(vault.kept()) == 1
        (small_disk / "ballast").unlink()
        take(vault, changed)
    assert [restored(vault.open(one.manifest.id)) for one in vault.kept()] == [SMALL, changed]
    vault.verify("s-0002")


def test_on_a_full_disk_something_can_still_be_removed_and_then_there_is_room(small_disk: Path) -> None:
    vault = Vault(small_disk / "store")
    for number in range(3):
        take(vault, {"": noise(number, MEGABYTE)})
    (small_disk / "ballast").write_bytes(bytes(free(small_disk)))
    assert free(small_disk) == 0
    assert vault.remove(["s-0001"]) > MEGABYTE
    assert free(small_disk) > MEGABYTE * 0.9
    take(vault, {"": noise(9, MEGABYTE // 2)})
    for one in vault.kept():
        vault.verify(one.manifest.id)


def test_an_export_without_room_leaves_what_was_there(small_disk: Path, tmp_path: Path) -> None:
    vault = Vault(tmp_path / "store")
    take(vault, LARGE)
    (small_disk / "export").write_bytes(b"an earlier one")
    with pytest.raises(UnavailableError, match=f"no room in {small_disk}"):
        vault.transfer_out("s-0001", small_disk / "export")
    assert [path.name for path in small_disk.iterdir()] == ["export"]
    assert (small_disk / "export").read_bytes() == b"an earlier one"


def test_reading_in_without_room_leaves_what_was_there(small_disk: Path, tmp_path: Path) -> None:
    source = Vault(tmp_path / "store")
    take(source, LARGE)
    source.transfer_out("s-0001", tmp_path / "export")
    vault = Vault(small_disk / "store")
    take(vault, SMALL)
    before = vaults.state_of(vault.directory)
    with pytest.raises(UnavailableError, match="no room in"):
        vault.transfer_in(tmp_path / "export")
    assert vaults.state_of(vault.directory) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_whichever_call_fails_the_snapshot_is_whole_or_not_there_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Each call of a commit is refused in turn; no small disk is needed for that."""
    outcomes = []
    with vaults.small_packs():
        for last in range(500):
            directory = tmp_path / str(last)
            vault = Vault(directory)
            first, second = {"": noise(1, 6000)}, {"": noise(2, 6000)}
            take(vault, first)
            with monkeypatch.context() as patch:
                count = refuse(patch, last, code)
                try:
                    take(vault, second)
                    outcomes.append(True)
                except UnavailableError as error:
                    assert error.hint
                    outcomes.append(False)
            expected = [first, second] if outcomes[-1] else [first]
            assert [restored(vault.open(one.manifest.id)) for one in vault.kept()] == expected
            third = take(vault, {"": noise(3, 6000)})
            vault.verify(third.id)
            assert list((directory / "incoming").iterdir()) == []
            shutil.rmtree(directory)
            if count[0] <= last:
                break
    assert outcomes[-1]
    assert outcomes.count(False) > 20


def refuse(patch: pytest.MonkeyPatch, last: int, code: int) -> list[int]:
    """Let one call that writes fail, after `last` ones; the calls so far."""
    count = [0]
    for name in ("open", "write", "fsync", "replace"):
        real = getattr(os, name)

        def failing(*arguments: Any, real: Any = real, name: str = name, **named: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                return real(*arguments, **named)
            count[0] += 1
            if count[0] == last + 1:
                raise OSError(code, os.strerror(code))
            return real(*arguments, **named)

        patch.setattr(os, name, failing)
    return count
