"""Logs of slots: their last lines, and rotation under the hands of a process that holds the file open.

A replica writes into the file itself, with O_APPEND, and never opens it anew; so rotation copies the log away and then
cuts what was copied off its beginning. `process` is the caller.
"""

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

BLOCK_BYTES = 65_536
TAIL_BYTES = 1 << 20
"""As far back as the last lines are looked for."""
LINE_LENGTH = 2_000
COLLAPSE_RANGE = 0x08


def last_lines(path: Path, count: int) -> Sequence[str]:
    """The last lines, oldest first, also those that a rotation has just moved; long ones are cut, without an error."""
    raw = _tail(path, count)
    if raw.count(b"\n") <= count and len(raw) < TAIL_BYTES:
        raw = _tail(_older(path, 1), count) + raw
    lines = raw.removesuffix(b"\n").split(b"\n") if raw else []
    texts = (line.decode("utf-8", "replace").rstrip("\r") for line in lines[max(0, len(lines) - count) :])
    return [text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…" for text in texts]


def rotate(path: Path, size_bytes: int, count: int) -> bool:
    """Move the log to `.1`, `.1` to `.2` and so on, when it is larger than `size_bytes`; `count` old ones are kept.

    On ext4 and XFS nothing is lost: whole blocks are cut off the file's beginning while its end grows, so the last line
    of an old log may go on in the next. On other file systems the file is truncated right after the last byte was
    copied, and what is written between these two calls (some microseconds) is lost. A daemon that dies in between
    leaves lines twice. False also when it could not be done, for want of space or permission; then nothing is changed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size <= size_bytes:
            return False
        _rotate(descriptor, path, count)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _rotate(descriptor: int, path: Path, count: int) -> None:
    status = os.fstat(descriptor)
    unfinished = path.with_name(path.name + ".rotating")
    unfinished.unlink(missing_ok=True)
    copy = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        with suppress(PermissionError):
            os.fchown(copy, status.st_uid, status.st_gid)
        whole_bytes = (status.st_size - 1) // status.st_blksize * status.st_blksize
        copied_bytes = _copy(descriptor, copy, 0, whole_bytes)
        if not (whole_bytes and _collapse(descriptor, whole_bytes)):
            copied_bytes = _copy(descriptor, copy, copied_bytes, None)
            os.ftruncate(descriptor, 0)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(copy)
    _shift(path, count)
    if count:
        unfinished.rename(_older(path, 1))
    else:
        unfinished.unlink()


def _copy(source: int, target: int, start: int, end: int | None) -> int:
    """Copy from `start` to `end`, or as far as there is anything; returns where it ended."""
    while chunk := os.pread(source, BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - start), start):
        start += len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
    return start


def _collapse(descriptor: int, size_bytes: int) -> bool:
    """Cut whole blocks off the beginning, at once; False where the file system cannot."""
    fallocate = _fallocate()
    return fallocate is not None and fallocate(descriptor, COLLAPSE_RANGE, 0, size_bytes) == 0


@cache
def _fallocate() -> "ctypes._NamedFuncPointer | None":
    """The C library's, since Python offers only the portable half of it; None where there is none."""
    try:
        function = ctypes.CDLL(None).fallocate
    except AttributeError:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


def _shift(path: Path, count: int) -> None:
    """Make room for a new `.1`, and drop the oldest; also those beyond, when `count` was lowered."""
    beyond = max(count, 1)
    while (oldest := _older(path, beyond)).exists():
        oldest.unlink()
        beyond += 1
    for number in range(count - 1, 0, -1):
        with suppress(FileNotFoundError):
            _older(path, number).rename(_older(path, number + 1))


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _tail(path: Path, count: int) -> bytes:
    """The end of the file, from before its last `count` lines if they fit."""
    try:
        with path.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            tail = b""
            while at > 0 and len(tail) < TAIL_BYTES and tail.count(b"\n") <= count:
                size = min(at, BLOCK_BYTES)
                at -= size
                file.seek(at)
                tail = file.read(size) + tail
            return tail
    except (FileNotFoundError, PermissionError):
        return b""
