"""An open-loop HTTP load: a fixed rate of requests, whatever the server does, with latency from the intended instant.

A closed-loop client waits for a slow server and so leaves out the requests that would have suffered ("coordinated
omission"). This one sends on schedule, queues when all connections are busy, and measures each latency from the instant
at which the request was due. It is what the benches, the demonstration and the integration tests use.

What the client does, and what counts how:

- A request is *ok* when a complete answer with a status of 200 to 399 (and the expected content, where one is named)
  came within the time-out, counted from the instant it was due. All else is *failed*, with its reason: `status N`,
  `timeout`, `refused` (nothing listens), `closed` or `reset` (no byte of an answer came), `truncated`, `malformed`,
  `content`.
- An idempotent request (GET, HEAD, PUT, DELETE, OPTIONS, or any with an Idempotency-Key) whose *connection closed
  without any byte of an answer* is sent once more, at once, on a new connection: RFC 9110 section 9.2.2 permits it, and
  browsers and HTTP libraries do it. Such a request counts once in `sent`, and in `resent`. Browsers do so only when the
  connection had been used before; those that they would not have resent are counted in `resent_fresh`.
  `Resend.REUSED` gives the strict behaviour, `Resend.NEVER` none. A POST without a key is never sent again.

    async with load.Load("http://127.0.0.1:8080/", rate=500) as running:
        ...  # break things
    assert running.result().failed == 0

    python -m bench.load http://127.0.0.1:8080/ --rate 500 --duration 10 --json
"""

import asyncio
import math
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from bench.pace import Pacer
from bench.pool import Pool, Request, Resend
from bench.tally import OK, Result, Sample, Tally

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
EXPIRY_PERIOD_S = 0.02


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request of the mix; `weight` is its share relative to the others."""

    method: str = "GET"
    path: str = ""
    """Empty: the path of the plan's URL."""
    weight: float = 1.0
    key: bool = False
    """Whether it carries an Idempotency-Key (its own number)."""
    body: bytes = b""

    @classmethod
    def parse(cls, text: str) -> "Kind":
        """Read `POST /order`, `POST+key /order`, `GET /a 3` (weight 3); raises ValueError."""
        method, _, rest = text.partition(" ")
        path, _, weight = rest.partition(" ")
        name, _, key = method.partition("+")
        if not name.isalpha() or key not in ("", "key"):
            raise ValueError(f"not a kind of request: {text!r} (METHOD[+key] [PATH [WEIGHT]])")
        return cls(name.upper(), path, float(weight or 1), key == "key", b"x" if name.upper() == "POST" else b"")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. It ends at `duration_s` or `count`, whichever comes first; with neither, when it is stopped."""

    url: str
    rate: float = 100.0
    """Requests a second."""
    duration_s: float | None = None
    count: int | None = None
    mix: tuple[Kind, ...] = (Kind(),)
    connections: int = 256
    timeout_s: float = 15.0
    resend: Resend = Resend.ANY
    expect: bytes = b""
    """What every body must contain; otherwise the outcome is `content`."""
    seed: int = 1
    name: str = ""
    """Request n carries `X-Request-Id: NAME-n`; empty makes up one that is unique on this machine."""
    trust: str = ""
    """With an https URL: a file of certificates of who may have signed the server's; empty: those of the machine."""


