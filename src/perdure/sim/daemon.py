"""The simulated daemon: the control shell as it is, on simulated ports; it can be killed, stopped, and started again.

What `control.daemon` does around the shell (taking over, applying the file, running the tasks) is done here in the same
order; what it does with signals, sockets and the API is left out. Neighbours: `life` is one run of it, `world` holds
what outlives it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog

from perdure.control import adopt, assemble, follow, journal
from perdure.control.agent import Agent
from perdure.control.assemble import Desk
from perdure.control.surroundings import Surroundings
from perdure.model.errors import PerdureError
from perdure.model.event import Event
from perdure.model.replica import Slot
from perdure.model.service import Deployment
from perdure.ports.role import Duty
from perdure.sim.balancer import Front, SimulatedBalancer
from perdure.sim.bundles import NoBundles
from perdure.sim.clock import SimulatedClock
from perdure.sim.keeper import SimulatedKeeper, SimulatedShelf
from perdure.sim.kernel import Behaviour, Kernel
from perdure.sim.life import KilledError, Life
from perdure.sim.loop import VirtualLoop
from perdure.sim.prober import SimulatedProber
from perdure.sim.roles import SimulatedRoles
from perdure.sim.runner import SimulatedHost, SimulatedRunner
from perdure.sim.store import Shelf, SimulatedStore

START_AGAIN_S = 1.0
SILENT = logging.CRITICAL
"""Above every level that the shell logs at."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a daemon finds when it starts; `behaviour_of` is for the runner, `deployment` reads the file."""

    loop: VirtualLoop
    clock: SimulatedClock
    random: Random
    kernel: Kernel
    shelf: Shelf
    front: Front
    behaviour_of: Callable[[Slot, int], Behaviour]
    deployment: Callable[[], Deployment]
    note: Callable[[str], None]
    """Write a line to the trace."""
    states: SimulatedShelf = field(default_factory=SimulatedShelf)
    roles: dict[str, Duty] = field(default_factory=dict)


@dataclass(slots=True)
class SimulatedDaemon:
    """One daemon after the other; `agent` and `desk` are None until one has taken over."""

    machine: Machine
    life: Life | None = None
    agent: Agent | None = None
    desk: Desk | None = None
    frozen: bool = False
    ready_at: float | None = None
    """Since when the present one works undisturbed; None: there is none, or it is stopped."""
    _number: int = 0
    _jobs: dict[asyncio.Task[Any], None] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether one lives, stopped or not."""
        return self.life is not None and self.life.alive

    def start(self) -> None:
        """Start the next one, unless one lives: the lock on the directory refuses a second."""
        if self.running:
            return
        self._number += 1
        self.machine.note(f"daemon {self._number} starts")
        life = Life(self._number, self._burnt)
        self.life, self.agent, self.desk, self.frozen = life, None, None, False
        self._spawn(life, self._serve(life), "daemon")

    def kill(self) -> None:
        """SIGKILL: whatever it was doing, it does no more."""
        life = self.life
        if life is None or not life.alive:
            return
        life.alive = False
        self._bury(life)

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.life is not None and self.life.alive:
            self.frozen, self.ready_at = True, None
            self.machine.loop.freeze(self.life.number)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.life is not None and self.frozen:
            self.frozen = False
            self.machine.loop.thaw(self.life.number)
            if self.life.alive:
                self.ready_at = self.machine.loop.time()

    def ask(self, command: Callable[[Desk], Coroutine[Any, Any, object]], done: Callable[[str], None]) -> bool:
        """Let a user's command reach the daemon; `done` gets the outcome: empty when it was acknowledged."""
        if self.life is None or not self.life.alive or self.desk is None or self.frozen:
            return False
        self._spawn(self.life, _commanded(command(self.desk), done), "command")
        return True

    async def _serve(self, life: Life) -> None:
        """What `control.daemon` does, in the same order."""
        machine = self.machine
        store = SimulatedStore(machine.shelf, life)
        parts = assemble.Parts(
            machine.clock,
            store,
            SimulatedRunner(machine.kernel, life, machine.behaviour_of),
            SimulatedHost(),
            SimulatedProber(machine.kernel, machine.random, life),
            SimulatedBalancer(machine.front, life),
            SimulatedRoles(machine.kernel, life, machine.roles),
            SimulatedKeeper(machine.states, machine.clock, life.act),
            machine.random.random,
            NoBundles(),
            lambda service: None,
        )
        deployment = machine.deployment()
        agent = assemble.agent(parts, deployment.ports, Surroundings())
        desk = assemble.desk(agent, parts)
        try:
            revision = await adopt.adopt(agent, store, sorted(self.machine.kernel.noted))
            await desk.controller.apply(deployment, starting=True)
        except PerdureError as error:
            machine.note(f"daemon {life.number} gives up: {error.sentence}")
            machine.loop.outside(self.kill)
            machine.loop.outside(lambda: machine.loop.call_later(START_AGAIN_S, self.start))
            return
        self.agent, self.desk = agent, desk
        self.ready_at = machine.loop.time()
        for name, job in {
            "follow what is wanted": follow.follow(agent, store, revision),
            "write to the store": agent.recorder.run(),
            "note that the monitor runs": agent.monitor.tick(),
            "listen to its echo": agent.monitor.listen(),
            "look at the processes": agent.monitor.look(),
            "survey the services": agent.surveyor.run(),
            "carry the traffic": agent.carrier.run(),
            "turn the loop": agent.run(),
            "keep the terms": agent.owners.run(),
            "preserve state": agent.preserver.run(),
            "carry out rollouts": desk.rollouts.run(),
            "watch what goes back": desk.rollbacks.run(),
        }.items():
            self._spawn(life, job, name)

    def _spawn(self, life: Life, job: Coroutine[Any, Any, Any], name: str) -> None:
        task = self.machine.loop.create_task(job, name=name, context=life.context)
        self._jobs[task] = None
        task.add_done_callback(lambda done: self._ended(life, done), context=life.context)

    def _ended(self, life: Life, task: asyncio.Task[Any]) -> None:
        self._jobs.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, KilledError):
            self.machine.loop.errors.append(f"the task '{task.get_name()}' of the daemon ended: {error!r}")
            if life.alive:
                self.machine.loop.outside(self.kill)

    def _burnt(self) -> None:
        """The fuse of the present life is at its end."""
        life = self.life
        assert life is not None
        self.machine.note(f"daemon {life.number} is killed between two acts")
        self.machine.loop.outside(lambda: self.machine.loop.call_soon(self._bury, life))

    def _bury(self, life: Life) -> None:
        loop = self.machine.loop
        if self.life is life:
            self.agent, self.desk, self.frozen, self.ready_at = None, None, False, None
            self.machine.front.held = False
            current = self.machine.front.current
            if current is None or not current.alive:
                self.machine.front.refuse_backlog()
        loop.thaw(life.number)
        loop.cancel(life.number)


async def _commanded(command: Coroutine[Any, Any, object], done: Callable[[str], None]) -> None:
    try:
        await command
    except PerdureError as error:
        done(error.sentence)
    else:
        done("")


@contextlib.contextmanager
def overheard(listen: Callable[[Event], None]) -> Iterator[None]:
    """Hear every event that the agent records, at the virtual instant at which it is decided; its log is silent."""
    write, before = journal.write, structlog.get_config()

    def hear(events: Sequence[Event]) -> None:
        for event in events:
            listen(event)

    journal.write = hear
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(SILENT))
    try:
        yield
    finally:
        journal.write = write
        structlog.configure(**before)
