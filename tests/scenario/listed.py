"""A host of a transcript: processes are entries of a list."""

import itertools
from collections.abc import Callable, Mapping, Sequence

from perdure.model.evidence import Space
from perdure.model.replica import Exit, Process, Slot
from perdure.ports.runner import Launch, OnExit, Sight


class VirtualClock:
    """The clock of the transcript; wall time is the same."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    async def sleep_until(self, at: float) -> None:
        raise AssertionError("a transcript does not wait")


class ListedRunner:
    """Processes as entries of a list: a signal ends them a moment later, unless they ignore it."""

    def __init__(self, later: Callable[[float, Callable[[], None]], None]) -> None:
        self.later = later
        self.alive: dict[int, OnExit] = {}
        self.stubborn: set[int] = set()
        self.pids = itertools.count(100)

    def start(self, launch: Launch, on_exit: OnExit) -> Process:
        process = Process(next(self.pids), 1)
        self.alive[process.pid] = on_exit
        return process

    def adopt(self, process: Process, on_exit: OnExit) -> bool:
        return process.pid in self.alive

    def recorded(self, slot: Slot) -> Process | None:
        return None

    def signal(self, process: Process, signal: str) -> None:
        if signal == "SIGKILL" or process.pid not in self.stubborn:
            self.later(0.05, lambda: self.end(process, Exit(signal=signal)))

    def end(self, process: Process, exit_: Exit) -> None:
        on_exit = self.alive.pop(process.pid, None)
        if on_exit is not None:
            on_exit(process, exit_)

    def group_alive(self, process: Process) -> bool:
        return process.pid in self.alive

    def sight(self, process: Process, descriptors: bool = False) -> Sight:
        return Sight("S" if process.pid in self.alive else "X")

    def group_memory(self, processes: Sequence[Process]) -> Sequence[int]:
        return [0 for _ in processes]

    def owns_port(self, process: Process, port: int) -> bool:
        return True

    def free_port(self, ports: range, taken: frozenset[int]) -> int:
        return next(port for port in ports if port not in taken)

    def last_lines(self, slot: Slot, count: int) -> Sequence[str]:
        return ()

    def rotate_logs(self, slot: Slot, size_bytes: int, count: int) -> bool:
        return False


class ListedHost:
    """Nobody waits to be accepted, and the kernel kills only whom a transcript names."""

    def __init__(self) -> None:
        self.killed_for_memory = 0

    def backlogs(self) -> Mapping[int, tuple[int, int]]:
        return {}

    def oom_kills(self) -> int:
        return self.killed_for_memory

    async def space(self, path: str) -> Space | None:
        raise AssertionError("a transcript says itself how full a disk is")
