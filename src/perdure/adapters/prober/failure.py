"""What it means when a question could not be asked: the target's failure, or this daemon's own.

`http`, `tcp` and `command` share it, so that the same error is the same evidence everywhere.
"""

import errno
import hashlib
import os
import ssl

from perdure.model.errors import UnavailableError
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer

OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""Errors that name a shortage on the asking side."""
EXCERPT_LENGTH = 200
"""Characters of what came back that an answer shows."""


def refused(error: OSError) -> Answer:
    """The answer for a connection that failed: who speaks no TLS, or another one, answers wrongly and is there. Raises
    UnavailableError when the asking side is to blame.
    """
    if isinstance(error, ssl.SSLError):  # its number is none of the system's
        return Answer(Outcome.STATUS, f"no TLS: {getattr(error, 'reason', None) or error}"[:EXCERPT_LENGTH])
    raise_if_own(error)
    match error.errno:
        case errno.ECONNREFUSED:
            return Answer(Outcome.REFUSED, "nothing listens on the port")
        case errno.ECONNRESET | errno.EPIPE:
            return Answer(Outcome.REFUSED, "the connection was reset")
        case _:
            return Answer(Outcome.REFUSED, f"no connection: {explain(error)}")


def timed_out(timeout_s: float, seen: str = "") -> Answer:
    """The answer for silence; `seen` is what came before it."""
    return Answer(Outcome.TIMEOUT, f"no answer within {timeout_s:g} s" + (f" after {seen}" if seen else ""))


def raise_if_own(error: OSError) -> None:
    """Raise UnavailableError when the error speaks of this daemon and not of the target."""
    if error.errno in OWN:
        raise UnavailableError(
            f"a check could not be made: {explain(error)}", "raise the daemon's limits on open files and processes"
        ) from error


def digest(body: bytes) -> str:
    """What an answer is compared by: the first 128 bits of its SHA-256, without the white space around it."""
    return hashlib.sha256(body.strip()).hexdigest()[:32]


def explain(error: OSError) -> str:
    """The system's words for it, and the file it is about."""
    words = os.strerror(error.errno) if error.errno is not None else str(error) or type(error).__name__
    return f"{words}: {error.filename}" if error.filename is not None else words


def excerpt(raw: bytes) -> str:
    """The beginning of some output on one line, with everything unprintable replaced."""
    text = " ".join(raw[: EXCERPT_LENGTH * 4].decode("utf-8", "replace").split())
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:EXCERPT_LENGTH])
