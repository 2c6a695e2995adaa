"""A disk that is full, or refuses, while files of releases are packed or laid out: the reason is told, nothing half is
there, and what was there is whole.
"""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bundles import tree
from perdure.adapters.bundle import laying
from perdure.adapters.bundle.files import BundleFiles
from perdure.adapters.bundle.laying import Order
from perdure.adapters.state import filesystem
from perdure.model.deploy import Files
from perdure.model.errors import UnavailableError

MEGABYTE = 1024 * 1024
CALLS = ("open", "write", "pwrite", "fsync", "rename", "mkdir", "symlink", "chmod", "fchmod", "copy_file_range")


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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    (directory / "app").mkdir(parents=True)
    (directory / "app/link").symlink_to("small")
    (directory / "app/small").write_text("small")
    return directory


def noise(path: Path, size: int) -> None:
    path.write_bytes(random.Random(size).randbytes(size))


def pack(bundles: BundleFiles, source: Path) -> str:
    return bundles._pack(Files(str(source), (".",)))


def free(directory: Path) -> int:
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize


def test_what_does_not_fit_is_not_packed_and_leaves_nothing(small_disk: Path, source: Path) -> None:
    bundles = BundleFiles(small_disk / "releases")
    digest = pack(bundles, source)
    bundles._lay_out(Order(digest, "web", 1))
    before, free_before = tree(small_disk), free(small_disk)
    noise(source / "large", 5 * MEGABYTE)
    with pytest.raises(UnavailableError, match=rf"no room in {small_disk}/releases .*bytes are free") as caught:
        pack(bundles, source)
    assert "keep fewer releases" in caught.value.hint
    assert tree(small_disk) == before
    assert free(small_disk) == free_before
    (source / "large").unlink()
    assert pack(bundles, source) == digest


def test_what_does_not_fit_twice_is_not_laid_out_and_leaves_nothing(small_disk: Path, source: Path) -> None:
    bundles = BundleFiles(small_disk / "releases")
    noise(source / "large", 5 * MEGABYTE // 2)
    digest = pack(bundles, source)
    free_before = free(small_disk)
    with pytest.raises(UnavailableError, match=f"no room in {small_disk}/releases"):
        bundles._lay_out(Order(digest, "web", 1))
    assert not (small_disk / "releases/web/1").exists()
    assert free(small_disk) >= free_before - 2 * 4096  # The directory of the service, and what is written down.
    assert list((small_disk / "releases/.incoming").iterdir()) == []
    assert len(bundles._content(digest, "large")) == 5 * MEGABYTE // 2


def test_on_a_full_disk_releases_can_still_be_removed(small_disk: Path, source: Path) -> None:
    bundles = BundleFiles(small_disk / "releases")
    noise(source / "large", MEGABYTE)
    bundles._lay_out(Order(pack(bundles, source), "web", 1))
    (small_disk / "ballast").write_bytes(bytes(free(small_disk)))
    assert free(small_disk) == 0
    (source / "other").write_text("other")
    with pytest.raises(UnavailableError, match="no room"):
        pack(bundles, source)
    assert bundles._retain("web", []) > MEGABYTE
    assert free(small_disk) > 2 * MEGABYTE


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_whichever_call_fails_nothing_half_is_there_and_the_next_one_works(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Each call is refused in turn; no small disk is needed for that."""
    noise(source / "large", laying.SHARED_BYTES_MIN)
    failed = []
    for last in range(500):
        home = tmp_path / str(last)
        home.mkdir()
        bundles = BundleFiles(home / "releases")

        def work(bundles: BundleFiles = bundles) -> None:
            bundles._lay_out(Order(pack(bundles, source), "web", 1))

        with monkeypatch.context() as patch:
            count = refuse(patch, last, code)
            failed.append(fails(work))
        directory = home / "releases/web/1"
        assert not failed[-1] or not directory.exists() or tree(directory) == tree(source)
        work()
        assert tree(directory) == tree(source)
        assert list((home / "releases/.incoming").iterdir()) == []
        shutil.rmtree(home)
        if count[0] <= last:
            break
    assert not failed[-1]
    assert failed.count(True) > 30


def fails(work: Callable[[], None]) -> bool:
    try:
        work()
    except UnavailableError as error:
        assert error.hint
        return True
    return False


def refuse(patch: pytest.MonkeyPatch, last: int, code: int) -> list[int]:
    """Let one call that writes fail, after `last` ones; the calls so far."""
    count = [0]

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                return real(*arguments, **named)
            count[0] += 1
            if count[0] == last + 1:
                raise OSError(code, os.strerror(code))
            return real(*arguments, **named)

        return failing

    for name in CALLS:
        patch.setattr(os, name, counted(name, getattr(os, name)))
    patch.setattr(filesystem, "sync_tree", counted("sync_tree", filesystem.sync_tree))
    return count
