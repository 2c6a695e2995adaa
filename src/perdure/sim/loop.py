"""An event loop on virtual time: waiting costs nothing, and the same calls come in the same order every time.

The control shell runs on it unchanged. When nothing is ready, time jumps to the next timer; when there is no timer
either, everybody waits for everybody, and that is an error. Each callback belongs to the context that it was made in;
a context that is frozen keeps its callbacks until it thaws, as a process does that got SIGSTOP. There are no sockets,
no threads and no real clock here, so `asyncio.SelectorEventLoop` would bring only a selector that must never be asked.
Neighbours: `daemon` owns the contexts, `world` the timers of everything outside of them.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

OWNER: ContextVar[int] = ContextVar("owner", default=0)
"""Whose callbacks run: the number of a simulated daemon, or 0 for the world around it."""


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: whoever still waits, waits for ever."""


class Call(asyncio.TimerHandle):
    """One callback that is due at `due_at`; smaller than asyncio's, which a simulation makes by the million."""

    __slots__ = ("arguments", "dropped", "due_at", "function", "place")

    def __init__(self, due_at: float, function: Callable[..., object], arguments: Any, place: Context | None) -> None:
        self.due_at = due_at
        self.function = function
        self.arguments = arguments
        self.place = copy_context() if place is None else place
        self.dropped = False

    def cancel(self) -> None:
        """Never run it."""
        self.dropped = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.dropped

    def when(self) -> float:
        """The virtual instant at which it is due."""
        return self.due_at

    def __repr__(self) -> str:
        return f"Call({self.function!r} at {self.due_at:.6f})"

    def __del__(self) -> None:
        """Nothing to release."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in order of virtual time, then in the order in which they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._due: deque[Call] = deque()
        self._later: list[tuple[float, int, Call]] = []
        self._number = 0
        self._frozen: set[int] = set()
        self._held: list[Call] = []
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self.errors: list[str] = []
        """Exceptions that nobody caught, as sentences: bugs of whoever runs on this loop."""
        self.callbacks = 0
        self._world = copy_context()
        self._world.run(OWNER.set, 0)

    # Running

    def outside(self, act: Callable[[], T]) -> T:
        """Do something for a daemon whose timers belong to the world: they go on when the daemon is frozen or dead."""
        return act() if OWNER.get() == 0 else self._world.run(act)

    def run_until_at(self, at: float) -> None:
        """Run everything that is due up to virtual instant `at`; DeadlockError when nothing is left to wait for."""
        asyncio._set_running_loop(self)
        try:
            while self._turn(at):
                pass
        finally:
            asyncio._set_running_loop(None)
        self._now = max(self._now, at)

    def _turn(self, at: float) -> bool:
        ready, timers = self._due, self._later
        if not ready:
            while timers and timers[0][2].dropped:
                heapq.heappop(timers)
            if not timers:
                raise DeadlockError(f"at {self._now:.3f} s nothing is ready and no timer is set")
            if timers[0][0] > at:
                return False
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            call = ready.popleft()
            if call.dropped:
                continue
            if self._frozen and call.place.get(OWNER, 0) in self._frozen:
                self._held.append(call)
                continue
            self.callbacks += 1
            self._run(call)
        return True

    def _run(self, call: Call) -> None:
        try:
            call.place.run(call.function, *call.arguments)
        except Exception as error:  # noqa: BLE001  a task root: it must not end the world, the run is judged by it
            self.errors.append(f"{getattr(call.function, '__qualname__', call.function)} raised {error!r}")

    def freeze(self, owner: int) -> None:
        """Hold back the callbacks of this owner from now on."""
        self._frozen.add(owner)

    def thaw(self, owner: int) -> None:
        """Let this owner go on: what was due meanwhile runs now, in the order in which it became due."""
        self._frozen.discard(owner)
        held, self._held = self._held, []
        self._due.extendleft(reversed(held))

    def settle(self) -> None:
        """Run what is ready now, without letting time pass."""
        asyncio._set_running_loop(self)
        try:
            while self._due:
                self._turn(self._now)
        finally:
            asyncio._set_running_loop(None)

    def cancel(self, owner: int) -> None:
        """Cancel every task of this owner."""
        for task in [task for task, whose in self._tasks.items() if whose == owner]:
            task.cancel()

    def unfinished(self) -> list[str]:
        """The names of all tasks that have not ended."""
        return [task.get_name() for task in self._tasks if not task.done()]

    # What asyncio asks of a loop

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run it in the next turn."""
        call = Call(self._now, callback, args, context)
        self._due.append(call)
        return call

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run it at virtual instant `when`."""
        call = Call(when, callback, args, context)
        self._number += 1
        heapq.heappush(self._later, (when, self._number, call))
        return call

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run it after `delay` virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        assert asyncio.iscoroutine(coro)
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        self._tasks[task] = OWNER.get() if context is None else context.get(OWNER, 0)
        task.add_done_callback(self._tasks.pop, context=self._world)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what nobody caught."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """Always off: asyncio's own checks read the real clock."""
        return False

    def is_running(self) -> bool:
        """Whether a turn is under way."""
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        """Never: there is nothing to close."""
        return False

    def __del__(self) -> None:
        """Nothing to release."""
