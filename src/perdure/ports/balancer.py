"""The balancer carries the traffic; Perdure only tells it where."""

from collections.abc import Callable, Sequence
from typing import Protocol

from perdure.model.replica import Process
from perdure.model.traffic import BackendSpec, BalancerChange, Reading


class Balancer(Protocol):
    """All failures to reach it are UnavailableError; it goes on serving with what it was told last."""

    async def configure(self, backends: Sequence[BackendSpec]) -> Process:
        """Make the running configuration equal to `backends`: nothing when it is already; otherwise validate the new
        one (ConfigError when HAProxy refuses it; the old one goes on) and let a new process take over the listening
        sockets without refusing a connection. Servers of the new process start in MAINT; the caller puts replicas in.
        Returns when
        the new process accepts traffic. Also starts it when none runs, and after a death."""

    async def adopt(self, process: Process, backends: Sequence[BackendSpec]) -> bool:
        """Take over a balancer that an earlier daemon started, with its listening sockets; False when it is gone."""

    async def read(self) -> Reading:
        """All servers and counters, in one exchange."""

    async def change(self, changes: Sequence[BalancerChange]) -> None:
        """Apply in order, removals before additions; each may be repeated. Raises when any reply holds an error."""

    def on_exit(self, callback: Callable[[], None]) -> None:
        """`callback` is called from the event loop when the current process has ended."""

    def kill(self) -> None:
        """End the current process at once (it hangs); `on_exit` follows."""

    async def stop(self) -> None:
        """End the balancer and its older processes, and close the listening sockets."""
