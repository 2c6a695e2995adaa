"""The directory of a release: a copy of its files, with their modes, for whom the service runs as."""

# ruff: noqa: ASYNC240 (the tests look at small local files while nothing else runs)

import os
from pathlib import Path

import pytest

from bundles import SOMEBODY, Site, done_by, mode, open_to_all, tree
from perdure.adapters.bundle import laying, rooms
from perdure.adapters.bundle.files import BundleFiles
from perdure.model.errors import ConflictError
from perdure.ports.bundle import Account


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


async def test_a_release_gets_a_copy_of_all_that_the_patterns_name(site: Site) -> None:
    site.write("app/main.py", "print()")
    site.write("app/deep/down/data.bin", os.urandom(3_000_000))
    site.write("app/.hidden")
    (site.source / "app/empty").mkdir()
    (site.source / "app/current").symlink_to("deep/down")
    site.write("wsgi.py", "x")
    site.write("notes.txt")
    (site.source / "other").mkdir()
    digest = await site.pack("app/**", "*.py")
    directory = Path(await site.bundles.lay_out(digest, "web", 7))
    assert directory == site.root / "web" / "7"
    expected = tree(site.source)
    del expected["notes.txt"], expected["other"]
    assert tree(directory) == expected
    assert (directory / "app/current/data.bin").stat().st_size == 3_000_000


async def test_names_that_are_no_text_are_kept_as_they_are(site: Site) -> None:
    name = os.fsdecode(b"caf\xe9 \n\x01")
    site.write(name, "x")
    (site.source / "link").symlink_to(name)
    directory = Path(await site.bundles.lay_out(await site.pack(), "web", 1))
    assert sorted(os.fsencode(path.name) for path in directory.iterdir()) == [b"caf\xe9 \n\x01", b"link"]
    assert (directory / "link").read_bytes() == b"x"


async def test_a_program_may_write_to_its_directory_and_harms_neither_what_is_kept_nor_another_release(
    site: Site,
) -> None:
    site.write("a", os.urandom(200_000))
    before = (site.source / "a").read_bytes()
    digest = await site.pack()
    first = Path(await site.bundles.lay_out(digest, "web", 1))
    (first / "a").write_bytes(b"overwritten")
    (first / "new").touch()
    second = Path(await site.bundles.lay_out(digest, "web", 2))
    assert (second / "a").read_bytes() == await site.bundles.content(digest, "a") == before
    assert (second / "a").stat().st_nlink == 1
    # What is there stays as it is.
    assert Path(await site.bundles.lay_out(digest, "web", 1)) == first
    assert (first / "a").read_bytes() == b"overwritten"


async def test_modes_are_those_of_the_source_without_special_ones_whatever_the_umask(site: Site) -> None:
    site.write("run", "x", 0o4755)
    site.write("secret", "y", 0o600)
    site.write("written", "z", 0o277)
    site.write("deep/a", "w", 0o664)
    (site.source / "deep").chmod(0o700)
    before = os.umask(0o077)
    try:
        directory = Path(await site.bundles.lay_out(await site.pack(), "web", 1))
    finally:
        os.umask(before)
    found = {path.name: mode(path) for path in directory.rglob("*")}
    assert found == {"run": 0o755, "secret": 0o600, "written": 0o677, "deep": 0o755, "a": 0o664}
    assert mode(directory) == 0o755
    assert mode(directory.parent) == mode(site.root) == 0o711
    assert mode(site.home) == 0o750


@as_root
async def test_the_files_belong_to_whom_the_service_runs_as_and_he_can_come_there() -> None:
    with open_to_all() as directory:
        await _belong(Site(directory))


async def _belong(site: Site) -> None:
    site.write("deep/secret", "x", 0o600)
    (site.source / "link").symlink_to("deep")
    directory = Path(await site.bundles.lay_out(await site.pack(), "web", 1, SOMEBODY))
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in [directory, *directory.rglob("*")]}
    assert owners == {(SOMEBODY.uid, SOMEBODY.gid)}
    assert mode(site.home) == 0o751
    secret = directory / "deep/secret"
    assert done_by(SOMEBODY, secret.read_bytes) == ""
    assert "Permission denied" in done_by(Account(12_346, 23_457), secret.read_bytes)


async def test_a_number_that_has_other_files_is_a_conflict_until_it_is_not_retained(site: Site) -> None:
    file = site.write("a", "1")
    first = await site.pack()
    directory = Path(await site.bundles.lay_out(first, "web", 1))
    file.write_text("2")
    second = await site.pack()
    with pytest.raises(ConflictError, match="web@1 has other files already"):
        await site.bundles.lay_out(second, "web", 1)
    assert (directory / "a").read_text() == "1"
    await site.bundles.retain("web", [])
    assert Path(await site.bundles.lay_out(second, "web", 1)) == directory
    assert (directory / "a").read_text() == "2"


async def test_a_directory_that_is_gone_is_laid_out_again(site: Site) -> None:
    site.write("a", "x")
    digest = await site.pack()
    directory = Path(await site.bundles.lay_out(digest, "web", 1))
    rooms.remove_tree(directory)
    again = BundleFiles(site.root)
    await again.retain("api", [])
    assert await again.lay_out(digest, "web", 1) == str(directory)
    assert (directory / "a").read_text() == "x"


@pytest.mark.parametrize("error", [0, 18, 22, 95])
@pytest.mark.parametrize("after", [0, 1])
async def test_where_the_kernel_cannot_copy_the_bytes_are_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: int, after: int
) -> None:
    content = os.urandom(2 * laying.PIECE_BYTES + 5)
    site.write("a", content)
    digest = await site.pack()
    real, calls = os.copy_file_range, 0

    def copying(*arguments: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after and error == 0:
            return 0
        if calls > after:
            raise OSError(error, os.strerror(error))
        return real(arguments[0], arguments[1], 1000, *arguments[3:])

    monkeypatch.setattr(os, "copy_file_range", copying)
    assert Path(await site.bundles.lay_out(digest, "web", 1), "a").read_bytes() == content
    assert calls == after + 1
