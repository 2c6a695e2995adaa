"""What makes a file of the store trustworthy: digests for all of it, and encryption where a key was given.

    address   names a chunk or a content list by what it holds: SHA-256, or HMAC-SHA-256 with a key, so that whoever
              sees the store cannot tell whether it holds a content that he knows
    envelope  a small file read as a whole: header, payload (zstd), SHA-256 of both
    cipher    encrypts the parts of one file, AES-256-GCM

No nonce is used twice: each file has a key of its own, made from the store's key and 32 random bytes in its header, and
the parts of a file are numbered. All keys are made from the 32 bytes that the user gave by HKDF-Expand (RFC 5869), one
for each purpose. Header and place of a part are authenticated with it, so that parts cannot be swapped.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from perdure.model.errors import RefusedError

KEY_BYTES = 32
DIGEST_BYTES = 32
TAG_BYTES = 16
VERSION = 1
LEVEL = 3
"""Of zstd: the default; level 1 takes a quarter less time and leaves a tenth more."""

PACK, INDEX, LIST = b"PERDPACK", b"PERDINDX", b"PERDLIST"
"""The first eight bytes of each kind of file."""

_HEADER = struct.Struct("<8sII32s")
HEADER_BYTES = _HEADER.size
_ENCRYPTED = 1
_BLOCK_BYTES = 64
"""Of SHA-256: HMAC pads its key to so many (RFC 2104)."""

Readable = bytes | bytearray | memoryview


class Cipher:
    """Encrypts the numbered parts of one file; without a key it leaves them as they are."""

    def __init__(self, key: bytes | None, header: bytes) -> None:
        self.header = header
        self._aes = AESGCM(key) if key is not None else None

    @property
    def overhead_bytes(self) -> int:
        """By which a part grows."""
        return 0 if self._aes is None else TAG_BYTES

    def encrypt(self, number: int, data: Readable, place: bytes = b"") -> bytes:
        """Part `number` (from 0, each at most once), bound to `place`."""
        if self._aes is None:
            return bytes(data)
        return self._aes.encrypt(number.to_bytes(12), data, self.header + place)

    def decrypt(self, number: int, data: Readable, place: bytes = b"") -> bytes:
        """The reverse; ValueError when it is not what was encrypted."""
        if self._aes is None:
            return bytes(data)
        try:
            return self._aes.decrypt(number.to_bytes(12), data, self.header + place)
        except InvalidTag:
            raise ValueError("it does not decrypt: its content was changed") from None


class Seal:
    """All that depends on the key of a store (32 bytes, or None)."""

    def __init__(self, key: bytes | None = None) -> None:
        if key is not None and len(key) != KEY_BYTES:
            raise RefusedError(
                f"a key of snapshots must have {KEY_BYTES} bytes (got {len(key)})",
                "make one with `openssl rand -hex 32`, and keep a copy elsewhere",
            )
        self._files_key = _expand(key, b"files") if key is not None else None
        self.check = _expand(key, b"check")[:8].hex() if key is not None else ""
        """Tells one key from another and nothing of the key; empty without one."""
        if key is not None:
            padded = _expand(key, b"addresses").ljust(_BLOCK_BYTES, b"\0")
            self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
            self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def admit(self, check: str, directory: Path) -> None:
        """RefusedError unless a store that was made with the key of this `check` is opened with that key."""
        if check == self.check:
            return
        if not check:
            raise RefusedError(
                f"the snapshots in {directory} are not encrypted, but a key was given",
                "leave out `key_file`; to encrypt from now on, name another directory or move this one away",
            )
        if not self.check:
            raise RefusedError(
                f"the snapshots in {directory} are encrypted, and no key was given",
                "name the file of their key: `key_file` in [service.NAME.state]",
            )
        raise RefusedError(
            f"the snapshots in {directory} are encrypted with another key than the one given",
            "use the key with which they were taken: `key_file` in [service.NAME.state]",
        )

    def address(self, data: Readable) -> bytes:
        """32 bytes that name this content."""
        return self.addresses((data,))[0]

    def addresses(self, pieces: Iterable[Readable]) -> list[bytes]:
        """The address of each piece. This is most of what a snapshot costs: 3 µs for 4 KiB, 4 µs with a key."""
        if self._files_key is None:
            sha256 = hashlib.sha256
            return [sha256(piece).digest() for piece in pieces]
        found = []
        for piece in pieces:
            inner = self._inner.copy()
            inner.update(piece)
            outer = self._outer.copy()
            outer.update(inner.digest())
            found.append(outer.digest())
        return found

    def new_cipher(self, kind: bytes) -> Cipher:
        """The cipher of a file that is to be written, with its header."""
        if self._files_key is None:
            return Cipher(None, _HEADER.pack(kind, VERSION, 0, bytes(32)))
        salt = os.urandom(32)
        return Cipher(self._file_key(salt), _HEADER.pack(kind, VERSION, _ENCRYPTED, salt))

    def cipher(self, kind: bytes, header: bytes) -> Cipher:
        """The cipher of a file that has this header; ValueError when it is not one of this kind and this store."""
        if len(header) < HEADER_BYTES:
            raise ValueError("it is cut off")
        magic, version, flags, salt = _HEADER.unpack(header[:HEADER_BYTES])
        if magic != kind:
            raise ValueError("its first bytes are not those of such a file")
        if version != VERSION:
            raise ValueError(f"its format is {version}, and this version of Perdure knows {VERSION}")
        if flags != (_ENCRYPTED if self._files_key is not None else 0):
            raise ValueError("it is encrypted, or it is not, unlike the store")
        return Cipher(self._file_key(salt) if self._files_key is not None else None, header[:HEADER_BYTES])

    def wrap(self, kind: bytes, payload: Readable) -> bytes:
        """The bytes of a small file: header, payload, digest."""
        cipher = self.new_cipher(kind)
        body = cipher.header + cipher.encrypt(0, zstandard.ZstdCompressor(level=LEVEL).compress(payload))
        return body + hashlib.sha256(body).digest()

    def unwrap(self, kind: bytes, data: bytes) -> bytes:
        """The payload of such a file; ValueError says what is wrong with it."""
        body = memoryview(data)[:-DIGEST_BYTES]
        if len(body) < HEADER_BYTES:
            raise ValueError("it is cut off")
        if hashlib.sha256(body).digest() != data[-DIGEST_BYTES:]:
            raise ValueError("its digest does not match")
        cipher = self.cipher(kind, bytes(body[:HEADER_BYTES]))
        return decompressed(cipher.decrypt(0, body[HEADER_BYTES:]))

    def _file_key(self, salt: bytes) -> bytes:
        assert self._files_key is not None
        return _expand(self._files_key, b"file" + salt)


def decompressed(data: Readable) -> bytes:
    """What zstd made `data` of; ValueError when it made nothing of the kind."""
    try:
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError:
        raise ValueError("it does not decompress") from None


def _expand(key: bytes, purpose: bytes) -> bytes:
    """HKDF-Expand (RFC 5869, 2.3) with SHA-256, one block: the key is random already, so nothing needs extracting."""
    return hmac.digest(key, b"perdure " + purpose + b"\x01", "sha256")
