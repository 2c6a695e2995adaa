"""What no release needs any more is removed, and nothing else; one call at a time changes something."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from bundles import SOMEBODY, Site, done_by, open_to_all
from perdure.adapters.bundle import packing, rooms
from perdure.adapters.bundle.files import UNCLAIMED_S, BundleFiles
from perdure.adapters.bundle.laying import Order
from perdure.model.deploy import Files
from perdure.model.errors import CorruptionError, UnavailableError


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_only_what_no_release_of_any_service_needs_is_removed(site: Site) -> None:
    digests = {}
    for number in (1, 2, 3):
        site.write("own", f"own {number}")
        site.write("shared", "shared")
        digests[number] = await site.pack()
        await site.bundles.lay_out(digests[number], "web", number)
    await site.bundles.lay_out(digests[1], "api", 1)
    list_bytes = (site.root / ".manifests" / digests[2]).stat().st_size
    assert await site.bundles.retain("web", [3]) == len("own 2") + list_bytes
    assert site.kept("web") == {"3"}
    assert site.kept(".manifests") == {digests[1], digests[3]}
    assert await site.bundles.content(digests[1], "own") == b"own 1"
    assert (site.root / "api/1/own").read_text() == "own 1"
    assert await site.bundles.retain("api", []) > 0
    assert not (site.root / "api").exists()
    with pytest.raises(CorruptionError, match=f"{digests[1]} is missing"):
        await site.bundles.listing(digests[1])
    assert await site.bundles.retain("web", [3]) == 0
    assert site.kept(".laid") == {"web@3"}


async def test_what_was_packed_and_not_laid_out_yet_is_not_removed_for_an_hour(site: Site) -> None:
    site.write("a", "x")
    digest = await site.pack()
    site.now = UNCLAIMED_S - 1
    assert await site.bundles.retain("api", []) == 0
    assert await site.bundles.content(digest, "a") == b"x"
    site.now = UNCLAIMED_S + 1
    assert await site.bundles.retain("api", []) > 0
    assert site.kept(".objects") == site.kept(".manifests") == set()
    await site.pack()
    assert await BundleFiles(site.root).retain("api", []) > 0


async def test_a_directory_that_a_program_has_locked_up_is_removed_all_the_same() -> None:
    with open_to_all() as passable:
        site = Site(passable)
        site.write("a/b", "x")
        site.home.chmod(0o777)

        def work() -> None:
            digest = site.bundles._pack(Files(str(site.source), (".",)))
            directory = Path(site.bundles._lay_out(Order(digest, "web", 1)))
            (directory / "a").chmod(0o500)
            directory.chmod(0o000)
            site.bundles._retain("web", [])

        assert done_by(SOMEBODY, work) == ""
        assert not (site.root / "web").exists()
        assert site.kept(".incoming") == set()


async def test_a_damaged_list_is_named_nothing_is_removed_for_it_and_the_next_pack_replaces_it(site: Site) -> None:
    site.write("a", "x")
    digest = await site.pack()
    await site.bundles.lay_out(digest, "web", 1)
    site.write("b", "y")
    await site.bundles.lay_out(await site.pack(), "web", 2)
    path = site.root / ".manifests" / digest
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    before = site.kept(".objects")
    for call in (site.bundles.listing(digest), site.bundles.retain("web", [1])):
        with pytest.raises(CorruptionError, match=f"{path} is damaged"):
            await call
    assert site.kept(".objects") == before
    assert not (site.root / "web/2").exists()
    (site.source / "b").unlink()
    assert await site.pack() == digest
    assert await site.bundles.retain("web", [1]) > 0


async def test_leftovers_are_removed_by_the_next_call_and_what_cannot_be_removed_stops_no_deploy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("a", "x")
    digest = await site.pack()
    for call in (
        lambda: site.pack(),
        lambda: site.bundles.lay_out(digest, "web", 1),
        lambda: site.bundles.retain("x", []),
    ):
        (site.root / ".incoming/old/deep").mkdir(parents=True)
        await call()
        assert site.kept(".incoming") == set()
    (site.root / ".incoming/old").mkdir()
    real = rooms.remove_tree

    def stubborn(directory: Path) -> None:
        if directory.name == "old":
            raise OSError(16, "Device or resource busy", os.fspath(directory))
        real(directory)

    monkeypatch.setattr(rooms, "remove_tree", stubborn)
    assert await site.pack() == digest
    with pytest.raises(UnavailableError, match=r"cannot use .*/old: Device or resource busy"):
        await site.bundles.retain("web", [1])


async def test_calls_do_not_hold_up_the_loop_and_change_something_one_at_a_time_even_after_a_cancellation(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("a", "x")
    digest = await site.pack()
    began, goes_on = threading.Event(), threading.Event()
    real = packing.pack
    order: list[str] = []

    def slow(*arguments: Any) -> str:
        began.set()
        assert goes_on.wait(10)
        order.append("packed")
        return real(*arguments)

    monkeypatch.setattr(packing, "pack", slow)
    packing_task = asyncio.create_task(site.pack())
    await asyncio.to_thread(began.wait)
    packing_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await packing_task
    laying_task = asyncio.create_task(site.bundles.lay_out(digest, "web", 1))
    laying_task.add_done_callback(lambda _: order.append("laid out"))
    # Reading needs no turn.
    assert await site.bundles.content(digest, "a") == b"x"
    assert not (site.root / "web").exists()
    goes_on.set()
    await laying_task
    await asyncio.sleep(0)
    assert order == ["packed", "laid out"]
