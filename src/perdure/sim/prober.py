"""Asking simulated replicas: `ports.prober.Prober`, answered by the condition of whoever listens at the port."""

import asyncio
from dataclasses import dataclass, replace
from random import Random

from perdure.model.check import Check, CheckKind, CheckRole
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target
from perdure.sim.kernel import Kernel, Reply
from perdure.sim.life import Life
from perdure.sim.link import Observer

_ANSWERS = {
    Reply.GOOD: Answer(Outcome.GOOD, "ok"),
    Reply.REFUSED: Answer(Outcome.REFUSED, "connection refused"),
    Reply.HANG: Answer(Outcome.TIMEOUT, "no answer in time"),
    Reply.ERROR: Answer(Outcome.STATUS, "status 500"),
    Reply.WRONG: Answer(Outcome.CONTENT, "status 200, unexpected content"),
    Reply.FOREIGN: Answer(Outcome.STATUS, "status 404"),
}


@dataclass(slots=True)
class SimulatedProber:
    """Keeps the port's contract: an answer takes some milliseconds, a hang takes all of the timeout, and so does a
    question that the network lost.
    """

    kernel: Kernel
    random: Random
    life: Life

    async def probe(self, check: Check, target: Target, timeout_s: float, twice: bool = False) -> Answer:
        """Ask once."""
        self.life.check()
        loop = self.kernel.loop
        answer: asyncio.Future[Answer] = loop.create_future()
        latency_s = min(timeout_s, 0.001 + 0.006 * self.random.random())
        loop.outside(lambda: loop.call_later(latency_s, self._asked, answer, target.port, timeout_s - latency_s, check))
        found = await answer
        self.life.check()
        one = self.kernel.at_port(target.port)
        if check.role is CheckRole.DIGEST and found.outcome is Outcome.GOOD and one is not None:
            return replace(found, digest=one.behaviour.data)
        return found

    async def echo(self, timeout_s: float) -> bool:
        """The simulated loopback is always well."""
        self.life.check()
        return True

    async def close(self) -> None:
        """Nothing is open."""

    def _asked(self, answer: asyncio.Future[Answer], port: int, left_s: float, check: Check) -> None:
        """The question leaves; nobody who listens is no matter of the network, for then the machine itself refuses, and
        a stranger is reached over the paths of all.
        """
        one, late_s = self.kernel.at_port(port), 0.0
        if one is not None or port in self.kernel.strangers:
            late_s = self.kernel.network.late_s(Observer.MONITOR, one.slot if one is not None else None)
        if 0.0 < late_s < left_s:
            self.kernel.loop.call_later(late_s, self._arrived, answer, port, check)
        elif not late_s:
            self._arrived(answer, port, check)
        if not answer.done():
            self.kernel.loop.call_later(left_s, _settle, answer, Reply.HANG)

    def _arrived(self, answer: asyncio.Future[Answer], port: int, check: Check) -> None:
        reply, tcp = self.kernel.reply(port), check.kind is CheckKind.TCP
        one = self.kernel.at_port(port)
        if (tcp and reply is not Reply.REFUSED) or (reply is Reply.FOREIGN and self.random.random() < 0.5):
            reply = Reply.GOOD
        elif reply is Reply.GOOD and one is not None and one.behaviour.single_errors:
            one.behaviour.single_errors -= 1
            reply = Reply.ERROR
        elif reply is Reply.GOOD and one is not None and self.random.random() < one.behaviour.error_share / 10.0:
            reply = Reply.ERROR
        if one is not None and self.kernel.network.swallows(Observer.MONITOR, one.slot, check.expect_bytes):
            return
        if reply is not Reply.HANG or one is None:
            _settle(answer, reply)
        else:
            one.waiting.append(lambda later: _settle(answer, later))


def _settle(answer: "asyncio.Future[Answer]", reply: Reply) -> None:
    if not answer.done():
        answer.set_result(_ANSWERS[reply])
