"""One snapshot as a file that stands alone: a tar archive of a store that holds nothing else.

    snapshots/s-0193.json   contents/DIGEST.list   packs/NAME.pack   packs/NAME.index   ...   sha256

Unpacked, it is a store. The last member holds the SHA-256 of all that comes before it, so that any damage is found
before anything is read in. It carries the chunks of its snapshot and no others. With a key, it stays encrypted, and can
only be read where the key is. Reading it in hashes and stores everything anew, as if it had been taken here; packs are
read in the archive, where they lie in one piece.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from perdure.adapters.state import disk, index, ledger, listing, seal
from perdure.adapters.state.content import Content, Sources
from perdure.adapters.state.ledger import Record
from perdure.adapters.state.listing import Listed
from perdure.adapters.state.packs import Pack, PackWriter
from perdure.adapters.state.seal import Seal
from perdure.adapters.state.shelf import Place

_READ_BYTES = 1024 * 1024
_AGAIN = "export the snapshot again, and compare the sizes of the files after copying"


class _Archive:
    """A tar archive that is being written, and the digest of it so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> None:
        for part in (_header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE)):
            self._file.write(part)
            self._sha256.update(part)
            self.size += len(part)

    def end(self) -> None:
        self._file.write(_tail(self._sha256.hexdigest()))


def write(content: Content, record: Record, listed: list[Listed], sealed: Seal, file: Path) -> None:
    """Write the archive; an existing file is replaced once the new one is whole. UnavailableError, CorruptionError."""
    aside = file.with_name(f".{file.name}.part")
    with _directory(aside), disk.writing(file.parent, lambda: content.manifest.size_bytes):
        made = aside / "archive"
        with made.open("xb") as opened:
            made.chmod(0o600)
            archive = _Archive(opened)
            archive.add(f"snapshots/{record.manifest.id}.json", ledger.manifest_bytes(record))
            archive.add(f"contents/{record.manifest.digest}.list", sealed.wrap(seal.LIST, listing.encode(listed)))
            writer = PackWriter(aside, sealed)
            try:
                for address, chunk in content.distinct():
                    writer.add(address, chunk)
                    _add_packs(archive, writer)
                writer.finish()
                _add_packs(archive, writer)
            finally:
                writer.close()
            archive.end()
            opened.flush()
            os.fsync(opened.fileno())
        made.replace(file)
        disk.sync_directory(file.parent)


def _add_packs(archive: _Archive, writer: PackWriter) -> None:
    """Move finished packs into the archive."""
    while writer.written:
        one = writer.written.pop()
        for path in (one.pack, one.index_file):
            archive.add(f"packs/{path.name}", disk.read(path))
            disk.remove(path)


def read(file: Path, sealed: Seal) -> Content:
    """The content of an archive, to be read. CorruptionError when one of its bytes is not what was written,
    RefusedError when it needs another key."""
    _check(file)
    try:
        with tarfile.open(file, "r:") as tar:
            members = {member.name: member for member in tar.getmembers()}
        record, reading = _manifest(file, members, sealed)
        listed = listing.decode(
            reading.unwrap(seal.LIST, _member(file, members[f"contents/{record.manifest.digest}.list"]))
        )
        packs = [
            Pack(file, index.decode(_member(file, member), reading), reading, members[_pack_of(name)].offset_data)
            for name, member in members.items()
            if name.endswith(".index")
        ]
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise disk.damaged(file, f"it is no export of a snapshot ({error})", _AGAIN) from None
    places = {
        address: Place(pack, number)
        for pack in packs
        for number in range(len(pack.index.blocks))
        for address in pack.index.digests_of(number)
    }
    if any(address not in places for one in listed for address in one.addresses()):
        raise disk.damaged(file, "it does not have all chunks of its snapshot", _AGAIN)
    return Content(record.manifest, listed, Sources(lambda: places, lambda _: None))


def _manifest(file: Path, members: dict[str, tarfile.TarInfo], sealed: Seal) -> tuple[Record, Seal]:
    """The manifest, and what the rest is read with: an export without encryption can be read in anywhere."""
    (name,) = (name for name in members if name.startswith("snapshots/"))
    record = ledger.parsed_manifest(_member(file, members[name]))
    if not record.key_check:
        return record, Seal()
    sealed.admit(record.key_check, file)
    return record, sealed


def _pack_of(index_name: str) -> str:
    return index_name.removesuffix(".index") + ".pack"


def _member(file: Path, member: tarfile.TarInfo) -> bytes:
    return disk.read_at(file, member.offset_data, member.size)


def _check(file: Path) -> None:
    sha256 = hashlib.sha256()
    tail_bytes = len(_tail(sha256.hexdigest()))
    try:
        with file.open("rb") as opened:
            left = os.fstat(opened.fileno()).st_size - tail_bytes
            while left > 0 and (data := opened.read(min(_READ_BYTES, left))):
                sha256.update(data)
                left -= len(data)
            tail = opened.read()
    except OSError as error:
        raise disk.unusable(file, error) from error
    if left < 0 or tail != _tail(sha256.hexdigest()):
        raise disk.damaged(file, "it is not a whole export of a snapshot", _AGAIN)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member.tobuf(tarfile.USTAR_FORMAT)


def _tail(digest: str) -> bytes:
    """The last member, and the end of the archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("sha256")
        member.mode = 0o600
        member.size = len(digest) + 1
        tar.addfile(member, io.BytesIO(digest.encode() + b"\n"))
    return buffer.getvalue()


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """A directory for as long as it takes; what an earlier attempt left there is deleted."""
    shutil.rmtree(path, ignore_errors=True)
    disk.make_directory(path)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
