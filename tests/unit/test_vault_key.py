"""Encrypted snapshots: what can be seen of them, and what a wrong key does."""

import hmac
import io
from pathlib import Path

import pytest

import vaults
from perdure.adapters.state import seal
from perdure.adapters.state.seal import Seal
from perdure.adapters.state.vault import Vault
from perdure.model.errors import RefusedError
from vaults import KEY, entry, noise, restored, take

OTHER_KEY = bytes(32)
DATA = b"a secret that must not be seen. " * 300
FILES = {"private name": DATA, "b": noise(1, 5000)}


@pytest.mark.parametrize(
    ("made_with", "opened_with", "sentence"),
    [
        (KEY, None, "are encrypted, and no key was given"),
        (KEY, OTHER_KEY, "are encrypted with another key than the one given"),
        (None, KEY, "are not encrypted, but a key was given"),
    ],
)
def test_another_key_is_refused_and_changes_nothing(
    tmp_path: Path, made_with: bytes | None, opened_with: bytes | None, sentence: str
) -> None:
    vault = Vault(tmp_path, made_with)
    take(vault, FILES)
    before = vaults.state_of(tmp_path)
    with pytest.raises(RefusedError, match=sentence) as caught:
        Vault(tmp_path, opened_with)
    assert "key_file" in caught.value.hint
    # Also when the ledger was lost, and the manifest is all that tells.
    for name in ("ledger.a", "ledger.b"):
        (tmp_path / name).unlink()
    with pytest.raises(RefusedError, match=sentence):
        Vault(tmp_path, opened_with)
    assert {**vaults.state_of(tmp_path), "ledger.a": before["ledger.a"], "ledger.b": before["ledger.b"]} == before
    assert restored(Vault(tmp_path, made_with).open("s-0001")) == FILES


def test_a_key_of_another_length_is_refused_without_telling_it(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"must have 32 bytes \(got 9\)") as caught:
        Vault(tmp_path / "store", b"too short")
    assert "too short" not in caught.value.sentence + caught.value.hint
    assert not (tmp_path / "store").exists()


def test_neither_content_nor_names_nor_known_content_can_be_found_in_the_files(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    take(vault, FILES)
    plain = Seal()
    for name, data in vaults.state_of(tmp_path).items():
        for secret in (b"a secret", b"private name", FILES["b"][:32], KEY, KEY.hex().encode()):
            assert secret not in data, name
        # An address without a key would tell whoever knows a content that it is here.
        for content in (DATA[:256], FILES["b"][:256]):
            assert plain.address(content) not in data
            assert plain.address(content).hex() not in name + str(data)


def test_no_two_files_or_parts_of_a_file_are_encrypted_with_the_same_key_and_nonce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[bytes, bytes]] = []
    real = seal.AESGCM

    class Recording:
        def __init__(self, key: bytes) -> None:
            self.key = key
            self.aes = real(key)

        def encrypt(self, nonce: bytes, data: bytes, also: bytes) -> bytes:
            used.append((self.key, nonce))
            return self.aes.encrypt(nonce, data, also)

        def decrypt(self, nonce: bytes, data: bytes, also: bytes) -> bytes:
            return self.aes.decrypt(nonce, data, also)

    monkeypatch.setattr(seal, "AESGCM", Recording)
    with vaults.small_packs():
        vault = Vault(tmp_path / "store", KEY)
        for number in range(6):
            take(vault, {"a": noise(number, 8000), "b": DATA})
        vault.transfer_out("s-0001", tmp_path / "export")
        vault.remove(["s-0001"])
        vault.transfer_in(tmp_path / "export")
        Vault(tmp_path / "other", KEY).transfer_in(tmp_path / "export")
    assert len(used) > 100
    assert len(set(used)) == len(used)


def test_parts_of_a_file_are_bound_to_their_place() -> None:
    sealed = Seal(KEY)
    cipher = sealed.new_cipher(seal.PACK)
    part = cipher.encrypt(1, b"content", b"place")
    same = sealed.cipher(seal.PACK, cipher.header)
    assert same.decrypt(1, part, b"place") == b"content"
    other_header = cipher.header[:-1] + bytes([cipher.header[-1] ^ 1])
    for attempt in (
        lambda: same.decrypt(2, part, b"place"),
        lambda: same.decrypt(1, part, b"other"),
        lambda: sealed.cipher(seal.PACK, other_header).decrypt(1, part, b"place"),
        lambda: sealed.new_cipher(seal.PACK).decrypt(1, part, b"place"),
        lambda: same.decrypt(1, part[:-1], b"place"),
    ):
        with pytest.raises(ValueError, match="does not decrypt"):
            attempt()


def test_addresses_are_hmac_sha256_with_a_key_of_their_own() -> None:
    own = hmac.digest(KEY, b"perdure addresses\x01", "sha256")
    for data in (b"", b"x", noise(1, 4096), noise(2, 100_000)):
        assert Seal(KEY).address(data) == hmac.digest(own, data, "sha256")


@pytest.mark.parametrize(
    ("source", "target"), [(KEY, KEY), (None, KEY), (None, None)], ids=["same key", "from plain to key", "plain"]
)
def test_an_export_can_be_read_in_where_its_key_is(tmp_path: Path, source: bytes | None, target: bytes | None) -> None:
    vault = Vault(tmp_path / "source", source)
    take(vault, FILES)
    vault.transfer_out("s-0001", tmp_path / "export")
    other = Vault(tmp_path / "target", target)
    assert restored(other.open(other.transfer_in(tmp_path / "export").id)) == FILES
    if target is not None:
        assert not any(b"a secret" in data for data in vaults.state_of(other.directory).values())


@pytest.mark.parametrize("target", [None, OTHER_KEY])
def test_an_export_is_refused_where_its_key_is_not(tmp_path: Path, target: bytes | None) -> None:
    vault = Vault(tmp_path / "source", KEY)
    take(vault, FILES)
    vault.transfer_out("s-0001", tmp_path / "export")
    other = Vault(tmp_path / "target", target)
    with pytest.raises(RefusedError, match="export are encrypted"):
        other.transfer_in(tmp_path / "export")
    assert other.kept() == []


def test_equal_chunks_are_stored_once_although_they_are_encrypted(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    take(vault, {"a": noise(1, 10_240)})
    with vault.begin(vaults.draft()) as intake:
        intake.entry(entry("x"), io.BytesIO(noise(1, 10_240) * 50), vaults.CHUNK_BYTES)
        assert intake.commit(0.0).stored_bytes < 15_000
