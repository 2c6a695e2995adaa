"""What the snapshot store keeps, hands out, refuses and forgets."""

import contextlib
import io
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vaults
from perdure.adapters.state import intake as intake_module
from perdure.adapters.state import ledger
from perdure.adapters.state.vault import Draft, Entry, EntryKind, Vault
from perdure.model.errors import ConflictError, CorruptionError, RefusedError, UnavailableError
from perdure.model.snapshot import Pin, Proof, StateKind
from vaults import draft, entry, noise, restored, take, with_changes

DATA = noise(1, 80 * 256)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with vaults.small_packs():
        yield Vault(tmp_path / "store")


def kept(vault: Vault) -> list[str]:
    return [one.manifest.id for one in vault.kept()]


def stored(vault: Vault) -> int:
    return sum(path.stat().st_size for path in (vault.directory / "packs").iterdir())


def test_a_snapshot_is_given_back_as_it_was_taken(vault: Vault) -> None:
    files = {"a": DATA, "dir/b": b"", "dir/c": b"x", "d": bytes(10_000), "e": DATA[:256], "f": DATA[256:] + b"tail"}
    manifest = take(vault, files, draft(epoch=7, data_epoch=2, taken_at=1234.5))
    assert manifest.id == "s-0001"
    assert manifest.parent is None
    assert (manifest.epoch, manifest.data_epoch, manifest.taken_at, manifest.took_s) == (7, 2, 1234.5, 0.25)
    assert manifest.size_bytes == sum(map(len, files.values()))
    content = vault.open(manifest.id)
    assert content.manifest == manifest
    assert restored(content) == files
    vault.verify(manifest.id)
    assert take(vault, files, draft(epoch=7, data_epoch=2)).parent == manifest.id


def test_entries_keep_all_that_it_takes_to_make_them_again(vault: Vault) -> None:
    entries = [
        Entry("d", EntryKind.DIRECTORY, 0o755, 1, 2, 3, 0),
        Entry("d/l", EntryKind.SYMLINK, 0o777, 1, 2, -4, 0, "../elsewhere"),
        Entry("d/\udcff\u00e9 \n", EntryKind.FILE, 0o4711, 2**31, 0, 2**62, 3),
    ]
    with vault.begin(draft()) as intake:
        for one in entries:
            intake.entry(one, [b"a", b"bc"] if one.kind is EntryKind.FILE else None)
        manifest = intake.commit(0.0)
    content = vault.open(manifest.id)
    assert content.entries == entries
    assert list(content.read(entries[2].path)) == [b"abc"]


def test_the_size_that_counts_is_that_of_what_was_read(vault: Vault) -> None:
    with vault.begin(draft()) as intake:
        intake.entry(entry("", size=5), io.BytesIO(DATA))
        manifest = intake.commit(0.0)
    assert vault.open(manifest.id).entries[0].size == len(DATA) == manifest.size_bytes


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3_000_000])
@pytest.mark.parametrize("piece", [1000, 256, 2**21])
def test_pieces_of_any_size_are_cut_into_the_same_chunks(size: int, piece: int) -> None:
    data = noise(size, size)
    pieces = [data[begin : begin + piece] for begin in range(0, size, piece)]
    batch = 1024 * 1024
    expected = [data[begin : begin + batch] for begin in range(0, size, batch)]
    assert list(intake_module.batches(pieces, batch)) == expected
    assert list(intake_module.batches(io.BytesIO(data), batch)) == expected


