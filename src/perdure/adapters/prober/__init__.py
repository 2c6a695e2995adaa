"""The prober: one question to one replica, asked over HTTP, as a TCP connection, or by a command.

`control.monitor` asks through `Probers`, which hands each check to the module of its kind; `failure` says what a
connection error means. All of them talk to the loopback address alone, and take nothing from the daemon's environment.
"""

from perdure.adapters.prober import tcp
from perdure.adapters.prober.command import Commands
from perdure.adapters.prober.echo import Echo
from perdure.adapters.prober.http import Requests
from perdure.model.check import Check, CheckKind
from perdure.ports.prober import Answer, Target


class Probers:
    """Implements `ports.prober.Prober`.

    Raises UnavailableError when this daemon itself has no descriptor, memory or process to ask with: that says nothing
    of the target, so it is no answer.
    """

    def __init__(self) -> None:
        self._requests = Requests()
        self._commands = Commands()
        self._echo = Echo()

    async def probe(self, check: Check, target: Target, timeout_s: float, twice: bool = False) -> Answer:
        """Ask; `twice` matters to HTTP alone, for the other kinds keep no connection."""
        match check.kind:
            case CheckKind.HTTP:
                return await self._requests.probe(check, target, timeout_s, twice)
            case CheckKind.TCP:
                return await tcp.probe(target, timeout_s, check.tls)
            case CheckKind.COMMAND:
                return await self._commands.probe(check, target, timeout_s)

    async def echo(self, timeout_s: float) -> bool:
        """Ask this daemon itself."""
        return await self._echo.ask(timeout_s)

    async def close(self) -> None:
        """Close what is open and end what is left of command checks."""
        await self._requests.close()
        await self._echo.close()
        await self._commands.close()
