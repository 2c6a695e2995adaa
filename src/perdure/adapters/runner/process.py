"""The runner on real processes: each replica is a session of its own, watched through a pidfd, and outlives the daemon.

`control.execute` calls it; `spawn` and `launcher` start a process, `group` finds and ends all that descends from it.
What is kept here is only how to watch, so that a daemon that starts again adopts every process by pid and start time.
"""

import asyncio
import json
import os
import signal
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.adapters.runner import group, holding, listening, logs, spawn, stat
from perdure.model.errors import UnavailableError
from perdure.model.replica import Exit, Process, Slot
from perdure.ports.runner import Launch, OnExit, Sight


@dataclass(frozen=True, slots=True)
class _Watch:
    """One watched process; both descriptors stay bound to it when its pid is used again."""

    process: Process
    exit_descriptor: int
    letter_descriptor: int
    on_exit: OnExit


def noted(run_directory: Path) -> Sequence[Slot]:
    """The slots whose launchers have written something down there."""
    names = (path.stem.rpartition(".") for path in run_directory.glob("*.*.json"))
    return sorted(Slot(service, int(number)) for service, _, number in names if number.isdecimal())


class Processes:
    """Implements `ports.runner.Runner`; every process costs the daemon two descriptors. Not for several threads.

    `rotate_logs` and `last_lines` touch only files: another thread may call them when a log is large.
    """

    def __init__(self, run_directory: Path, log_directory: Path) -> None:
        self._run_directory = run_directory.absolute()
        self._log_directory = log_directory.absolute()
        for directory in (self._run_directory, self._log_directory):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._watches: dict[int, _Watch] = {}
        self._groups = group.Groups(self._watches)
        self._boot_id = spawn.boot_id()
        # Several daemons on one host should not all try the same ports first.
        self._next_port = zlib.crc32(os.fsencode(self._run_directory))

    def start(self, launch: Launch, on_exit: OnExit) -> Process:
        """Start it in a session of its own; see the port for what is raised and what shows in the log."""
        pid = spawn.spawn(launch, self._record(launch.slot), self._log(launch.slot))
        seen = stat.read(pid)
        assert seen is not None, "a child that nobody has waited for is always in /proc"
        process = Process(pid, seen.started_ticks)
        try:
            self._watch(process, on_exit)
        except OSError as error:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise UnavailableError(
                f"cannot watch {launch.slot}: {error.strerror}", "raise the daemon's limit on open files"
            ) from error
        return process

    def adopt(self, process: Process, on_exit: OnExit) -> bool:
        """Watch what an earlier daemon started; its exit status will be unknown, for only a parent may ask for it."""
        try:
            self._watch(process, on_exit)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise UnavailableError(
                f"cannot watch process {process.pid}: {error.strerror}", "raise the daemon's limit on open files"
            ) from error
        # Asked only now that the descriptors hold on to the process: whatever has this pid can no longer change.
        seen = stat.read(process.pid)
        if seen is None or seen.started_ticks != process.started_ticks or seen.letter in stat.GONE:
            self._forget(self._watches[process.pid])
            return False
        return True

    def recorded(self, slot: Slot) -> Process | None:
        """The slot's last process, as its launcher wrote it down on this boot of the machine."""
        try:
            record = json.loads(self._record(slot).read_bytes())
            process = Process(int(record["pid"]), int(record["started_ticks"]))
            return process if record["boot_id"] == self._boot_id else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def signal(self, process: Process, signal: str) -> None:
        """Send a signal to the whole group, strays in other sessions too."""
        self._groups.send(process, _signal_number(signal))

    def group_alive(self, process: Process) -> bool:
        """Whether any process of the group runs; one /proc file while the first one does."""
        return self._groups.alive(process)

    def sight(self, process: Process, descriptors: bool = False) -> Sight:
        """Look at the first process of the group, and perhaps at its children's descriptors."""
        watch = self._watches.get(process.pid)
        if watch is not None and watch.process == process:
            letter = stat.read_letter(watch.letter_descriptor)
        else:
            seen = stat.read(process.pid)
            letter = "X" if seen is None or seen.started_ticks != process.started_ticks else seen.letter
        return Sight(letter, *holding.descriptors(process.pid)) if descriptors else Sight(letter)

    def group_memory(self, processes: Sequence[Process]) -> Sequence[int]:
        """Resident bytes of each group's session."""
        return self._groups.memory(processes)

    def owns_port(self, process: Process, port: int) -> bool:
        """Whether a process of the group, parent or worker, holds a socket that listens on `port`."""
        sockets = listening.inodes(port)
        return bool(sockets) and (
            listening.hold(self._groups.members(process), sockets)
            or listening.hold(self._groups.strays(process), sockets)
        )

    def free_port(self, ports: range, taken: frozenset[int]) -> int:
        """A port that can be bound on every address, from after the one given last on."""
        port = listening.free(ports, taken, self._next_port % max(1, len(ports)))
        if port is None:
            raise UnavailableError(
                f"no port from {ports.start} to {ports.stop - 1} is free", "widen the range of `ports`"
            )
        self._next_port = ports.index(port) + 1
        return port

    def last_lines(self, slot: Slot, count: int) -> Sequence[str]:
        """The last lines of the slot's log."""
        return logs.last_lines(self._log(slot), count)

    def rotate_logs(self, slot: Slot, size_bytes: int, count: int) -> bool:
        """Rotate the slot's log when it is too large; takes some milliseconds for 10 MB."""
        return logs.rotate(self._log(slot), size_bytes, count)

    def close(self) -> None:
        """Watch no longer; all processes go on."""
        for watch in list(self._watches.values()):
            self._forget(watch)

    def _record(self, slot: Slot) -> Path:
        return self._run_directory / f"{slot.service}.{slot.number}.json"

    def _log(self, slot: Slot) -> Path:
        return self._log_directory / f"{slot.service}.{slot.number}.log"

    def _watch(self, process: Process, on_exit: OnExit) -> None:
        earlier = self._watches.get(process.pid)
        if earlier is not None:
            self._forget(earlier)
        exit_descriptor = os.pidfd_open(process.pid)
        try:
            letter_descriptor = stat.open_letter(process.pid)
        except FileNotFoundError as error:
            os.close(exit_descriptor)
            raise ProcessLookupError(*error.args) from error
        except OSError:
            os.close(exit_descriptor)
            raise
        watch = _Watch(process, exit_descriptor, letter_descriptor, on_exit)
        self._watches[process.pid] = watch
        asyncio.get_running_loop().add_reader(exit_descriptor, self._ended, watch)

    def _ended(self, watch: _Watch) -> None:
        ended = _reap(watch.exit_descriptor)
        self._forget(watch)
        watch.on_exit(watch.process, ended)

    def _forget(self, watch: _Watch) -> None:
        asyncio.get_running_loop().remove_reader(watch.exit_descriptor)
        os.close(watch.exit_descriptor)
        os.close(watch.letter_descriptor)
        del self._watches[watch.process.pid]


def _reap(descriptor: int) -> Exit:
    try:
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return Exit()  # adopted: its status is its parent's
    if result is None:
        return Exit()
    if result.si_code == os.CLD_EXITED:
        return Exit(code=result.si_status)
    try:
        return Exit(signal=signal.Signals(result.si_status).name)
    except ValueError:
        return Exit(signal=f"SIG{result.si_status}")  # a real-time signal


def _signal_number(name: str) -> signal.Signals:
    return signal.Signals[name]
