"""The simulated machine's processes: who lives, who listens where, what a signal does, and who is told of an end.

A replica is a first process and perhaps children in the same group. How a program behaves (how long it boots, whether
it heeds SIGTERM, which answers it gives) is a `Behaviour`, which faults change. Neighbours: `runner` and `prober` are
the daemon's view of this, `haproxy` the clients'; `world` puts them together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from perdure.model.replica import Exit, Process, Slot
from perdure.sim.link import Network
from perdure.sim.loop import VirtualLoop

NOTE_AFTER_S = 0.002
"""The launcher notes its process on disk this long after the fork, then runs the command."""
EXIT_SEEN_AFTER_S = 0.001
KILL_S = 0.02
"""The kernel takes up to this long to end a group that was killed."""


class Reply(StrEnum):
    """What somebody gets who asks at a port."""

    GOOD = "good"
    REFUSED = "refused"
    HANG = "hang"
    ERROR = "error"
    WRONG = "wrong content"
    FOREIGN = "foreign"


@dataclass(slots=True)
class Behaviour:
    """What a program does; shares are of requests, in [0, 1]."""

    boot_s: float = 0.4
    crash_after_s: float | None = None
    """It ends by itself this long after its start."""
    ignores_term: bool = False
    stop_s: float = 0.05
    """How long it takes to heed SIGTERM."""
    children: int = 0
    error_share: float = 0.0
    wrong_content: bool = False
    data: str = "same"
    """What it says when it is asked for a digest of its data."""
    single_errors: int = 0
    """So many of the next questions of the monitor are answered with an error."""


@dataclass(slots=True, eq=False)
class Runs:
    """One process group that was started for a slot; `waiting` are told when it can answer again, or died."""

    process: Process
    slot: Slot
    run: int
    port: int
    behaviour: Behaviour
    started_at: float
    alive: bool = True
    children: int = 0
    listening: bool = False
    stopped_since_at: float | None = None
    deadlocked_at: float | None = None
    rested_until_at: float = 0.0
    """It is not paused again before."""
    ended_at: float | None = None
    term_pending: bool = False
    on_exit: Callable[[Process, Exit], None] | None = None
    waiting: list[Callable[[Reply], None]] = field(default_factory=list)

    @property
    def hangs_since_at(self) -> float | None:
        """Since when it has not answered, although it listens; None: it does."""
        return self.stopped_since_at if self.stopped_since_at is not None else self.deadlocked_at

    @property
    def well(self) -> bool:
        """Whether it answers."""
        return self.listening and self.hangs_since_at is None

    @property
    def group_alive(self) -> bool:
        """Whether the first process or a child lives."""
        return self.alive or self.children > 0

    @property
    def name(self) -> str:
        """The name of the run, as the control shell writes it."""
        return f"{self.slot}#{self.run}"


@dataclass(slots=True)
class Kernel:
    """All processes, by pid; `on_spawn` and `on_end` are told of each first process."""

    loop: VirtualLoop
    random: Random
    on_spawn: Callable[[Runs], None]
    on_end: Callable[[Runs], None]
    runs: dict[int, Runs] = field(default_factory=dict)
    noted: dict[Slot, Process] = field(default_factory=dict)
    """What the launchers wrote down."""
    strangers: set[int] = field(default_factory=set)
    """Ports on which processes listen that are not Perdure's."""
    network: Network = field(init=False)
    """Between whoever asks and the replicas."""
    _pid: int = 1000
    _living: dict[int, Runs] = field(default_factory=dict)
    _listening: dict[int, Runs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = Network(self.random)

    def new_process(self) -> Process:
        """A pid and start tick that nobody has."""
        self._pid += 1
        return Process(self._pid, int(self.loop.time() * 100))

    def spawn(self, slot: Slot, run: int, port: int, behaviour: Behaviour) -> Runs:
        """Start a process group."""
        process = self.new_process()
        one = Runs(process, slot, run, port, behaviour, self.loop.time(), children=behaviour.children)
        self.runs[process.pid] = one
        self._living[process.pid] = one
        self.loop.call_later(NOTE_AFTER_S, self._note, one)
        self.loop.call_later(NOTE_AFTER_S + behaviour.boot_s, self._booted, one)
        if behaviour.crash_after_s is not None:
            self.loop.call_later(NOTE_AFTER_S + behaviour.crash_after_s, self.end, one, Exit(code=1))
        self.on_spawn(one)
        return one

    def living(self) -> list[Runs]:
        """Every group of which something lives, oldest first."""
        return list(self._living.values())

    def of(self, process: Process) -> Runs | None:
        """The group of a process; None when the pid belongs to nobody, or to another one."""
        one = self.runs.get(process.pid)
        return one if one is not None and one.process == process else None

    def in_slot(self, slot: Slot) -> Runs | None:
        """The newest living group of a slot."""
        found = [one for one in self._living.values() if one.slot == slot and one.alive]
        return found[-1] if found else None

    def at_port(self, port: int) -> Runs | None:
        """Who of the replicas listens at a port."""
        return self._listening.get(port)

    def reply(self, port: int) -> Reply:
        """What somebody who asks at this port gets, errors of single requests aside."""
        one = self._listening.get(port)
        if one is None:
            return Reply.FOREIGN if port in self.strangers else Reply.REFUSED
        if one.hangs_since_at is not None:
            return Reply.HANG
        return Reply.WRONG if one.behaviour.wrong_content else Reply.GOOD

    def send(self, one: Runs, signal: str) -> None:
        """Send a signal to the whole group."""
        match signal:
            case "SIGKILL":
                self.loop.call_later(KILL_S * self.random.random(), self._killed, one)
            case "SIGSTOP":
                if one.alive and one.stopped_since_at is None:
                    one.stopped_since_at = self.loop.time()
            case "SIGCONT":
                self._go_on(one)
            case _:
                self._terminate(one, signal)

    def end(self, one: Runs, exit_: Exit) -> None:
        """The first process ends; children live on unless the group was killed."""
        if not one.alive:
            self._forget(one)
            return
        one.alive, one.listening, one.stopped_since_at = False, False, None
        one.ended_at = self.loop.time()
        if self._listening.get(one.port) is one:
            del self._listening[one.port]
        self._forget(one)
        self.on_end(one)
        self._tell(one, Reply.REFUSED)
        if one.on_exit is not None:
            self.loop.call_later(EXIT_SEEN_AFTER_S, self._report, one, exit_)

    def _killed(self, one: Runs) -> None:
        one.children = 0
        self.end(one, Exit(signal="SIGKILL"))

    def _report(self, one: Runs, exit_: Exit) -> None:
        if one.on_exit is not None:
            one.on_exit(one.process, exit_)

    def _note(self, one: Runs) -> None:
        self.noted[one.slot] = one.process

    def _booted(self, one: Runs) -> None:
        if not one.alive:
            return
        if one.port in self.strangers or one.port in self._listening:
            if self.random.random() < 0.5:
                self.end(one, Exit(code=98))
            return
        one.listening = True
        self._listening[one.port] = one

    def _terminate(self, one: Runs, signal: str) -> None:
        if one.behaviour.ignores_term:
            return
        if one.stopped_since_at is not None:
            one.term_pending = True
            return
        one.children = 0
        self._forget(one)
        self.loop.call_later(one.behaviour.stop_s, self.end, one, Exit(signal=signal))

    def _go_on(self, one: Runs) -> None:
        if one.stopped_since_at is None:
            return
        one.stopped_since_at = None
        if one.term_pending:
            self._terminate(one, "SIGTERM")
        if one.well:
            self._tell(one, self.reply(one.port))

    def _tell(self, one: Runs, reply: Reply) -> None:
        waiting, one.waiting = one.waiting, []
        for callback in waiting:
            callback(reply)

    def _forget(self, one: Runs) -> None:
        if not one.group_alive:
            self._living.pop(one.process.pid, None)
