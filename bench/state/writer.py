"""The program `writing`, as who has its acknowledgements sees it: it is started, heard, and killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from bench.processes import HERE, BenchError


class Writer:
    """The program, and the last number that it has acknowledged."""

    def __init__(self, database: Path, rate: float, checkpoint_pages: int) -> None:
        words = [sys.executable, str(HERE / "state" / "writing.py"), str(database), f"{rate:g}", str(checkpoint_pages)]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._ear = threading.Thread(target=self._hear, name="acknowledgements")
        self._ear.start()
        self.last = 0

    def kill(self) -> None:
        """SIGKILL; what it had written to the pipe before is still heard by `bury`."""
        os.kill(self._process.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Wait for its end. BenchError when it had ended by itself, or had not begun to write."""
        code = self._process.wait()
        self._ear.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if code != -signal.SIGKILL or not self.last:
            raise BenchError(f"the writer ended with {code} after row {self.last}")

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                self.last = int(line)
