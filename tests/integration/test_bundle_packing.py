"""The files of a release are read until nothing changes any more, and each content is stored once."""

# ruff: noqa: ASYNC240 (the tests look at small local files while nothing else runs)

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from bundles import SOMEBODY, Site, done_by, mode, open_to_all
from perdure.adapters.bundle import objects, packing, selecting
from perdure.model.bundle import EntryKind
from perdure.model.deploy import Files
from perdure.model.errors import CorruptionError, UnavailableError


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_the_same_files_have_the_same_digest_whenever_and_by_whom_they_were_written(site: Site) -> None:
    file = site.write("a/b", "x")
    first = await site.pack()
    os.utime(file, (1, 1))
    (site.source / "a").chmod(0o700)
    file.unlink()
    site.write("a/b", "x")
    assert await site.pack() == first
    file.chmod(0o755)
    second = await site.pack()
    assert second != first
    file.write_text("y")
    assert await site.pack() not in (first, second)


async def test_a_content_is_stored_once_for_all_files_releases_and_services_and_is_read_only(site: Site) -> None:
    for path in ("a", "b/c", "d"):
        site.write(path, "the same")
    digest = await site.pack()
    for service in ("web", "api"):
        await site.bundles.lay_out(digest, service, 1)
    site.write("e", "more")
    await site.pack()
    assert site.kept(".objects") == {hashlib.sha256(text).hexdigest() for text in (b"the same", b"more")}
    assert {mode(path) for path in (site.root / ".objects").iterdir()} == {0o400}
    assert mode(site.root / ".objects") == mode(site.root / ".manifests") == 0o700


class Restless:
    """Writes to a file each time that a piece of one has been read, so many times."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path, times: int) -> None:
        self.path, self.times, self.count = path, times, 0
        self._real = packing._pieces
        patch.setattr(packing, "_pieces", self._pieces)

    def _pieces(self, path: Path, descriptor: int) -> Any:
        for piece in self._real(path, descriptor):
            yield piece
            if self.count < self.times:
                self.count += 1
                self.change()

    def change(self) -> None:
        self.path.write_text(f"changed {self.count}")


@pytest.mark.parametrize("large", [False, True])
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    file = site.write("a", os.urandom(objects.HELD_BYTES + 1) if large else "first")
    restless = Restless(monkeypatch, file, 2)
    digest = await site.pack()
    assert restless.count == 2
    assert await site.bundles.content(digest, "a") == b"changed 2"
    assert site.kept(".objects") == {hashlib.sha256(b"changed 2").hexdigest()}


async def test_a_large_file_of_which_the_second_reading_gives_another_content_is_not_stored(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may look as it did, when the clock of files has not ticked."""
    monkeypatch.setattr(selecting, "look", lambda seen: (seen.st_dev, seen.st_ino, seen.st_size, 0, 0))
    file = site.write("a", bytes(objects.HELD_BYTES + 1))
    readings = 0
    real = packing._pieces

    def pieces(path: Path, descriptor: int) -> Any:
        nonlocal readings
        readings += 1
        yield from real(path, descriptor)
        if readings == 1:
            with file.open("r+b") as writing:
                writing.write(b"x")

    monkeypatch.setattr(packing, "_pieces", pieces)
    digest = await site.pack()
    assert (await site.bundles.content(digest, "a"))[:2] == b"x\0"
    assert len(site.kept(".objects")) == 1


async def test_another_file_that_changes_meanwhile_is_read_again_so_that_all_are_of_one_moment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = site.write("a", "early")
    site.write("b", "b")
    real = packing._file
    seen: list[str] = []

    def reading(path: Path, *arguments: Any) -> Any:
        found = real(path, *arguments)
        seen.append(path.name)
        if len(seen) == 2:
            early.write_text("later")
            site.write("c", "new")
            (site.source / "b").unlink()
        return found

    monkeypatch.setattr(packing, "_file", reading)
    digest = await site.pack()
    assert {entry.path for entry in await site.bundles.listing(digest)} == {"a", "c"}
    assert await site.bundles.content(digest, "a") == b"later"


