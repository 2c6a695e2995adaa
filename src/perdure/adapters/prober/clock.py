"""What time a replica believes it is: the `Date` header that HTTP servers put on their answers (RFC 9110, 6.6.1).

It names whole seconds, and many servers compute it once a second only, so that it lags by up to two.
"""

import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache


def ahead_s(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """By how many seconds the replica's clock is ahead of this host's, behind if negative; None: it does not tell."""
    said = next((value for name, value in headers if name.lower() == b"date"), None)
    instant = _instant(said) if said is not None else None
    return instant - time.time() if instant is not None else None


@lru_cache(maxsize=64)
def _instant(said: bytes) -> float | None:
    """Unix time of a date; all replicas say the same within a second."""
    try:
        return parsedate_to_datetime(said.decode("ascii")).timestamp()
    except ValueError:
        return None
