"""The writer of a snapshot store is killed between any two calls to the system, or in the middle of a write: what was
there is there, what was begun is there as a whole or not at all, and the next writer goes on.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vaults
from perdure.adapters.state import shelf
from perdure.adapters.state.seal import Seal
from perdure.adapters.state.vault import Vault
from perdure.model.errors import ConflictError
from perdure.model.snapshot import Pin
from vaults import draft, noise, restored, take, with_changes

CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "unlink", "replace", "rename", "mkdir", "close")
DONE = 3
DATA = noise(1, 40 * 256)
FIRST = {"a": DATA, "b": b"text " * 400}
SECOND = {"a": with_changes(DATA, 300, 3000), "c": noise(2, 3000)}
THIRD = {"a": with_changes(DATA, 900), "d": noise(3, 5000)}

Work = Callable[[Vault], object]


@pytest.fixture(scope="module", autouse=True)
def with_small_packs() -> Any:
    with vaults.small_packs():
        yield


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two snapshots, and an export of a third."""
    directory = tmp_path_factory.mktemp("before") / "store"
    vault = Vault(directory)
    take(vault, FIRST)
    take(vault, SECOND)
    elsewhere = Vault(directory.with_name("elsewhere"))
    take(elsewhere, THIRD)
    elsewhere.transfer_out("s-0001", directory.with_name("export"))
    return directory


