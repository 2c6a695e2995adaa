"""Passive directories follow the snapshots."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from slots import picture, place
from trees import UNPAUSED, Directory, grow

from perdure.adapters.state import settling
from perdure.adapters.state.place import Place
from perdure.adapters.state.vault import Content
from perdure.model.errors import CorruptionError
from perdure.model.snapshot import Keeping


class Follower(Directory):
    """The same, and a passive replica."""

    def __init__(self, tmp_path: Path, keeping: Keeping = UNPAUSED) -> None:
        super().__init__(tmp_path, keeping)
        grow(self.place.live)
        self.passive = place(tmp_path / "2", keeping)
        self.passive.directory.mkdir()

    def since(self) -> Content | None:
        applied = self.passive.applied()
        return None if applied is None else self.kept.open(applied.manifest.id)

    def follow(self, running: bool, content: Content | None = None) -> None:
        content = content or self.take()
        (settling.warm if running else settling.cold)(content, self.since(), self.passive)
        applied = self.passive.applied()
        assert applied is not None
        assert applied.manifest == content.manifest
        found = {path: seen for path, seen in picture(self.passive.live).items() if not path.startswith(".perdure-")}
        assert found == picture(self.place.live)
        assert not self.passive.beside("incoming").exists()

    def inode(self, name: str) -> int:
        return (self.passive.live / name).stat().st_ino


@pytest.fixture(params=[".", "data/inner"])
def follower(tmp_path: Path, request: pytest.FixtureRequest) -> Follower:
    keeping = replace(UNPAUSED, path=request.param)
    (tmp_path / "1").joinpath(request.param).mkdir(parents=True)
    return Follower(tmp_path, keeping)


def change(root: Path) -> None:
    (root / "file").write_bytes(os.urandom(20_000))
    (root / "sub" / "run").unlink()
    (root / "added").write_text("x")
    (root / "link").unlink()
    (root / "link").mkdir()
    (root / "sub" / "empty").rmdir()
    (root / "sub" / "empty").write_text("a file now")


@pytest.mark.parametrize("running", [False, True], ids=["cold", "warm"])
def test_a_passive_replica_follows(follower: Follower, running: bool) -> None:
    follower.follow(running)
    untouched = follower.inode("none")
    change(follower.place.live)
    follower.follow(running)
    assert follower.inode("none") == untouched
    follower.follow(not running)


@pytest.mark.parametrize("running", [False, True], ids=["cold", "warm"])
def test_what_somebody_wrote_into_a_passive_replica_is_gone_with_the_next_snapshot(
    follower: Follower, running: bool
) -> None:
    follower.follow(running)
    content = follower.take()
    root = follower.passive.live
    (root / "none").write_text("local")
    (root / "own").write_text("local")
    os.utime(root / "none", ns=(1, (follower.place.live / "none").stat().st_mtime_ns))
    follower.follow(running, content)


def test_a_running_process_keeps_its_directory(follower: Follower) -> None:
    follower.follow(True)
    inode = follower.inode(".")
    change(follower.place.live)
    follower.follow(True)
    assert follower.inode(".") == inode


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("running", [False, True], ids=["cold", "warm"])
def test_an_interrupted_call_leaves_a_mark_and_the_next_one_is_complete(
    follower: Follower, running: bool, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.follow(running)
    change(follower.place.live)
    content = follower.take()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if late:
            patch.setattr(Place, "complete", die)
        else:
            patch.setattr(settling.filesystem.Disk, "exchange", die)
            patch.setattr(settling, "_remove_others", die)
        with pytest.raises(KeyboardInterrupt):
            follower.follow(running, content)
    assert follower.passive.applied() is None
    follower.follow(running, content)


def test_a_tree_is_exchanged_where_two_names_cannot_be(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling.filesystem.Disk, "exchange", lambda *_: False)
    follower.follow(False)
    change(follower.place.live)
    follower.follow(False)


def test_damage_in_the_store_leaves_a_cold_replica_as_it_was(follower: Follower, tmp_path: Path) -> None:
    follower.follow(False)
    before = picture(tmp_path / "2")
    (follower.place.live / "file").write_bytes(os.urandom(50_000))
    content = follower.take()
    newest = max((tmp_path / "vault" / "packs").glob("*.pack"), key=lambda path: path.stat().st_mtime_ns)
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    with pytest.raises(CorruptionError):
        follower.follow(False, content)
    assert picture(tmp_path / "2") == before
