"""The page about the snapshot store says how to restore by hand; the program on it is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vaults
from perdure.adapters.state.vault import Entry, EntryKind, Vault
from vaults import KEY, noise, take

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "snapshots.md"
FILES = {"a": noise(1, 40_000), "dir/b": b"text " * 5000, "empty": b""}


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_snapshot_can_be_restored_without_perdure_by_the_program_on_the_page(
    tmp_path: Path, key: bytes | None
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with vaults.small_packs():
        vault = Vault(tmp_path / "store", key)
        take(vault, {"a": noise(2, 3000), **FILES})
        with vault.begin(vaults.draft()) as intake:
            intake.entry(Entry("dir", EntryKind.DIRECTORY, 0o700, 0, 0, 0, 0), None)
            for path, data in FILES.items():
                intake.entry(vaults.entry(path), [data])
            intake.entry(Entry("dir/link", EntryKind.SYMLINK, 0o777, 0, 0, 0, 0, "b"), None)
            manifest = intake.commit(0.0)
    command = [sys.executable, "-I", "-c", program, str(vault.directory), manifest.id, str(tmp_path / "target")]
    subprocess.run([*command, *([key.hex()] if key else [])], check=True, timeout=60)
    made = {path: (tmp_path / "target" / path).read_bytes() for path in FILES}
    assert made == FILES
    assert (tmp_path / "target" / "dir" / "link").read_bytes() == FILES["dir/b"]
    assert (tmp_path / "target" / "a").stat().st_mode & 0o777 == 0o640


def test_the_page_names_the_sizes_that_the_source_has() -> None:
    from perdure.adapters.state import intake, packs, seal, sweep

    assert (intake.CHUNK_BYTES, packs.BLOCK_BYTES, packs.PACK_BYTES) == (4096, 256 * 1024, 8 * 1024 * 1024)
    assert (seal.HEADER_BYTES, sweep.SMALL_MAX, sweep.THIN) == (48, 32, 1 / 3)
