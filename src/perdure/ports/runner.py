"""The runner starts, watches and ends the processes of replicas on this host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.model.replica import Exit, Process, Slot
from perdure.model.service import Service


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start: run `run` of `slot`. `environment` is what Perdure adds to the service's own (PORT and so
    on).
    """

    service: Service
    slot: Slot
    run: int
    port: int
    environment: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the kernel says of a process: state letter of /proc/PID/stat (`R`, `S`, `D`, `T`, `t`, `Z`), or `X` when
    it is gone.
    """

    letter: str
    descriptors: int = 0
    """Open ones, of that process of the group which is nearest to its limit."""
    descriptors_max: int = 0
    """0: there is no limit, or nobody asked."""


OnExit = Callable[[Process, Exit], None]


class Runner(Protocol):
    """No method blocks longer than a fork. A process group is the replica's own session: all its children count."""

    def start(self, launch: Launch, on_exit: OnExit) -> Process:
        """Start the process and return at once; `on_exit` is called once, from the event loop, when its first process
        has ended. Raises UnavailableError when the system cannot start a process. What is wrong with the program
        itself
        (missing, not executable, no such directory) shows as exit code 126 or 127 with a sentence in its log."""

    def adopt(self, process: Process, on_exit: OnExit) -> bool:
        """Watch a process that an earlier daemon started; False when it is gone, or the pid now belongs to another
        one.
        """

    def recorded(self, slot: Slot) -> Process | None:
        """The last process that was launched in this slot, as the process itself noted before it ran the command; so
        that
        a daemon that died between starting and recording it still finds it. May be gone by now (`adopt` tells)."""

    def signal(self, process: Process, signal: str) -> None:
        """Send a signal (by name, `SIGTERM`) to every process of the group; nothing happens when all are gone."""

    def group_alive(self, process: Process) -> bool:
        """Whether any process of the group, the first one or a child, still exists (zombies do not count)."""

    def sight(self, process: Process, descriptors: bool = False) -> Sight:
        """Look at the first process of the group; costs one small file of /proc, and some 20 microseconds more for the
        descriptors of it and its children.
        """

    def group_memory(self, processes: Sequence[Process]) -> Sequence[int]:
        """Resident bytes of each group, in the order asked, from one pass over /proc."""

    def owns_port(self, process: Process, port: int) -> bool:
        """Whether a process of this group listens on TCP `port` of this machine."""

    def free_port(self, ports: range, taken: frozenset[int]) -> int:
        """A port of the range that is not in `taken` and that nobody listens on now; UnavailableError when there is
        none.
        """

    def last_lines(self, slot: Slot, count: int) -> Sequence[str]:
        """The last lines that the slot's replicas wrote, oldest first, decoded with replacement, long lines cut."""

    def rotate_logs(self, slot: Slot, size_bytes: int, count: int) -> bool:
        """Rotate the slot's log when it is larger than `size_bytes`, keeping `count` old ones; True when it was
        rotated.
        """