async def test_a_file_that_never_holds_still_is_named_after_some_rounds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = site.write("app.log", "x")
    site.write("b", "x")
    restless = Restless(monkeypatch, log, 1000)
    with pytest.raises(UnavailableError, match=f"{log} changes while it is read") as caught:
        await site.pack()
    assert "exclude" in caught.value.hint
    assert restless.count < 20
    assert site.kept(".incoming") == site.kept(".objects") == set()


async def test_a_file_that_becomes_a_link_or_a_fifo_in_the_moment_before_it_is_opened_is_not_followed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site.write("a", "x")
    site.write("b", "y")
    real = packing._file
    turns = iter(["link", "fifo"])

    def reading(path: Path, *arguments: Any) -> Any:
        turn = next(turns, None) if path == file else None
        if turn is not None:
            file.unlink()
            file.symlink_to("b") if turn == "link" else os.mkfifo(file)
        found = real(path, *arguments)
        if turn is not None:
            assert found is None
            file.unlink()
            site.write("a", "x")
        return found

    monkeypatch.setattr(packing, "_file", reading)
    listed = await site.bundles.listing(await site.pack())
    assert [(entry.path, entry.kind) for entry in listed] == [("a", EntryKind.FILE), ("b", EntryKind.FILE)]


def test_what_may_not_be_read_is_named() -> None:
    with open_to_all() as directory:
        site = Site(directory)
        file = site.write("a", "x", 0o000)
        site.home.chmod(0o777)
        said = done_by(SOMEBODY, lambda: site.bundles._pack(Files(str(site.source), (".",))))
        assert said == f"{file} belongs to the release, and cannot be read: Permission denied"
        file.chmod(0o644)
        closed = site.write("deep/b").parent
        closed.chmod(0o700)
        if os.geteuid() == 0:
            said = done_by(SOMEBODY, lambda: site.bundles._pack(Files(str(site.source), (".",))))
            assert said == f"{closed} belongs to the release, and cannot be read: Permission denied"


async def test_a_reading_that_fails_is_about_the_users_file_and_not_about_perdures(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site.write("a", "x")
    with monkeypatch.context() as patch:

        def failing(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        patch.setattr(os, "pread", failing)
        with pytest.raises(UnavailableError, match=f"{file} belongs to the release, and cannot be read: Input"):
            await site.pack()
    await site.pack()


async def test_a_damaged_content_is_named_and_the_next_pack_replaces_it(site: Site) -> None:
    content = os.urandom(100_000)
    site.write("a", content)
    site.write("b", "b")
    digest = await site.pack()
    damaged = site.root / ".objects" / hashlib.sha256(content).hexdigest()
    damaged.chmod(0o600)
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for call in (site.bundles.lay_out(digest, "web", 1), site.bundles.content(digest, "a")):
        with pytest.raises(CorruptionError, match=f"{damaged} is damaged") as caught:
            await call
        assert "perdure deploy" in caught.value.hint
    assert not (site.root / "web/1").exists()
    assert site.kept(".incoming") == set()
    assert await site.pack() == digest
    assert Path(await site.bundles.lay_out(digest, "web", 1), "a").read_bytes() == content
    assert mode(damaged) == 0o400


async def test_a_content_that_is_gone_or_cut_off_is_named_and_packed_anew(site: Site) -> None:
    site.write("a", "content")
    digest = await site.pack()
    path = site.root / ".objects" / hashlib.sha256(b"content").hexdigest()
    path.unlink()
    for call in (site.bundles.lay_out(digest, "web", 1), site.bundles.content(digest, "a")):
        with pytest.raises(CorruptionError, match=f"{path} is missing"):
            await call
    path.write_bytes(b"cont")
    with pytest.raises(CorruptionError, match=f"{path} is damaged"):
        await site.bundles.lay_out(digest, "web", 1)
    await site.pack()
    assert Path(await site.bundles.lay_out(digest, "web", 1), "a").read_text() == "content"
