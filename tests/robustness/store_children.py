"""Child processes of the store's robustness tests: started with a program text, gone at the end of the block."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER_TIMEOUT_S = 20.0


@contextmanager
def running(script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process with this program; it is gone at the end, whatever happened."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=ANSWER_TIMEOUT_S)


def wait_for_line(child: subprocess.Popen[bytes], line: bytes) -> None:
    """Return when the child has printed this line first; fails when it prints something else, or ends."""
    assert child.stdout is not None
    assert child.stdout.readline() == line
