"""Which files belong to a release: patterns, links, and what is no file."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from bundles import Site
from perdure.adapters.bundle.files import BundleFiles
from perdure.model.bundle import Entry, EntryKind
from perdure.model.deploy import Files
from perdure.model.errors import ConfigError


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_the_list_says_kind_mode_size_and_digest(site: Site) -> None:
    site.write("bin/run", "#!/bin/sh\n", 0o750)
    (site.source / "bin/alias").symlink_to("run")
    digest = await site.pack()
    assert len(digest) == 64
    assert await site.bundles.listing(digest) == [
        Entry("bin", EntryKind.DIRECTORY, 0o755),
        Entry("bin/alias", EntryKind.LINK, target="run"),
        Entry("bin/run", EntryKind.FILE, 0o750, 10, hashlib.sha256(b"#!/bin/sh\n").hexdigest()),
    ]
    assert await site.bundles.content(digest, "bin/run") == b"#!/bin/sh\n"
    for path in ("bin", "bin/alias", "missing"):
        with pytest.raises(ConfigError, match=path):
            await site.bundles.content(digest, path)


async def test_a_pattern_that_names_a_directory_takes_all_below_it_and_exclude_wins(site: Site) -> None:
    for path in ("app/a.py", "app/a.pyc", "app/__pycache__/x", "app/deep/b.pyc", "app/deep/b.py", "static/s.css"):
        site.write(path)
    assert await site.paths("app", exclude=("**/*.pyc", "**/__pycache__")) == [
        "app", "app/a.py", "app/deep", "app/deep/b.py",
    ]  # fmt: skip
    assert await site.paths("app/**/b.py", "static/") == ["app", "app/deep", "app/deep/b.py", "static", "static/s.css"]
    assert await site.paths(".", exclude=("app", "static/*")) == ["static"]
    for left_out in ("app/", "app/**"):
        assert await site.paths(".", exclude=(left_out,)) == ["static", "static/s.css"]


async def test_what_is_perdures_or_gits_belongs_to_no_release(site: Site, tmp_path: Path) -> None:
    for path in (".git/config", ".perdure/perdure.db", "sub/.git", "sub/.perdure/x", "a"):
        site.write(path)
    home = site.source / "state"
    home.mkdir()
    bundles = BundleFiles(home / "releases")
    (tmp_path / "alias").symlink_to(site.source)
    for source in (site.source, tmp_path / "alias"):
        digest = await bundles.pack(Files(str(source), ("**",)))
        assert [entry.path for entry in await bundles.listing(digest)] == ["a", "sub"]
    with pytest.raises(ConfigError, match=r"'.git/\*\*' matches nothing"):
        await bundles.pack(Files(str(site.source), (".git/**",)))


async def test_a_pattern_that_matches_nothing_is_named(site: Site) -> None:
    site.write("app/main.py")
    with pytest.raises(ConfigError, match=r"the pattern 'static/\*\*' matches nothing in ") as caught:
        await site.pack("app/**", "static/**")
    assert "excluded" not in caught.value.sentence
    with pytest.raises(ConfigError, match=r"'app' matches nothing in .*, once what is excluded is left out"):
        await site.pack("app", exclude=("app",))
    with pytest.raises(ConfigError, match=r"'\.' matches nothing"):
        await site.pack(".", exclude=("**",))
    with pytest.raises(ConfigError, match="there is no directory"):
        await site.bundles.pack(Files(f"{site.source}/none", (".",)))
    assert site.kept(".incoming") == site.kept(".objects") == site.kept(".manifests") == set()


@pytest.mark.parametrize(
    "target",
    ["../outside", "/etc/passwd", "deep/../../x", "../shop/a", "over/../../../x", "up/up/up/../x", "deep/out/../../x"],
)
async def test_a_link_that_leads_out_is_named_and_refused(site: Site, target: str) -> None:
    site.write("a")
    (site.source / "deep").mkdir()
    (site.source / "deep/out").symlink_to(".")
    (site.source / "over").symlink_to("deep")
    (site.source / "up").symlink_to(".")
    (site.source / "link").symlink_to(target)
    with pytest.raises(ConfigError, match=rf"the link {site.source}/link leads out of the directory") as caught:
        await site.pack()
    assert 'exclude = ["link"]' in caught.value.hint
    assert "link" not in await site.paths(".", exclude=("link",))


async def test_a_link_is_followed_through_other_links_as_it_will_be_in_the_copy(site: Site) -> None:
    site.write("v2/deep/file", "x")
    (site.source / "current").symlink_to("v2")
    (site.source / "v2/up").symlink_to("..")
    (site.source / "link").symlink_to("current/deep/../up/current/deep/file")
    directory = Path(await site.bundles.lay_out(await site.pack(), "web", 1))
    assert (directory / "link").read_text() == "x"
    assert (directory / "link").resolve().is_relative_to(directory)


async def test_a_link_to_what_is_not_part_of_the_release_is_refused_and_one_that_leads_nowhere_is_kept(
    site: Site,
) -> None:
    site.write("data/file")
    site.write("app/a")
    (site.source / "app/data").symlink_to("../data/file")
    with pytest.raises(ConfigError, match="app/data leads to data, which is not part of the release") as caught:
        await site.pack("app")
    assert 'files = [..., "data"]' in caught.value.hint
    (site.source / "app/data").unlink()
    for name, target in {"gone": "nowhere/at/all", "circle": "circle/x", "one": "two", "two": "one"}.items():
        (site.source / "app" / name).symlink_to(target)
    assert "app/gone" in await site.paths("app")


async def test_what_is_no_file_is_refused_by_its_name_unless_it_is_excluded(site: Site) -> None:
    site.write("a")
    os.mkfifo(site.source / "pipe")
    with pytest.raises(ConfigError, match="pipe is a socket, a fifo or a device") as caught:
        await site.pack()
    assert 'exclude = ["pipe"]' in caught.value.hint
    assert await site.paths(".", exclude=("pipe",)) == ["a"]
    assert await site.paths("a") == ["a"]
    (site.source / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(site.source / "s"))
        with pytest.raises(ConfigError, match="/s is a socket"):
            await site.pack()