class Load:
    """A running load: `async with Load(url, rate=...)` sends until the block ends, then waits for the last answers."""

    def __init__(self, url: str, rate: float = 100.0, **more: Any) -> None:
        """`more` are the other fields of `Plan`."""
        self.plan = Plan(url, rate, **more)
        self._tally = Tally()
        self._random = Random(self.plan.seed)
        self._ended = asyncio.Event()
        self._pool: Pool | None = None
        self._pacer: Pacer | None = None
        self._expiry: asyncio.Task[None] | None = None
        self._start_at = self._end_at = self._cpu_at = 0.0

    async def __aenter__(self) -> "Load":
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(abandon=error is not None)

    def start(self) -> None:
        """Begin to send; the first request is due in one period."""
        plan, parts = self.plan, urlsplit(self.plan.url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"not an http or https URL: {plan.url!r}")
        self._pool = Pool(parts.hostname, parts.port or 80, plan.connections, self._finished)
        self._pool.resend = plan.resend
        if parts.scheme == "https":
            self._pool.tls = ssl.create_default_context(cafile=plan.trust or None)
        name = plan.name or f"{os.getpid():x}-{time.monotonic_ns():x}"
        self._heads = [_head(kind, parts.path or "/", parts.netloc, name) for kind in plan.mix]
        self._weights = [kind.weight for kind in plan.mix]
        self._start_at = time.monotonic()
        self._cpu_at = time.process_time()
        self._pacer = Pacer(self._start_at + 1 / plan.rate, 1 / plan.rate, self._send_due)
        self._expiry = asyncio.create_task(self._expire(), name="expire requests")

    async def done(self) -> None:
        """Wait until `duration_s` or `count` of the plan is reached."""
        await self._ended.wait()

    async def stop(self, abandon: bool = False) -> Result:
        """Send no more, wait for the answers (`abandon`: do not), close the connections; may be called again."""
        assert self._pool is not None and self._pacer is not None and self._expiry is not None
        self._end()
        if not abandon:
            await self._pool.answered()
        self._expiry.cancel()
        await self._pool.close()
        return self.result()

    def result(self) -> Result:
        """Counts and quantiles so far; final after `stop`."""
        if self._pool is not None:
            self._tally.resent, self._tally.resent_fresh = self._pool.resent, self._pool.resent_fresh
        until_at = self._end_at or time.monotonic()
        return self._tally.summary(until_at - self._start_at, time.process_time() - self._cpu_at)

    def samples(self) -> Iterator[Sample]:
        """Every finished request, in the order in which they finished."""
        return self._tally.samples()

    def _send_due(self) -> None:
        plan, tally, now = self.plan, self._tally, time.monotonic()
        due = int((now - self._start_at) * plan.rate + 1e-6)
        last = min(
            math.inf if plan.count is None else plan.count,
            math.inf if plan.duration_s is None else round(plan.duration_s * plan.rate),
        )
        while tally.sent < min(due, last):
            tally.sent += 1
            due_at = self._start_at + tally.sent / plan.rate
            tally.late_s_max = max(tally.late_s_max, now - due_at)
            self._submit(tally.sent, due_at)
        if due >= last:
            self._end()

    def _submit(self, number: int, due_at: float) -> None:
        assert self._pool is not None
        mix = self.plan.mix
        index = 0 if len(mix) == 1 else self._random.choices(range(len(mix)), self._weights)[0]
        kind, (before, after) = mix[index], self._heads[index]
        text = b"%d" % number
        key = b"\r\nIdempotency-Key: " + before[1] + text if kind.key else b""
        request = Request(number, index, due_at, due_at + self.plan.timeout_s, before[0] + text + key + after)
        request.idempotent = kind.key or kind.method in IDEMPOTENT
        request.bodyless = kind.method == "HEAD"
        self._pool.submit(request)

    def _finished(self, request: Request, outcome: str, detail: str, body: bytes) -> None:
        if outcome == OK and self.plan.expect not in body:
            outcome, detail = "content", repr(body[:80])
        latency_s = time.monotonic() - request.due_at
        self._tally.add(Sample(request.number, request.due_at, latency_s, outcome, request.kind), detail)

    def _end(self) -> None:
        if not self._ended.is_set():
            self._end_at = time.monotonic()
            self._ended.set()
        if self._pacer is not None:
            self._pacer.stop()

    async def _expire(self) -> None:
        assert self._pool is not None
        while True:
            await asyncio.sleep(EXPIRY_PERIOD_S)
            self._pool.expire()


def _head(kind: Kind, path: str, host: str, name: str) -> tuple[tuple[bytes, bytes], bytes]:
    """What comes before the number (and before the number of the key), and what comes after."""
    start = f"{kind.method} {kind.path or path} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {name}-"
    length = f"\r\nContent-Length: {len(kind.body)}" if kind.body else ""
    return (start.encode(), f"{name}-".encode()), length.encode() + b"\r\n\r\n" + kind.body


if __name__ == "__main__":
    from bench.load_process import main

    main()
