"""Snapshots that leave their store: in a file, or by copying the files that another store lacks."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vaults
from perdure.adapters.state import packs
from perdure.adapters.state.vault import Vault
from perdure.model.errors import ConflictError, RefusedError
from vaults import draft, noise, restored, take, with_changes

DATA = noise(1, 80 * 256)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with vaults.small_packs():
        yield Vault(tmp_path / "store")


def kept(vault: Vault) -> list[str]:
    return [one.manifest.id for one in vault.kept()]


def test_a_snapshot_travels_in_a_file_and_gets_a_new_id(vault: Vault, tmp_path: Path) -> None:
    files = {"a": DATA, "b/c": b"x" * 1000, "empty": b""}
    take(vault, {"other": noise(8, 5000)})
    manifest = take(vault, files, draft(epoch=6, data_epoch=3, taken_at=77.0))
    file = tmp_path / "export"
    vault.transfer_out(manifest.id, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size < 60_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "store"]
    elsewhere = Vault(tmp_path / "elsewhere")
    took = take(elsewhere, {"": b"own"})
    arrived = elsewhere.transfer_in(file)
    assert arrived.id == "s-0002"
    assert arrived == replace(manifest, id="s-0002", parent=None, stored_bytes=arrived.stored_bytes)
    assert restored(elsewhere.open(arrived.id)) == files
    # Its epochs are those of another place: they refuse nothing here, and refuse it not.
    take(elsewhere, {"": b"own"}, draft(epoch=took.epoch))
    elsewhere.seen(100, 100)
    assert elsewhere.transfer_in(file).stored_bytes == 0
    assert vault.transfer_in(file).id == "s-0003"


def test_an_export_holds_nothing_of_other_snapshots(vault: Vault, tmp_path: Path) -> None:
    secret = b"what was removed since then".ljust(256)
    take(vault, {"": secret + DATA})
    manifest = take(vault, {"": DATA})
    vault.transfer_out(manifest.id, tmp_path / "export")
    subprocess.run(["tar", "xf", "export"], cwd=tmp_path, check=True)
    unpacked = [packs.scan(path, vault._seal, path.stem) for path in (tmp_path / "packs").glob("*.pack")]
    held = {address for one in unpacked for number in range(len(one.blocks)) for address in one.digests_of(number)}
    assert vault._seal.address(secret) not in held
    assert vault._seal.address(DATA[:256]) in held


def test_an_unpacked_export_is_a_store(vault: Vault, tmp_path: Path) -> None:
    manifest = take(vault, {"": DATA})
    vault.transfer_out(manifest.id, tmp_path / "export")
    subprocess.run(["tar", "xf", "export"], cwd=tmp_path, check=True)
    assert restored(Vault(tmp_path).open(manifest.id)) == {"": DATA}


def copied(source: Vault, target: Vault) -> int:
    """Ship what the target lacks; how many files that were."""
    files = source.lacking(target)
    for name in files:
        aside = target.directory / f"{name}.tmp"
        aside.write_bytes((source.directory / name).read_bytes())
        aside.rename(target.directory / name)
    return len(files)


def test_a_store_is_shipped_by_copying_the_files_that_the_other_one_lacks(vault: Vault, tmp_path: Path) -> None:
    other = Vault(tmp_path / "other")
    first = take(vault, {"": DATA}, draft(epoch=4))
    assert copied(vault, other) > 4
    second = take(vault, {"": with_changes(DATA, 300)}, draft(epoch=5))
    assert copied(vault, other) == 4
    assert copied(vault, other) == 0
    assert kept(other) == [first.id, second.id]
    for id_ in kept(other):
        assert restored(other.open(id_)) == restored(vault.open(id_))
    with pytest.raises(RefusedError, match="epoch 5 was seen"):
        other.begin(draft(epoch=4))
    assert take(other, {"": DATA}, draft(epoch=6)).id == "s-0003"
    other.verify(first.id)
    take(vault, {"": b"x"}, draft(epoch=5))
    with pytest.raises(ConflictError, match="both have a snapshot s-0003"):
        vault.lacking(other)
