"""The HTTP check: one request, a GET unless said otherwise, and what is expected of its answer.

aiohttp asks, with what it does by default for the open internet left out: name lookup, proxies, cookies, redirects,
decompression. A question costs about 300 microseconds of CPU under uvloop, of which 240 are the kernel's and the loop's
for a connection (460 with aiohttp's own way of connecting). No connection is kept between two questions, for an idle
one may occupy the only thread of a simple server. `Probers` calls it.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl
from aiohttp.client_proto import ResponseHandler

from perdure.adapters.prober import certificate, clock, failure, pointer
from perdure.model.check import Check, CheckRole
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target

if TYPE_CHECKING:
    from aiohttp.tracing import Trace

BODY_BYTES = 65_536
HEADERS = {"User-Agent": "perdure", "Accept": "*/*"}
EXCERPT_LENGTH_MAX = 300


class Requests:
    """Asks on a new connection each time."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def probe(self, check: Check, target: Target, timeout_s: float, twice: bool) -> Answer:
        """Ask and judge what came back; `twice`: if it was good and the connection is kept alive, once more on that.
        Raises UnavailableError when the daemon has nothing to ask with.
        """
        if not twice and not check.tls:
            if self._session is None:
                self._session = _session(_Connector(limit=0, force_close=True))
            return await self._judged(self._session, check, target, timeout_s)
        until_at = asyncio.get_running_loop().time() + timeout_s
        connector = _Connector(limit=1)
        async with _session(connector) as session:
            first = certificate.judged(await self._judged(session, check, target, timeout_s), connector.valid)
            left_s = until_at - asyncio.get_running_loop().time()
            if not twice or first.outcome is not Outcome.GOOD or left_s <= 0.0:
                return first
            second = await self._judged(session, check, target, left_s, last=True)
        if second.outcome in (Outcome.GOOD, Outcome.REFUSED):
            return first  # a server may close a connection after any answer
        return replace(second, excerpt=f"on a kept-alive connection: {second.excerpt}"[:EXCERPT_LENGTH_MAX])

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _judged(
        self, session: aiohttp.ClientSession, check: Check, target: Target, timeout_s: float, *, last: bool = False
    ) -> Answer:
        reply = _Reply(max(BODY_BYTES, check.expect_bytes))
        try:
            async with asyncio.timeout(timeout_s):
                await _send(session, reply, check, _url(target.port, check.path, check.tls), last)
        except TimeoutError:
            return failure.timed_out(timeout_s, f"HTTP {reply.status} and an unfinished body" if reply.status else "")
        except aiohttp.ServerDisconnectedError:
            return Answer(Outcome.REFUSED, "the connection was closed without an answer")
        except aiohttp.ClientOSError as error:
            return failure.refused(error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error)
        except aiohttp.ClientPayloadError:
            return Answer(Outcome.REFUSED, f"HTTP {reply.status}, and the connection broke off inside the body")
        except aiohttp.ClientError as error:
            return Answer(Outcome.STATUS, f"no HTTP answer: {failure.excerpt(str(error).encode())}")
        answer = judge(check, reply.status, reply.headers, bytes(reply.body))
        answer = replace(answer, clock_ahead_s=clock.ahead_s(reply.headers))
        if check.role is not CheckRole.DIGEST or answer.outcome is not Outcome.GOOD:
            return answer
        if reply.cut:
            return _answer(Outcome.CONTENT, reply.status, f"an answer of {BODY_BYTES} bytes or more is no digest")
        return replace(answer, digest=failure.digest(bytes(reply.body)))


async def _send(session: aiohttp.ClientSession, reply: "_Reply", check: Check, url: yarl.URL, last: bool) -> None:
    """Send one request and read its answer; `last` asks the server to close the connection after it."""
    headers = {"Connection": "close"} if last else None
    async with session.request(check.method, url, headers=headers, allow_redirects=False) as response:
        reply.status = response.status
        reply.headers = response.raw_headers
        while chunk := await response.content.read(reply.bytes_max - len(reply.body)):
            reply.body += chunk
            if len(reply.body) >= reply.bytes_max:
                reply.cut = True
                response.close()
                return


def _session(connector: "_Connector") -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=connector,
        headers=HEADERS,
        skip_auto_headers=("Accept-Encoding",),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
    )
    # aiohttp repeats a GET whose connection broke, even a new one: that would hide most of the failures of a
    # replica that resets a few of its connections. There is no public setting for it.
    session._retry_connection = False
    return session


class _Reply:
    """What came back so far; filled as it arrives, so that a timeout can say how far it got."""

    __slots__ = ("body", "bytes_max", "cut", "headers", "status")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.body = bytearray()
        self.cut = False
        """The body went on."""


class _Connector(aiohttp.TCPConnector):
    """Connects to a port of this host in one step of the loop, without a race between addresses."""

    valid: tuple[float, float] | None = None
    """From when and until when the certificate that was shown last is valid; None: no connection over TLS."""

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: "list[Trace]", timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        secure: dict[str, Any] = {}
        if req.is_ssl():
            secure = {"ssl": certificate.trusting(), "server_hostname": certificate.SERVER_NAME}
        port = req.url.port or 80
        transport, protocol = await self._loop.create_connection(self._factory, "127.0.0.1", port, **secure)
        self.valid = certificate.shown(transport)
        return protocol


def judge(check: Check, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
    """Compare an answer with what the check expects; by default any status from 200 to 399 will do."""
    expected = status in check.expect_status if check.expect_status else 200 <= status < 400
    if not expected:
        return _answer(Outcome.STATUS, status, f"HTTP {status}: {failure.excerpt(body)}")
    for name, value in check.expect_headers:
        found = [have.decode("utf-8", "replace") for key, have in headers if key.lower() == name.lower().encode()]
        if value not in found:
            return _answer(
                Outcome.CONTENT, status, f"HTTP {status} with {name}: {', '.join(found) or 'not sent'}, not {value}"
            )
    if check.expect_body is not None and check.expect_body.encode() not in body:
        return _answer(
            Outcome.CONTENT, status, f"HTTP {status} without {check.expect_body[:60]!r}: {failure.excerpt(body)}"
        )
    if len(body) < check.expect_bytes:
        return _answer(
            Outcome.CONTENT, status, f"HTTP {status} with {len(body)} bytes of at least {check.expect_bytes}"
        )
    if check.expect_json:
        wrong = pointer.mismatch(body, check.expect_json)
        if wrong is not None:
            return _answer(Outcome.CONTENT, status, f"HTTP {status} with {wrong}")
    return _answer(Outcome.GOOD, status, f"HTTP {status}")


def _answer(outcome: Outcome, status: int, excerpt: str) -> Answer:
    return Answer(outcome, excerpt[:EXCERPT_LENGTH_MAX], status)


@lru_cache(maxsize=4096)
def _url(port: int, path: str, tls: bool) -> yarl.URL:
    return yarl.URL(f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}", encoded=True)
