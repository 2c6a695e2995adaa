"""One run of the simulated daemon: its context on the loop, and the moment at which it dies.

A SIGKILL can come between any two acts, so every port asks `act` before it does something: a fuse that was lit
burns by one act each time, and at the end of it the daemon is dead, with whatever it had done. Neighbours: `daemon`
makes lives and ends them; the ports (`runner`, `prober`, `store`, `balancer`) ask.
"""

from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from perdure.sim.loop import OWNER


class KilledError(BaseException):
    """The daemon that called a port is dead. No Exception, so that no handler of the daemon catches it."""


def context_of(number: int) -> Context:
    """A context whose callbacks belong to daemon `number`; 0 is the world."""
    context = copy_context()
    context.run(OWNER.set, number)
    return context


@dataclass(slots=True)
class Life:
    """Daemon `number`, from its start until it is killed; `on_burnt` is told when the fuse kills it."""

    number: int
    on_burnt: Callable[[], None]
    context: Context = field(init=False)
    alive: bool = True
    fuse: int | None = None
    """Acts that are left until it dies; None: it lives on."""

    def __post_init__(self) -> None:
        self.context = context_of(self.number)

    def check(self) -> None:
        """Raise KilledError when the caller is dead; for calls that change nothing."""
        if not self.alive:
            raise KilledError

    def act(self) -> None:
        """The same for calls that change something; burns the fuse."""
        self.check()
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.alive = False
                self.on_burnt()
                raise KilledError
