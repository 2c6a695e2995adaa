"""One thread that does one job after the other, so that the event loop never waits for a disk or a lock.

The caller waits a bounded time, also when the thread is stuck in a system call. A job that was given up before it began
is skipped; one that had begun may still be completed, and the error says so. The thread is a daemon thread: a disk that
never answers must not keep the process from ending.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from perdure.model.errors import UnavailableError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do until an instant of the monotonic clock, and where the result goes."""

    work: Callable[[float], Any]
    deadline_at: float
    future: "Future[Any]"

    def run(self) -> None:
        """Do it, unless the caller has given up."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work(self.deadline_at)
        except BaseException as error:  # noqa: BLE001 (the root of the thread: whatever it is, the caller gets it)
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Worker:
    """A thread with a queue; jobs run in the order in which they were given."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[float], T], timeout_s: float) -> T:
        """The result of `work`, which is given the instant at which nobody waits for it any more. UnavailableError
        when there is none in `timeout_s`; what `work` raises is raised here."""
        job = Job(work, time.monotonic() + timeout_s, Future())
        self._queue.put(job)
        try:
            async with asyncio.timeout(timeout_s):
                return cast(T, await asyncio.wrap_future(job.future))
        except TimeoutError:
            if job.future.done() and not job.future.cancelled():
                # Finished while this process was stopped for long, loop and thread alike.
                return cast(T, job.future.result())
            outcome = "nothing was changed" if job.future.cancelled() else "what it was asked for may still happen"
            raise UnavailableError(
                f"{self._name} did not answer within {timeout_s:g} s; {outcome}",
                "check the disk (`dmesg` shows errors), and what else is using it",
            ) from None

    def end(self) -> None:
        """Let the thread end after the jobs that it has."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until the thread is gone; call it only after `end`, when no job can be stuck."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
            del job  # The last result must not live until the next job comes.
