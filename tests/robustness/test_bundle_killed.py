"""The daemon is killed between any two calls to the system while it packs, lays out or removes files of releases: what
was there is there, what was begun is there as a whole or not at all, and the next call goes on and clears away.
"""

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundles import tree
from perdure.adapters.bundle import laying, manifest, objects
from perdure.adapters.bundle.files import BundleFiles
from perdure.adapters.bundle.laying import Order
from perdure.adapters.bundle.rooms import Rooms
from perdure.adapters.state import filesystem
from perdure.model.deploy import Files
from perdure.model.errors import CorruptionError

CALLS = (
    "open",
    "write",
    "pwrite",
    "fsync",
    "unlink",
    "replace",
    "rename",
    "mkdir",
    "rmdir",
    "close",
    "symlink",
    "fchmod",
)
DONE = 3

Work = Callable[[BundleFiles], object]


class Shop:
    """A site whose web@1 and web@2 are laid out, and whose directory has been changed since."""

    def __init__(self, directory: Path) -> None:
        self.source, self.home = directory / "shop", directory / "home"
        (self.source / "app").mkdir(parents=True)
        self.home.mkdir()
        (self.source / "app/link").symlink_to("main.py")
        bundles = self.bundles(self.home)
        self.digests = [self.version(bundles, number) for number in (1, 2)]
        for number, digest in enumerate(self.digests, start=1):
            bundles._lay_out(Order(digest, "web", number))
        (self.source / "app/main.py").write_text("3")
        (self.source / "new").write_text("new")

    @staticmethod
    def bundles(home: Path) -> BundleFiles:
        return BundleFiles(home / "releases")

    def version(self, bundles: BundleFiles, number: int) -> str:
        (self.source / "app/main.py").write_text(str(number))
        (self.source / "shared").write_text("shared")
        return self.pack(bundles)

    def pack(self, bundles: BundleFiles) -> str:
        return bundles._pack(Files(str(self.source), (".",)))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("site"))


