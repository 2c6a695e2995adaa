"""Every file of a snapshot store truncated, flipped or removed: it is named, and never a wrong byte is given."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vaults
from perdure.adapters.state.vault import Vault
from perdure.model.errors import CorruptionError, PerdureError
from vaults import KEY, noise, restored, take, with_changes

DATA = noise(1, 40 * 256)
FILES = [
    {"a": DATA, "b": b"text " * 400, "c": b""},
    {"a": with_changes(DATA, 300, 3000), "b": b"text " * 400},
    {"a": with_changes(DATA, 300, 3000), "d": noise(2, 3000)},
]

Damage = Callable[[Path], None]


def removed(path: Path) -> None:
    path.unlink()


def cut_to(part: float) -> Damage:
    """Leave so much of it."""

    def cut(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    return cut


def last_byte_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(part: float, bit: int) -> Damage:
    """Flip one bit of the byte at this part of the file; 1 is the last byte."""

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(len(data) - 1, int(len(data) * part))] ^= 1 << bit
        path.write_bytes(data)

    return flip


DAMAGES: dict[str, Damage] = {
    "removed": removed,
    "emptied": cut_to(0.0),
    "halved": cut_to(0.5),
    "last byte cut": last_byte_cut,
    **{f"bit {bit} at {part}": flipped(part, bit) for bit, part in enumerate((0.0, 0.003, 0.02, 0.3, 0.6, 0.9, 1.0))},
}
HEALED = ("removed", "halved", "bit 0 at 0.0", "bit 3 at 0.3")


@pytest.fixture(scope="module", params=[None, KEY], ids=["plain", "encrypted"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    """A store with three snapshots that share most of their chunks."""
    directory = tmp_path_factory.mktemp("whole") / "store"
    with vaults.small_packs():
        vault = Vault(directory, request.param)
        for files in FILES:
            take(vault, files)
        vault.mark("good", "s-0001")
        for number in range(3):
            vault.verify(f"s-000{number + 1}")
        yield directory, request.param


def names(directory: Path) -> list[str]:
    return list(vaults.state_of(directory))


def outcome(vault: Vault, snapshot: str) -> dict[str, bytes] | PerdureError:
    """All files of a snapshot, or why not."""
    try:
        return restored(vault.open(snapshot))
    except PerdureError as error:
        return error


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_to_any_file_is_named_gives_no_wrong_byte_and_is_healed_by_the_next_snapshots(
    whole: tuple[Path, bytes | None], tmp_path: Path, damage: str
) -> None:
    directory, key = whole
    assert len(names(directory)) > 14
    for name in names(directory):
        store = tmp_path / "store"
        shutil.copytree(directory, store)
        DAMAGES[damage](store / name)
        vault = Vault(store, key)
        judge(vault, name, damage)
        if damage in HEALED:
            heal(vault)
        shutil.rmtree(store)


def judge(vault: Vault, name: str, damage: str) -> None:
    """Whoever needs the file is told so by its name; everybody else gets what was taken."""
    assert [one.manifest.id for one in vault.kept()] == ["s-0001", "s-0002", "s-0003"], (name, damage)
    told = 0
    for number, files in enumerate(FILES):
        snapshot = f"s-000{number + 1}"
        found = outcome(vault, snapshot)
        if isinstance(found, PerdureError):
            assert isinstance(found, CorruptionError), (name, damage, found)
            assert name in found.sentence, (name, damage, found)
            assert found.hint
            assert not name.startswith("ledger") and not name.endswith(".index"), "these two are there twice"
            told += 1
        else:
            assert found == files, (name, damage)
    # One of the three at least needs it; what is there twice is enough to have all of them.
    assert bool(told) == (name.startswith(("snapshots/", "contents/")) or name.endswith(".pack")), (name, damage)
    verified = 0
    for number in range(3):
        try:
            vault.verify(f"s-000{number + 1}")
        except CorruptionError as error:
            assert name in error.sentence, (name, damage, error)
            assert error.hint
            verified += 1
    assert verified >= max(1, told), (name, damage)


def heal(vault: Vault) -> None:
    """The state is still there, and snapshots of it rely on nothing that is damaged."""
    for files in FILES:
        manifest = take(vault, files)
        vault.verify(manifest.id)
        assert restored(vault.open(manifest.id)) == files
    for number, files in enumerate(FILES):
        found = outcome(vault, f"s-000{number + 1}")
        # The manifest itself is the only thing that is not made again.
        assert found == files or (isinstance(found, PerdureError) and "snapshots/s-" in found.sentence)
    vault.mark("good", "s-0004")
    vault.remove(["s-0001", "s-0002", "s-0003"])
    for number, files in enumerate(FILES):
        vault.verify(f"s-000{number + 4}")
        assert restored(vault.open(f"s-000{number + 4}")) == files


def test_damage_that_comes_after_a_snapshot_was_opened_gives_no_wrong_byte_either(
    whole: tuple[Path, bytes | None], tmp_path: Path
) -> None:
    directory, key = whole
    for damage in DAMAGES.values():
        store = tmp_path / "store"
        shutil.copytree(directory, store)
        vault = Vault(store, key)
        content, before = vault.open("s-0003"), vault.open("s-0001")
        for path in (store / "packs").glob("*.pack"):
            damage(path)
        with pytest.raises(CorruptionError, match=r"\.pack is (damaged|missing)"):
            restored(content)
        try:
            changes = list(content.changed("a", before))
        except CorruptionError:
            changes = []
        image = bytearray(DATA)
        for offset, data in changes:
            image[offset : offset + len(data)] = data
        assert not changes or bytes(image) == FILES[2]["a"]
        shutil.rmtree(store)


def test_a_pack_that_is_written_anew_is_relied_on_again(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    take(vault, {"": DATA})
    flipped(0.5, 1)(min((tmp_path / "packs").glob("*.pack")))
    with pytest.raises(CorruptionError):
        restored(vault.open("s-0001"))
    assert take(vault, {"": DATA}).stored_bytes > 0
    assert take(vault, {"": DATA}).stored_bytes == 0
    assert restored(vault.open("s-0001")) == {"": DATA}


def test_while_a_list_is_damaged_no_pack_is_deleted(whole: tuple[Path, bytes | None], tmp_path: Path) -> None:
    directory, key = whole
    store = tmp_path / "store"
    shutil.copytree(directory, store)
    vault = Vault(store, key)
    path = store / "contents" / f"{vault.kept()[0].manifest.digest}.list"
    data = path.read_bytes()
    removed(path)
    packs = sorted((store / "packs").iterdir())
    vault.remove(["s-0002", "s-0003"])
    assert sorted((store / "packs").iterdir()) == packs
    path.write_bytes(data)
    assert restored(vault.open("s-0001")) == FILES[0]
    with vault.begin(vaults.draft()):
        pass
    vault.remove([])
    assert len(sorted((store / "packs").iterdir())) < len(packs)
    vault.verify("s-0001")


def test_both_copies_of_the_ledger_damaged_stop_what_depends_on_them_but_no_restore_is_lost(
    whole: tuple[Path, bytes | None], tmp_path: Path
) -> None:
    directory, key = whole
    store = tmp_path / "store"
    shutil.copytree(directory, store)
    for name in ("ledger.a", "ledger.b"):
        flipped(0.001, 3)(store / name)
    vault = Vault(store, key)
    for work in (vault.kept, lambda: vault.open("s-0001"), lambda: vault.begin(vaults.draft())):
        with pytest.raises(CorruptionError, match=r"ledger\.a is damaged: .* so is ledger\.b") as caught:
            work()
        assert "remove both" in caught.value.hint
    for name in ("ledger.a", "ledger.b"):
        removed(store / name)
    for number, files in enumerate(FILES):
        assert restored(vault.open(f"s-000{number + 1}")) == files
    assert [one.marks for one in vault.kept()] == [(), (), ()]
    assert take(vault, FILES[0]).id == "s-0004"
    for number in range(4):
        vault.verify(f"s-000{number + 1}")


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_export_is_refused_and_nothing_of_it_is_read_in(
    whole: tuple[Path, bytes | None], tmp_path: Path, damage: str
) -> None:
    directory, key = whole
    file = tmp_path / "export"
    Vault(directory, key).transfer_out("s-0002", file)
    target = Vault(tmp_path / "target", key)
    before = vaults.state_of(target.directory)
    DAMAGES[damage](file)
    if damage == "removed":
        with pytest.raises(PerdureError, match="No such file"):
            target.transfer_in(file)
    else:
        with pytest.raises(CorruptionError, match="export is damaged: it is not a whole export"):
            target.transfer_in(file)
    assert vaults.state_of(target.directory) == before
