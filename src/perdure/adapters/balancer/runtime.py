"""HAProxy's runtime socket: one line of commands per connection, one answer, bounded in time.

`haproxy.HAProxy` sends what `commands` wrote, and gives the answers to `statistics`. A connection per exchange costs
about 0.1 ms, and needs no state that could be out of step after a HAProxy that hung. Silence is bounded, not length: on
a starved machine the state of a thousand servers takes long to come, and whoever sends some of it is not hung.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

from perdure.model.errors import UnavailableError

TIMEOUT_S = 1.0
LONGEST_S = 30.0
"""Even an answer that goes on coming is given up after this."""


async def ask(path: Path, line: str, timeout_s: float = TIMEOUT_S) -> str:
    """Send one line and return all of the answer; UnavailableError when nothing of it comes for `timeout_s`."""
    loop = asyncio.get_running_loop()
    until_at = loop.time() + LONGEST_S
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(timeout_s) as silence:
            exchange = _Exchange(line, loop, lambda: silence.reschedule(min(until_at, loop.time() + timeout_s)))
            transport, _ = await loop.create_unix_connection(lambda: exchange, str(path))
            return await exchange.answer
    except TimeoutError as error:
        raise UnavailableError(
            f"HAProxy did not answer for {timeout_s:g} s", "it is ended and started again"
        ) from error
    except OSError as error:
        raise UnavailableError(f"HAProxy cannot be reached: {error}", "it is started again when it ended") from error
    finally:
        if transport is not None:
            transport.abort()


class _Exchange(asyncio.Protocol):
    def __init__(self, line: str, loop: asyncio.AbstractEventLoop, on_progress: Callable[[], None]) -> None:
        self._on_progress = on_progress
        self.answer: asyncio.Future[str] = loop.create_future()
        self._line = line
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the class.
        cast(asyncio.WriteTransport, transport).write(self._line.encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self.answer.done():
            self._on_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer.done():
            return
        if exc is not None or not self._received:
            self.answer.set_exception(exc or ConnectionResetError("it closed the connection"))
            self.answer.exception()
        else:
            self.answer.set_result(self._received.decode(errors="replace"))
