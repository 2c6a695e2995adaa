"""Read a small text file without surprises: bounded, never blocking, with a sentence for all that can be wrong.

`load` reads `perdure.toml` with it, `envfile` the files with variables; `Mistake` carries the sentence, without the
path.
"""

import os
import stat
from pathlib import Path

from perdure.config.mistake import Mistake

SIZE_BYTES_MAX = 1_000_000


def read(path: Path) -> str:
    """Return the text of a regular UTF-8 file of at most 1 MB; raises Mistake."""
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for a writer, perhaps for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Mistake("does not exist", "check the name") from None
    except PermissionError:
        raise Mistake("may not be read by this user", f"chmod u+r {path}, or run as its owner") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise Mistake(f"cannot be opened: {(reason or 'the name is not valid').lower()}", "check the name") from None
    try:
        return _text(descriptor)
    finally:
        os.close(descriptor)


def _text(descriptor: int) -> str:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise Mistake("is a directory", "name a file in it")
    if not stat.S_ISREG(mode):
        raise Mistake("is not a regular file", "copy its content to a file, and name that")
    content = b""
    try:
        while len(content) <= SIZE_BYTES_MAX and (piece := os.read(descriptor, SIZE_BYTES_MAX + 1 - len(content))):
            content += piece
    except OSError as error:
        raise Mistake(f"cannot be read: {(error.strerror or 'unknown reason').lower()}", "check the disk") from None
    if len(content) > SIZE_BYTES_MAX:
        raise Mistake("is larger than 1 MB", "this is hardly the file that was meant; check the name")
    if b"\0" in content:
        raise Mistake("is a binary file: it holds NUL bytes", "check the name; the file must be UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Mistake(f"is not UTF-8 text (line {line})", "save it as UTF-8; check that it is the right file") from None
