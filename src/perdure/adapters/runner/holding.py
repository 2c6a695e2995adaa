"""The open descriptors of a replica against their limit.

Those of the first process and of its children (workers) count, whichever is nearest to its own limit. On kernels from
6.2 on their number costs one `stat`. `process` is the caller.
"""

import os
import resource
from collections.abc import Iterator

from perdure.adapters.runner import stat

CHILDREN_BYTES = 16_384


def descriptors(pid: int) -> tuple[int, int]:
    """Open descriptors of that process of a family which is nearest to its soft limit, and that limit; (0, 0) when all
    are gone.
    """
    found = [(_open(one), limit) for one in _family(pid) if (limit := _limit(one)) > 0]
    return max(found, key=lambda one: one[0] / one[1], default=(0, 0))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in stat.read_file(pid, f"task/{pid}/children", CHILDREN_BYTES).split():
        yield int(child)


def _open(pid: int) -> int:
    path = f"/proc/{pid}/fd"
    try:
        return os.stat(path).st_size or len(os.listdir(path))  # noqa: PTH116, PTH208 - a hot path
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0


def _limit(pid: int) -> int:
    try:
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except (ProcessLookupError, PermissionError):
        return 0
    return soft if soft != resource.RLIM_INFINITY else 0
