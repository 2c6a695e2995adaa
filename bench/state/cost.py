"""What a copy costs: seconds, CPU, what it left in the place where copies are kept, and what was written for it.

A program that ends is counted by the kernel when it is waited for; one that goes on is read from /proc before and
after. "Written" is what was handed to the file system for a disk, also for files that were deleted again; it counts in
the moment in which a page of a file is changed, not in that in which the disk has it.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, usage

OUTPUT_BLOCK_BYTES = 512
"""The unit of `ru_oublock` on Linux."""
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Cost:
    """One copy."""

    took_s: float
    cpu_s: float
    kept_bytes: int
    """How much larger the place where copies are kept is now."""
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What a process that goes on has used up to a moment."""

    at: float
    cpu_s: float
    written_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Mark":
        """Now."""
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        counts = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
        return cls(time.monotonic(), usage([pid]).cpu_s, counts["write_bytes"])

    def until(self, later: "Mark", kept_bytes: int) -> Cost:
        """The cost of what happened between two."""
        return Cost(later.at - self.at, later.cpu_s - self.cpu_s, kept_bytes, later.written_bytes - self.written_bytes)


def ran(words: Sequence[str | Path], log: Path, done: Callable[[], bool] | None = None) -> Cost:
    """Run a program to its end, and take its time up to that, or until `done`; nothing is said of what it keeps.
    BenchError when it fails.
    """
    began_at = time.monotonic()
    done_at = None
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    while done is not None and done_at is None:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if done() or ended is not None:
            done_at = time.monotonic()
        time.sleep(LOOK_S)
    _, status, used = os.wait4(process.pid, 0)
    took_s = (done_at or time.monotonic()) - began_at
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{words[0]} failed ({process.returncode}): {log.read_text()[-500:].strip()}")
    return Cost(took_s, used.ru_utime + used.ru_stime, 0, used.ru_oublock * OUTPUT_BLOCK_BYTES)


def clear(directory: Path, pattern: str) -> None:
    """Remove files and directories whose names are like this."""
    for path in directory.glob(pattern):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def size(*places: Path) -> int:
    """Bytes of all files in these directories, or of these files; what is not there has none."""
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())
