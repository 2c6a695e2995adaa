"""A law of the snapshot store: whatever was taken, removed, moved or cut off, each snapshot is what was taken."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import vaults
from perdure.adapters.state import shelf
from perdure.adapters.state.seal import Seal
from perdure.adapters.state.vault import Vault
from perdure.model.errors import RefusedError
from vaults import Files, draft, noise, restored, take, with_changes

SHARED = noise(7, 6000)
pieces = st.one_of(
    st.binary(max_size=600),
    st.builds(lambda begin, size: SHARED[begin * 256 :][:size], st.integers(0, 20), st.integers(0, 5000)),
    st.builds(bytes, st.integers(0, 3000)),
    st.builds(with_changes, st.just(SHARED), st.integers(0, 5999), st.integers(0, 5999)),
)
contents = st.dictionaries(st.sampled_from(["", "a", "a/b", "c d"]), pieces, max_size=3)


class Stores(RuleBasedStateMachine):
    """Two stores, one of them perhaps encrypted, and what each of their snapshots must be."""

    ids = Bundle("ids")

    @initialize(key=st.sampled_from([None, vaults.KEY]))
    def begin(self, key: bytes | None) -> None:
        self.aside = tempfile.TemporaryDirectory()
        self.small = vaults.small_packs()
        self.small.__enter__()
        self.key = key
        top = Path(self.aside.name)
        self.vaults = (Vault(top / "first", key), Vault(top / "second"))
        self.expected: tuple[dict[str, Files], dict[str, Files]] = ({}, {})
        self.protected: set[str] = set()

    @rule(target=ids, files=contents, at=st.integers(0, 100))
    def takes(self, files: Files, at: int) -> str:
        manifest = take(self.vaults[0], files, draft(taken_at=float(at)))
        self.expected[0][manifest.id] = files
        return manifest.id

    @rule(files=contents)
    def gives_up(self, files: Files) -> None:
        with self.vaults[0].begin(draft()) as intake:
            for path, data in files.items():
                intake.entry(vaults.entry(path), [data], vaults.CHUNK_BYTES)

    @rule(files=contents)
    def is_killed(self, files: Files) -> None:
        """What is being made is left as it is, without a commit and without cleaning up."""
        intake = self.vaults[0].begin(draft())
        for path, data in files.items():
            intake.entry(vaults.entry(path), [data], vaults.CHUNK_BYTES)
        intake._writer.finish()
        intake.lock.close()

    @rule(chosen=st.lists(ids, max_size=4))
    def removes(self, chosen: list[str]) -> None:
        if self.protected & set(chosen) & set(self.expected[0]):
            try:
                self.vaults[0].remove(chosen)
            except RefusedError:
                return
            raise AssertionError("a marked snapshot was removed")
        self.vaults[0].remove(chosen)
        for id_ in chosen:
            self.expected[0].pop(id_, None)

    @rule(id_=ids)
    def marks(self, id_: str) -> None:
        if id_ in self.expected[0]:
            self.vaults[0].mark("good", id_)
            self.protected = {id_}

    @rule(target=ids, id_=ids, back=st.booleans())
    def moves(self, id_: str, back: bool) -> object:
        if id_ not in self.expected[0]:
            return multiple()
        file = Path(self.aside.name) / "export"
        self.vaults[0].transfer_out(id_, file)
        if back:
            arrived = self.vaults[0].transfer_in(file)
            self.expected[0][arrived.id] = self.expected[0][id_]
            return arrived.id
        if self.key is None:
            arrived = self.vaults[1].transfer_in(file)
            self.expected[1][arrived.id] = self.expected[0][id_]
        return multiple()

    @rule()
    def forgets_everything(self) -> None:
        """Another process."""
        self.vaults = (Vault(self.vaults[0].directory, self.key), Vault(self.vaults[1].directory))

    @rule()
    def loses_its_indexes(self) -> None:
        for path in (self.vaults[0].directory / "packs").glob("*.index"):
            path.unlink()

    @invariant()
    def each_snapshot_is_what_was_taken(self) -> None:
        for vault, expected in zip(self.vaults, self.expected, strict=True):
            assert {one.manifest.id for one in vault.kept()} == set(expected)
            for id_, files in expected.items():
                assert restored(vault.open(id_)) == files

    @invariant()
    def what_changed_makes_one_of_the_other(self) -> None:
        opened = [self.vaults[0].open(id_) for id_ in list(self.expected[0])[-2:]]
        if len(opened) == 2:
            before, now = map(restored, opened)
            for path, data in now.items():
                image = bytearray(before.get(path, b"").ljust(len(data))[: len(data)])
                for offset, piece in opened[1].changed(path, opened[0]):
                    image[offset : offset + len(piece)] = piece
                assert bytes(image) == data

    @invariant()
    def each_chunk_is_there_once(self) -> None:
        loaded = shelf.load(self.vaults[0].directory / "packs", Seal(self.key))
        every = [
            address
            for one in loaded.packs
            for number in range(len(one.pack.index.blocks))
            for address in one.pack.index.digests_of(number)
        ]
        assert len(every) == len(set(every))

    def teardown(self) -> None:
        self.small.__exit__(None, None, None)
        self.aside.cleanup()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
