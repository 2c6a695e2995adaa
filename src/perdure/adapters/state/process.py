"""The process that works with the state of one service: `python -m perdure.adapters.state.process DIRECTORY SERVICE`.

It reads calls from its standard input and does one after the other; hashing gigabytes here never delays the daemon's
loop. It ends with its input, and with the daemon's death: at any moment, for everything here leaves the old or the new
when it dies. What only copies in bulk runs in a thread of the lowest priority (priorities are a thread's own on Linux,
and only a privileged one may raise its own again); what a person or a takeover waits for runs at the daemon's.

    <directory>/<service>/vault     the snapshots                          `vault`
    <directory>/<service>/work      copies in the making, emptied at each start
    <directory>/<service>/image     what warm passive databases are brought to   `following`
"""

import ctypes
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from perdure.adapters.state import filesystem, protocol, shelving
from perdure.adapters.state.keeping import Slots
from perdure.adapters.state.shelving import Shelf
from perdure.model.errors import PerdureError

PR_SET_PDEATHSIG = 1
LOWEST_PRIORITY = 19
IDLE_IO = 3 << 13
"""The idle class of ioprio_set(2): the disk when nobody else wants it."""
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""Numbers of the system call, which the C library does not wrap."""
IN_BULK = frozenset({"take", "verify", "remove", "transfer_out", "transfer_in"})

Work = Callable[[dict[str, Any]], Any]


def main(arguments: list[str]) -> None:
    """Answer calls until the input ends."""
    directory, service = Path(arguments[0]), arguments[1]
    _die_with_parent()
    # What a library or a child prints must not come between the answers.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    root = directory / service
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(root / "work", ignore_errors=True)
    (root / "work").mkdir(mode=0o700)
    shelf = Shelf(root / "vault")
    table: dict[str, Work] = {**shelving.calls(shelf), **Slots(shelf, root).calls()}
    with ThreadPoolExecutor(1, initializer=_yield_to_others) as bulk:
        for line in iter(sys.stdin.buffer.readline, b""):
            call = protocol.Call.decode(line)
            work = table[call.name]
            try:
                with filesystem.guarded(f"{call.name} of {service}"):
                    if call.name in IN_BULK:
                        result = bulk.submit(work, call.arguments).result()
                    else:
                        result = work(call.arguments)
                said = protocol.answer(result)
            except PerdureError as error:
                said = protocol.refusal(error)
            output.write(said)
            output.flush()


def _die_with_parent() -> None:
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _yield_to_others() -> None:
    """For the calling thread alone."""
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)
    number = IOPRIO_SET.get(platform.machine())
    if number is not None and sys.platform == "linux":
        ctypes.CDLL(None).syscall(number, 1, 0, IDLE_IO)


if __name__ == "__main__":
    main(sys.argv[1:])
