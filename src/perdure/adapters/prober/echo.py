"""The echo: this daemon asks itself over the same loopback as it asks the replicas.

When its own answer is late, the daemon has no CPU, or the loopback is in trouble; then the silence of a replica says
nothing of the replica (`detect.self_health`). `Probers` calls it.
"""

import asyncio
from contextlib import suppress

from perdure.adapters.prober import failure

HOST = "127.0.0.1"
WORD = b"perdure\n"


class Echo:
    """A server on a port that the kernel chooses, and the client that asks it."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    async def ask(self, timeout_s: float) -> bool:
        """Connect, send a word, and read it back; False when that fails.

        Raises UnavailableError when this daemon has no descriptor to do it with.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._server is None:
                    self._server = await asyncio.start_server(_answer, HOST, 0)
                port = self._server.sockets[0].getsockname()[1]
                reader, writer = await asyncio.open_connection(HOST, port)
                try:
                    writer.write(WORD)
                    return await reader.readline() == WORD
                finally:
                    writer.close()
        except OSError as error:
            failure.raise_if_own(error)
            return False

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.write(await reader.read(len(WORD)))
        await writer.drain()
    writer.close()
