"""One process as /proc/PID/stat shows it: the kernel's own name for it and its state, in one small read.

`process` and `group` use it to tell a process from a later one with the same pid. The
supervisor (`adapters.fence`) imports it and must be small: hence no dataclass.
"""

import os

STAT_BYTES = 1024
GONE = frozenset("ZXx")
"""State letters of processes that run no more: zombies wait only for their parent to ask how they ended."""


class Stat:
    """What was read: state letter, clock ticks between boot and the start of the process, and its threads."""

    __slots__ = ("letter", "started_ticks", "threads")

    def __init__(self, letter: str, started_ticks: int, threads: int) -> None:
        self.letter = letter
        self.started_ticks = started_ticks
        self.threads = threads


def read(pid: int) -> Stat | None:
    """Look at the process that has this pid now; None when there is none."""
    raw = read_file(pid, "stat")
    if not raw:
        return None
    # The name, field 2, may itself hold spaces and brackets: count the fields from its last bracket.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return Stat(fields[0].decode("ascii"), int(fields[19]), int(fields[17]))


def read_file(pid: int, name: str, size_bytes: int = STAT_BYTES) -> bytes:
    """The first bytes of a file of /proc/PID; empty when the process is gone or belongs to somebody else."""
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        return os.read(descriptor, size_bytes)
    except (ProcessLookupError, PermissionError):
        return b""
    finally:
        os.close(descriptor)


def open_letter(pid: int) -> int:
    """A descriptor for `read_letter`; it stays bound to this process when its pid is used again. Raises OSError."""
    return os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)


def read_letter(descriptor: int) -> str:
    """The state letter, `X` when the process is gone; less than half the price of opening the file each time."""
    try:
        head = os.pread(descriptor, 64, 0)
    except ProcessLookupError:
        return "X"
    at = head.rfind(b")") + 2
    return head[at : at + 1].decode("ascii")
