"""The TCP check: connect, and close. It proves that the kernel accepts for the process, and no more.

`Probers` calls it for services that speak no HTTP.
"""

import asyncio
from typing import Any

from perdure.adapters.prober import certificate, failure
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target


async def probe(target: Target, timeout_s: float, tls: bool = False) -> Answer:
    """Connect once, over TLS if told so. Raises UnavailableError when the daemon has no descriptor to do it with."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            secure: dict[str, Any] = {}
            if tls:
                secure = {"ssl": certificate.trusting(), "server_hostname": certificate.SERVER_NAME}
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", target.port, **secure)
    except TimeoutError:
        return failure.timed_out(timeout_s)
    except OSError as error:
        return failure.refused(error)
    valid = certificate.shown(transport)
    transport.close()
    return certificate.judged(Answer(Outcome.GOOD), valid)