def test_a_pipe_that_gives_a_little_at_a_time_is_read_to_its_end(vault: Vault) -> None:
    command = [sys.executable, "-c", "import os\nfor n in range(50): os.write(1, bytes([n]) * 700)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as child, vault.begin(draft()) as intake:
        assert child.stdout is not None
        intake.entry(entry(), child.stdout)
        manifest = intake.commit(0.0)
    assert b"".join(vault.open(manifest.id).read("")) == b"".join(bytes([n]) * 700 for n in range(50))


def test_what_is_known_costs_nothing(vault: Vault) -> None:
    first = take(vault, {"": DATA})
    before = stored(vault)
    assert before > len(DATA)
    again = take(vault, {"": DATA})
    assert stored(vault) == before
    assert again.stored_bytes == 0
    assert again.digest == first.digest
    assert len(list((vault.directory / "contents").iterdir())) == 1
    moved = take(vault, {"": DATA[256:] + DATA[:256], "more": DATA * 2})
    assert moved.digest != first.digest
    assert stored(vault) - before == 0
    zeros = take(vault, {"": bytes(5_000_000)})
    assert stored(vault) - before < 2000
    assert restored(vault.open(zeros.id)) == {"": bytes(5_000_000)}


def test_a_changed_byte_costs_its_chunk(vault: Vault) -> None:
    take(vault, {"": DATA})
    before = stored(vault)
    changed = with_changes(DATA, 5000)
    manifest = take(vault, {"": changed})
    assert 256 < stored(vault) - before < 900
    assert restored(vault.open(manifest.id)) == {"": changed}


def test_what_changed_since_another_snapshot_is_told_by_offset_and_bytes(vault: Vault) -> None:
    old = vault.open(take(vault, {"f": DATA, "gone": b"1"}).id)
    now = with_changes(DATA, 0, 300, 5000)[:10_001]
    new = vault.open(take(vault, {"f": now, "g": b"new"}).id)
    changes = list(new.changed("f", old))
    assert [(offset, len(data)) for offset, data in changes] == [(0, 512), (4864, 256), (9984, 17)]
    image = bytearray(DATA[: len(now)])
    for offset, data in changes:
        image[offset : offset + len(data)] = data
    assert bytes(image) == now
    assert list(new.changed("f", new)) == []
    assert list(new.changed("g", old)) == [(0, b"new")]
    longer = vault.open(take(vault, {"f": DATA + b"tail"}).id)
    assert b"".join(data for _, data in longer.changed("f", old)) == b"tail"


def test_all_of_a_file_is_changed_when_it_was_cut_differently(vault: Vault) -> None:
    old = vault.open(take(vault, {"": DATA}).id)
    with vault.begin(draft()) as intake:
        intake.entry(entry(), [DATA], 512)
        new = vault.open(intake.commit(0.0).id)
    assert b"".join(data for _, data in new.changed("", old)) == DATA


def test_pieces_are_large_whatever_the_chunks(vault: Vault) -> None:
    data = noise(3, 300) * 10_000
    content = vault.open(take(vault, {"": data}).id)
    assert [len(piece) for piece in content.read("")] == [1024 * 1024, 1024 * 1024, len(data) - 2 * 1024 * 1024]


def test_an_intake_that_is_left_without_commit_leaves_nothing(vault: Vault) -> None:
    take(vault, {"": DATA})
    before = vaults.state_of(vault.directory)
    with pytest.raises(ZeroDivisionError), vault.begin(draft()) as intake:
        intake.entry(entry(), [noise(2, 50_000)])
        raise ZeroDivisionError
    assert vaults.state_of(vault.directory) == before
    with vault.begin(draft()) as intake:
        intake.entry(entry(), [noise(2, 50_000)])
    assert vaults.state_of(vault.directory) == before


def test_a_snapshot_of_an_older_epoch_is_refused(vault: Vault) -> None:
    take(vault, {"": DATA}, draft(epoch=5, data_epoch=2))
    before = vaults.state_of(vault.directory)
    with pytest.raises(RefusedError, match="epoch 4 is refused: epoch 5 was seen"):
        vault.begin(draft(epoch=4, data_epoch=2))
    with pytest.raises(RefusedError, match="data epoch 1 is refused: data epoch 2 was seen"):
        vault.begin(draft(epoch=6, data_epoch=1))
    assert vaults.state_of(vault.directory)["ledger.a"] != before["ledger.a"]  # epoch 6 counts as seen
    with pytest.raises(RefusedError, match="epoch 5 is refused"):
        vault.begin(draft(epoch=5, data_epoch=2))
    take(vault, {"": DATA}, draft(epoch=6, data_epoch=2))


def test_a_snapshot_that_was_begun_before_somebody_took_over_is_refused(vault: Vault) -> None:
    before = take(vault, {"": DATA})
    with vault.begin(draft(epoch=1)) as intake:
        intake.entry(entry(), [noise(2, 5000)])
        Vault(vault.directory).seen(2, 1)
        with pytest.raises(RefusedError, match="epoch 2 was seen"):
            intake.commit(0.0)
    assert kept(vault) == [before.id]
    take(vault, {"": DATA}, draft(epoch=2))


def test_the_bar_outlives_the_snapshots_and_the_process(vault: Vault) -> None:
    vault.seen(9, 3)
    vault.seen(4, 4)
    with pytest.raises(RefusedError, match="epoch 9 was seen"):
        Vault(vault.directory).begin(draft(epoch=8, data_epoch=4))
    with pytest.raises(RefusedError, match="data epoch 4 was seen"):
        Vault(vault.directory).begin(draft(epoch=9, data_epoch=3))
    assert kept(vault) == []


def test_two_do_not_write_at_once_but_others_read_and_note_meanwhile(vault: Vault) -> None:
    manifest = take(vault, {"": DATA})
    other = Vault(vault.directory)
    with vault.begin(draft()) as intake:
        intake.entry(entry(), [noise(2, 5000)])
        for work in (lambda: other.begin(draft()), lambda: other.remove([manifest.id])):
            with pytest.raises(ConflictError, match=f"process {os.getpid()} is writing to the snapshot store"):
                work()
        assert restored(other.open(manifest.id)) == {"": DATA}
        other.mark("good", manifest.id)
        other.verify(manifest.id)
        intake.commit(0.0)
    assert vault.kept()[0].marks == ("good",)
    other.begin(draft()).__exit__(None, None, None)


def test_what_is_learned_of_a_snapshot_is_kept(vault: Vault) -> None:
    ids = [take(vault, {"": DATA}, draft(taken_at=at)).id for at in (10.0, 30.0, 20.0)]
    pin, proof = Pin(None, "before the migration"), Proof(50.0, 1.5, "")
    vault.note(ids[0], pin, None)
    vault.note(ids[0], None, proof)
    vault.mark("good", ids[0])
    vault.mark("good", ids[1])
    vault.mark("also", ids[1])
    found = {one.manifest.id: one for one in Vault(vault.directory).kept()}
    assert list(found) == [ids[0], ids[2], ids[1]]
    assert (found[ids[0]].pin, found[ids[0]].proof, found[ids[0]].marks) == (pin, proof, ())
    assert found[ids[1]].marks == ("also", "good")
    with pytest.raises(RefusedError, match="is marked also, good"):
        vault.remove([ids[1]])
    vault.mark("good", None)
    vault.mark("never given", None)
    assert {one.manifest.id: one.marks for one in vault.kept()}[ids[1]] == ("also",)
    vault.mark("good", ids[1])
    vault.unpin(ids[0])
    assert vault.kept()[0].pin is None
    assert vault.kept()[0].proof == proof
    for work in (
        lambda: vault.note("s-0099", pin, None), lambda: vault.unpin("s-0099"), lambda: vault.mark("x", "s-0099"),
        lambda: vault.open("s-0099"), lambda: vault.verify("s-0099"),
        lambda: vault.transfer_out("s-0099", vault.directory / "x"), lambda: vault.open("../../etc"),
    ):  # fmt: skip
        with pytest.raises(UnavailableError, match="there is no snapshot"):
            work()


def test_removing_frees_what_no_other_snapshot_needs(vault: Vault) -> None:
    first = take(vault, {"": DATA})
    second = take(vault, {"": with_changes(DATA, 300)})
    other = take(vault, {"": noise(9, 20_000)})
    before = stored(vault)
    freed = vault.remove([other.id])
    assert freed > 20_000
    assert stored(vault) < before - 20_000
    assert vault.remove([other.id]) == 0
    vault.remove([first.id])
    assert kept(vault) == [second.id]
    assert restored(vault.open(second.id)) == {"": with_changes(DATA, 300)}
    vault.verify(second.id)
    assert vault.remove([second.id]) > 20_000
    assert [name for name in vaults.state_of(vault.directory) if "ledger" not in name] == []


def test_a_number_is_never_given_twice(vault: Vault) -> None:
    ids = [take(vault, {"": DATA}).id for _ in range(2)]
    vault.remove(ids)
    assert take(vault, {"": DATA}).id == "s-0003"


def test_what_is_no_id_names_no_file(vault: Vault) -> None:
    take(vault, {"": DATA})
    (vault.directory / "other.json").write_text("{}")
    before = vaults.state_of(vault.directory)
    assert vault.remove(["../other", "s-1/../../other", "other"]) == 0
    with pytest.raises(UnavailableError, match=r"there is no snapshot \.\./other"):
        vault.open("../other")
    assert vaults.state_of(vault.directory) == before


def test_a_pinned_or_marked_snapshot_is_not_removed_and_nothing_else_is_then(vault: Vault) -> None:
    ids = [take(vault, {"": DATA}).id for _ in range(3)]
    vault.note(ids[0], Pin(None, "safety"), None)
    vault.mark("good", ids[1])
    before = vaults.state_of(vault.directory)
    with pytest.raises(RefusedError, match=r"s-0001 is pinned \(safety\)"):
        vault.remove(ids)
    with pytest.raises(RefusedError, match="s-0002 is marked good"):
        vault.remove(ids[1:])
    assert vaults.state_of(vault.directory) == before
    vault.note(ids[0], Pin(1.0, "over"), None)
    vault.mark("good", ids[2])
    vault.remove(ids[:2])
    assert kept(vault) == ids[2:]


def test_packs_of_which_little_is_needed_are_rewritten(vault: Vault) -> None:
    first = take(vault, {"": DATA})
    few = DATA[:256] + DATA[10_240:10_496]
    second = take(vault, {"": few})
    vault.remove([first.id])
    assert stored(vault) < 2000
    assert restored(vault.open(second.id)) == {"": few}
    vault.verify(second.id)


def test_many_small_packs_become_one(vault: Vault) -> None:
    data = DATA
    manifests = []
    for number in range(12):
        data = with_changes(data, number * 300)
        manifests.append(take(vault, {"": data}))
    files_before = len(list((vault.directory / "packs").iterdir()))
    vault.remove([manifests[0].id])
    assert len(list((vault.directory / "packs").iterdir())) < files_before - 16
    for manifest in manifests[1:]:
        vault.verify(manifest.id)
    assert restored(vault.open(manifests[-1].id)) == {"": data}


def test_reading_goes_on_while_packs_are_rewritten(vault: Vault) -> None:
    first = take(vault, {"": DATA})
    second = take(vault, {"a": DATA[:256], "b": DATA[10_240:10_496]})
    content = vault.open(second.id)
    assert b"".join(content.read("a")) == DATA[:256]
    packs_before = set((vault.directory / "packs").iterdir())
    vault.remove([first.id])
    assert not packs_before & set((vault.directory / "packs").iterdir())
    assert b"".join(content.read("b")) == DATA[10_240:10_496]


def test_the_directory_is_private(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    vault = Vault(tmp_path / "store")
    take(vault, {"": DATA})
    for path in [vault.directory, *vault.directory.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot use"):
        Vault(tmp_path / "file" / "store")


def test_what_cannot_be_read_from_the_source_is_not_blamed_on_the_store(vault: Vault) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 5000
        raise OSError(5, "the source's disk is broken")

    with pytest.raises(OSError, match="the source's disk is broken"), vault.begin(draft()) as intake:
        intake.entry(entry(), failing())
    assert kept(vault) == []


def test_memory_is_bounded_by_blocks_and_not_by_the_content(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    block = noise(5, 1024 * 1024)
    tracemalloc.start()
    with vault.begin(Draft("n", "n/1", StateKind.COMMAND, 1, 1, 0.0)) as intake:
        intake.entry(entry(), (with_changes(block, number) for number in range(60)), 4096)
        manifest = intake.commit(0.0)
    for _ in vault.open(manifest.id).read(""):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert manifest.size_bytes == 60 * 1024 * 1024
    assert peak < 20 * 1024 * 1024


def test_a_proof_and_a_pin_can_be_replaced(vault: Vault) -> None:
    id_ = take(vault, {"": DATA}).id
    vault.note(id_, Pin(5.0, "a"), Proof(1.0, 1.0, "damaged"))
    vault.note(id_, Pin(6.0, "b"), Proof(2.0, 1.0))
    (one,) = vault.kept()
    assert (one.pin, one.proof) == (Pin(6.0, "b"), Proof(2.0, 1.0))


def test_a_ledger_that_a_newer_perdure_wrote_is_left_alone(vault: Vault) -> None:
    take(vault, {"": DATA})
    page = replace(vault.seen(1, 1), format=2)
    for name in ledger.COPIES:
        (vault.directory / name).write_bytes(ledger.signed(page).ljust(ledger.RESERVE_BYTES))
    before = vaults.state_of(vault.directory)
    with pytest.raises(CorruptionError, match="has format 2, and this version of Perdure knows 1") as caught:
        Vault(vault.directory).begin(draft())
    assert "remove" not in caught.value.hint
    assert vaults.state_of(vault.directory) == before


def test_a_small_pack_that_alone_can_be_read_is_not_lost_when_small_ones_are_joined(vault: Vault) -> None:
    manifests = [take(vault, {"": noise(number, 256)}) for number in range(5)]
    whole, *others = sorted((vault.directory / "packs").glob("*.pack"))
    for path in others:
        path.write_bytes(with_changes(path.read_bytes(), -1))
    vault.remove([])
    assert all(path.exists() for path in (whole, *others))
    found = []
    for number, manifest in enumerate(manifests):
        with contextlib.suppress(CorruptionError):
            found.append(restored(vault.open(manifest.id)) == {"": noise(number, 256)})
    assert found == [True]
