"""The daemon's hands on simulated processes: `ports.runner.Runner` over the `kernel`, for one life of the daemon."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perdure.model.errors import UnavailableError
from perdure.model.evidence import Space, Tasks
from perdure.model.replica import Exit, Process, Slot
from perdure.ports.runner import Launch, OnExit, Sight
from perdure.sim.kernel import Behaviour, Kernel, Runs
from perdure.sim.life import Life


@dataclass(slots=True)
class SimulatedRunner:
    """Keeps the port's contract; `behaviour_of` says how the next program of a slot behaves."""

    kernel: Kernel
    life: Life
    behaviour_of: Callable[[Slot, int], Behaviour]
    """Given the slot and the port."""

    def start(self, launch: Launch, on_exit: OnExit) -> Process:
        """Fork; the fuse may burn before, or right after."""
        self.life.act()
        behaviour = self.behaviour_of(launch.slot, launch.port)
        kernel, life = self.kernel, self.life
        one = kernel.loop.outside(lambda: kernel.spawn(launch.slot, launch.run, launch.port, behaviour))
        self._watch(one, on_exit)
        life.act()
        return one.process

    def adopt(self, process: Process, on_exit: OnExit) -> bool:
        """Watch what an earlier daemon started."""
        self.life.check()
        one = self.kernel.of(process)
        if one is None or not one.alive:
            return False
        self._watch(one, on_exit)
        return True

    def recorded(self, slot: Slot) -> Process | None:
        """What the slot's launcher noted last."""
        self.life.check()
        return self.kernel.noted.get(slot)

    def signal(self, process: Process, signal: str) -> None:
        """Send a signal to the group."""
        self.life.act()
        one = self.kernel.of(process)
        if one is not None and one.group_alive:
            kernel = self.kernel
            kernel.loop.outside(lambda: kernel.send(one, signal))

    def group_alive(self, process: Process) -> bool:
        """Whether any process of the group lives."""
        self.life.check()
        one = self.kernel.of(process)
        return one is not None and one.group_alive

    def sight(self, process: Process, descriptors: bool = False) -> Sight:
        """The state letter of the first process; simulated programs have few descriptors."""
        self.life.check()
        one = self.kernel.of(process)
        if one is None or not one.alive:
            return Sight("X")
        return Sight("T" if one.stopped_since_at is not None else "S", *((10, 1024) if descriptors else ()))

    def group_memory(self, processes: Sequence[Process]) -> Sequence[int]:
        """Simulated programs are small."""
        self.life.check()
        return [1_000_000 for _ in processes]

    def owns_port(self, process: Process, port: int) -> bool:
        """Whether the process listens there."""
        self.life.check()
        owner = self.kernel.at_port(port)
        return owner is not None and owner.process == process

    def free_port(self, ports: range, taken: frozenset[int]) -> int:
        """The first port of the range that is free."""
        self.life.check()
        for port in ports:
            if port not in taken and port not in self.kernel.strangers and self.kernel.at_port(port) is None:
                return port
        raise UnavailableError("no port is free", "widen the range")

    def last_lines(self, slot: Slot, count: int) -> Sequence[str]:
        """Simulated programs write one line."""
        self.life.check()
        return [f"a line of {slot}"][:count]

    def rotate_logs(self, slot: Slot, size_bytes: int, count: int) -> bool:
        """Simulated logs stay small."""
        return False

    def _watch(self, one: Runs, on_exit: OnExit) -> None:
        life, loop = self.life, self.kernel.loop

        def ended(process: Process, exit_: Exit) -> None:
            if life.alive:
                loop.call_soon(on_exit, process, exit_, context=life.context)

        one.on_exit = ended


class SimulatedHost:
    """Keeps the contract of `ports.host.Host`: every program accepts at once, and there is memory enough."""

    def backlogs(self) -> Mapping[int, tuple[int, int]]:
        """Nobody waits."""
        return {}

    def oom_kills(self) -> int:
        """None."""
        return 0

    async def tasks(self, user: str | None) -> Tasks | None:
        """Nobody limits them here."""
        return None

    async def space(self, path: str) -> Space | None:
        """There is always room."""
        return Space(1_000_000_000, 2_000_000_000)