def killed_at(store: Path, work: Work, last: int) -> bool:
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
                            call(arguments[0], data[: min(100, len(data) // 2)], *arguments[2:])
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*arguments, **named)

                return dying

            vault = Vault(store)
            for name in CALLS:
                setattr(os, name, counted(name, getattr(os, name)))
            work(vault)
            status = DONE
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    assert ended == signal.SIGKILL or os.waitstatus_to_exitcode(ended) == DONE, ended
    return ended != signal.SIGKILL


def at_every_call(before: Path, tmp_path: Path, work: Work, judge: Callable[[Vault], None]) -> int:
    """Kill the work at every one of its calls in turn, and judge what is left; how many there are."""
    for last in range(10_000):
        store = tmp_path / "store"
        shutil.copytree(before, store)
        done = killed_at(store, work, last)
        judge(Vault(store))
        goes_on(Vault(store))
        shutil.rmtree(store)
        if done:
            return last
    raise AssertionError("it never ends")


def goes_on(vault: Vault) -> None:
    """The next snapshot is taken, nothing half is left of what was begun, and everything is as it should be."""
    files = {"a": with_changes(DATA, 5000), "d": noise(4, 5000)}
    manifest = take(vault, files)
    assert restored(vault.open(manifest.id)) == files
    assert list((vault.directory / "incoming").iterdir()) == []
    for one in vault.kept():
        vault.verify(one.manifest.id)
    numbers = [one.manifest.id for one in vault.kept()]
    assert len(set(numbers)) == len(numbers)
    needed = {
        address
        for one in vault.kept()
        for listed in vault.open(one.manifest.id)._listed.values()
        for address in listed.addresses()
    }
    for one in shelf.load(vault.directory / "packs", Seal()).packs:
        assert any(needed.intersection(one.pack.index.digests_of(n)) for n in range(len(one.pack.index.blocks)))
    digests = {one.manifest.digest for one in vault.kept()}
    assert {path.stem for path in (vault.directory / "contents").iterdir()} >= digests


def contents(vault: Vault) -> list[dict[str, bytes]]:
    return [restored(vault.open(one.manifest.id)) for one in vault.kept()]


def test_a_snapshot_is_there_as_a_whole_or_not_at_all(before: Path, tmp_path: Path) -> None:
    seen = []

    def judge(vault: Vault) -> None:
        found = contents(vault)
        assert found in ([FIRST, SECOND], [FIRST, SECOND, THIRD])
        seen.append(len(found))

    calls = at_every_call(before, tmp_path, lambda vault: take(vault, THIRD), judge)
    assert calls > 60
    assert seen == sorted(seen)
    # It counts from one call on, and there are some calls after that.
    assert 3 < seen.count(3) < 20


def test_a_first_snapshot_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    def judge(vault: Vault) -> None:
        assert contents(vault) in ([], [FIRST])

    at_every_call(tmp_path / "empty", tmp_path, lambda vault: take(vault, FIRST), judge)


def test_what_is_read_in_is_there_as_a_whole_or_not_at_all(before: Path, tmp_path: Path) -> None:
    def judge(vault: Vault) -> None:
        assert contents(vault) in ([FIRST, SECOND], [FIRST, SECOND, THIRD])

    at_every_call(before, tmp_path, lambda vault: vault.transfer_in(before.with_name("export")), judge)


def test_a_removal_that_is_killed_takes_nothing_from_other_snapshots(before: Path, tmp_path: Path) -> None:
    def judge(vault: Vault) -> None:
        assert SECOND in contents(vault)
        vault.remove(["s-0001"])
        vault.verify("s-0002")
        assert contents(vault) == [SECOND]

    assert at_every_call(before, tmp_path, lambda vault: vault.remove(["s-0001"]), judge) > 20


@pytest.mark.parametrize("spoiled", [None, "ledger.a", "ledger.b"])
def test_what_was_noted_is_noted_or_not_and_nothing_else_is_forgotten(
    before: Path, tmp_path: Path, spoiled: str | None
) -> None:
    """Also when one copy of the ledger was spoiled before."""
    store = tmp_path / "noted"
    shutil.copytree(before, store)
    Vault(store).mark("good", "s-0001")
    if spoiled is not None:
        (store / spoiled).write_bytes(with_changes((store / spoiled).read_bytes(), 100))
    seen = []

    def judge(vault: Vault) -> None:
        first, second = vault.kept()
        assert first.marks == ("good",)
        assert second.pin in (None, Pin(None, "why"))
        seen.append(second.pin is not None)

    at_every_call(store, tmp_path, lambda vault: vault.note("s-0002", Pin(None, "why"), None), judge)
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


def test_the_lock_of_a_killed_writer_keeps_nobody_out(before: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(before, store)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        intake = Vault(store).begin(draft())
        assert intake
        os.write(theirs, b"x")
        signal.pause()
    os.read(ours, 1)
    vault = Vault(store)
    try:
        with pytest.raises(ConflictError, match=f"process {pid} is writing"):
            vault.begin(draft())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(ours)
    os.close(theirs)
    assert take(vault, THIRD).id == "s-0003"


def test_everything_is_flushed_before_the_name_that_makes_it_count(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut may take back is told by the order of the calls alone."""
    store = tmp_path / "store"
    shutil.copytree(before, store)
    vault = Vault(store)
    dirty: set[str] = set()
    real_fsync, real_write, real_replace = os.fsync, os.write, os.replace
    renamed: list[str] = []

    def of(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def write(descriptor: int, data: Any) -> int:
        dirty.add(of(descriptor))
        return real_write(descriptor, data)

    def fsync(descriptor: int) -> None:
        dirty.discard(of(descriptor))
        real_fsync(descriptor)

    def replace(source: Any, target: Any) -> None:
        assert str(source) not in dirty, f"{source} is renamed before it was flushed"
        if Path(target).parent.name == "snapshots":
            left = {name for name in dirty if "/incoming" not in name}
            assert not left, f"the manifest counts before {left} was flushed"
        dirty.add(str(Path(target).parent))
        renamed.append(Path(target).parent.name)
        real_replace(source, target)

    for name, call in (("write", write), ("fsync", fsync), ("replace", replace)):
        monkeypatch.setattr(os, name, call)
    take(vault, THIRD)
    assert {name for name in dirty if "/incoming" not in name} == set()
    assert renamed[-1] == "snapshots"
    assert renamed.count("packs") > 3