def killed_at(home: Path, work: Work, last: int) -> bool:
    """Do the work in another process, which dies at its `last`th call; whether it was done before."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            count = 0

            def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
                def dying(*arguments: Any, **named: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count > last:
                        if name in ("write", "pwrite"):
                            data = memoryview(arguments[1])
                            call(arguments[0], data[: len(data) // 2], *arguments[2:])
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*arguments, **named)

                return dying

            bundles = Shop.bundles(home)
            for name in CALLS:
                setattr(os, name, counted(name, getattr(os, name)))
            work(bundles)
            status = DONE
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    assert ended == signal.SIGKILL or os.waitstatus_to_exitcode(ended) == DONE, ended
    return ended != signal.SIGKILL


def at_every_call(shop: Shop, tmp_path: Path, work: Work, judge: Callable[[Path], None]) -> int:
    """Kill the work at every one of its calls in turn, and judge what is left; how many there are."""
    for last in range(10_000):
        home = tmp_path / "home"
        shutil.copytree(shop.home, home, symlinks=True)
        done = killed_at(home, work, last)
        assert sound(home / "releases")
        judge(home)
        shutil.rmtree(home)
        if done:
            return last
    raise AssertionError("it never ends")


def sound(root: Path) -> bool:
    """Whether whatever has a name is what its name says: no list without its contents, no release without its list."""
    rooms = Rooms(root)
    for digest in [path.name for path in rooms.manifests.iterdir()]:
        for entry in manifest.read(rooms, digest):
            assert not entry.digest or objects.is_sound(rooms.objects / entry.digest)
    assert all(objects.is_sound(path) for path in rooms.objects.iterdir())
    laid = laying.laid(rooms)
    for directory in root.glob("[!.]*/*"):
        digest = laid[directory.parent.name, int(directory.name)]
        assert {entry.path for entry in manifest.read(rooms, digest)} == set(tree(directory))
    return True


def test_what_was_packed_is_there_as_a_whole_or_not_at_all(shop: Shop, tmp_path: Path) -> None:
    known = []
    expected = shop.pack(Shop.bundles(tmp_path / "elsewhere"))

    def judge(home: Path) -> None:
        bundles = Shop.bundles(home)
        try:
            listed = bundles._listing(expected)
            known.append(True)
        except CorruptionError:
            known.append(False)
        assert shop.pack(bundles) == expected
        assert len(bundles._listing(expected)) == 5
        assert not known[-1] or listed == bundles._listing(expected)
        assert list((home / "releases/.incoming").iterdir()) == []
        assert bundles._content(expected, "new") == b"new"

    assert at_every_call(shop, tmp_path, shop.pack, judge) > 25
    assert known == sorted(known)
    assert 2 < known.count(True) < 12


def test_a_release_is_laid_out_as_a_whole_or_not_at_all(shop: Shop, tmp_path: Path) -> None:
    known = []
    order = Order(shop.digests[0], "web", 3)

    def judge(home: Path) -> None:
        directory = home / "releases/web/3"
        known.append(directory.exists())
        # The next daemon lays it out, and does not have to know how far the last one came.
        assert Shop.bundles(home)._lay_out(order) == str(directory)
        assert tree(directory) == tree(shop.home / "releases/web/1")
        assert list((home / "releases/.incoming").iterdir()) == []

    assert at_every_call(shop, tmp_path, lambda bundles: bundles._lay_out(order), judge) > 25
    assert known == sorted(known)
    assert 2 < known.count(True) < 12


def test_other_files_may_get_the_number_of_a_release_that_was_not_laid_out_in_the_end(
    shop: Shop, tmp_path: Path
) -> None:
    first, other = Order(shop.digests[0], "web", 3), Order(shop.digests[1], "web", 3)

    def judge(home: Path) -> None:
        bundles = Shop.bundles(home)
        if not (home / "releases/web/3").exists():
            bundles._lay_out(other)
            assert tree(home / "releases/web/3") == tree(shop.home / "releases/web/2")
            assert sound(home / "releases")

    at_every_call(shop, tmp_path, lambda bundles: bundles._lay_out(first), judge)


def test_a_removal_takes_nothing_from_what_is_kept_and_is_completed_by_the_next_one(shop: Shop, tmp_path: Path) -> None:
    kept = tree(shop.home / "releases/web/2")

    def judge(home: Path) -> None:
        root = home / "releases"
        assert tree(root / "web/2") == kept
        Shop.bundles(home)._retain("web", [2])
        assert tree(root / "web/2") == kept
        assert [path.name for path in root.glob("web/*")] == ["2"]
        assert [path.name for path in (root / ".manifests").iterdir()] == [shop.digests[1]]
        expected = {hashlib.sha256(text).hexdigest() for text in (b"2", b"shared")}
        assert {path.name for path in (root / ".objects").iterdir()} == expected
        assert list((root / ".incoming").iterdir()) == []

    assert at_every_call(shop, tmp_path, lambda bundles: bundles._retain("web", [2]), judge) > 15


def test_the_very_first_call_can_be_killed_too(shop: Shop, tmp_path: Path) -> None:
    for last in range(10_000):
        home = tmp_path / "home"
        home.mkdir()
        done = killed_at(home, shop.pack, last)
        bundles = Shop.bundles(home)
        bundles._lay_out(Order(shop.pack(bundles), "web", 1))
        assert sound(home / "releases")
        shutil.rmtree(home)
        if done:
            return


@pytest.mark.parametrize("count", [3, objects.FLUSHED_EACH_MAX + 5])
def test_everything_is_flushed_before_the_name_that_makes_it_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What a power cut may take back is told by the order of the calls alone."""
    shop = Shop(tmp_path)
    for number in range(count):
        (shop.source / f"{number}").write_text(f"number {number}")
    dirty = Dirty(monkeypatch)
    bundles = Shop.bundles(shop.home)
    bundles._lay_out(Order(shop.pack(bundles), "web", 3))
    assert dirty.renamed.count(".objects") >= count
    assert [one for one in dirty.renamed if one != ".objects"] == [".manifests", ".laid", "web"]
    assert dirty.left() == set()


class Dirty:
    """Follows what was written and renamed, and not flushed yet."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.paths: set[str] = set()
        self.flushed: set[str] = set()
        self.renamed: list[str] = []
        self._write, self._pwrite, self._fsync = os.write, os.pwrite, os.fsync
        self._rename, self._tree = os.rename, filesystem.sync_tree
        patch.setattr(os, "write", self.write)
        patch.setattr(os, "pwrite", self.pwrite)
        patch.setattr(os, "fsync", self.fsync)
        patch.setattr(os, "rename", self.rename)
        patch.setattr(filesystem, "sync_tree", self.sync_tree)

    def left(self) -> set[str]:
        """What counts already, and may be lost."""
        return {path for path in self.paths if "/.incoming" not in path}

    def write(self, descriptor: int, data: Any) -> int:
        self.paths.add(self._of(descriptor))
        return self._write(descriptor, data)

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        self.paths.add(self._of(descriptor))
        return self._pwrite(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        self.paths.discard(self._of(descriptor))
        self.flushed.add(self._of(descriptor))
        self._fsync(descriptor)

    def sync_tree(self, path: Path) -> None:
        self.paths.clear()
        self.flushed.add(str(path))
        self._tree(path)

    def rename(self, source: Any, target: Any) -> None:
        inside = {path for path in self.paths if f"{path}/".startswith(f"{source}/")}
        assert not inside, f"{source} is renamed before it was flushed"
        assert self.flushed & {str(source), str(Path(source).parent)}, f"{source} was never flushed"
        room = Path(target).parent
        if room.name != ".objects":
            assert not self.left(), f"{target} counts before {self.left()} was flushed"
        self.paths.add(str(room))
        self.renamed.append(room.name)
        self._rename(source, target)

    @staticmethod
    def _of(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
