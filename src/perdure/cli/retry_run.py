"""Runs the tries of `perdure retry`: processes, signals, output; `retry_decision` says whether there is another.

Each try is a process group of its own, so that a time-out ends its children too. Signals and ends of children wake
one pipe, which is all that this loop ever waits for: a signal during a pause, or between two tries, is never lost.
"""

import contextlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO, Self

from perdure.cli import retry_decision

KILL_AFTER_S = 2.0
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_POLL_GROUP_S = 0.02


def run(command: Sequence[str], policy: retry_decision.Policy, verbose: bool) -> int:
    """Try until it succeeds or the policy ends it; return the exit code of the last try, having shown its output."""
    began_at, attempt, stdin = time.monotonic(), 0, _Stdin()
    with _Signals() as signals:
        while True:
            attempt += 1
            timeout_s = retry_decision.try_timeout_s(time.monotonic() - began_at, policy)
            with contextlib.closing(_Spool(retry_decision.is_surely_last(attempt, policy))) as spool:
                code, started = _try(command, timeout_s, stdin.of_try(attempt), spool, signals)
                tried = retry_decision.Tried(attempt, code, time.monotonic() - began_at, started)
                decision = _decide(tried, policy, signals)
                if verbose:
                    print(f"perdure: try {attempt} ended with exit code {code}: {decision.sentence}", file=sys.stderr)
                if decision.delay_s is None:
                    spool.show()
                    return code
                if verbose:
                    spool.show_as_failed()
                if interrupted := signals.wait(decision.delay_s):
                    spool.show()
                    return 128 + interrupted


def _decide(tried: retry_decision.Tried, policy: retry_decision.Policy, signals: "_Signals") -> retry_decision.Decision:
    if signals.received is not None:
        return retry_decision.Decision(None, f"{signal.Signals(signals.received).name} came")
    return retry_decision.decide(tried, policy, random.random())


class _Stdin:
    """The standard input of the tries: a regular file is read anew by each, anything else goes to the first try only.

    A terminal is never passed on: a try is not in the terminal's foreground, and would be stopped when it reads.
    """

    def __init__(self) -> None:
        try:
            self._number = (
                sys.stdin.fileno() if sys.stdin is not None and not sys.stdin.isatty() else subprocess.DEVNULL
            )
            self._start = os.lseek(self._number, 0, os.SEEK_CUR) if self._number >= 0 else None
        except (OSError, ValueError):
            self._start = None

    def of_try(self, attempt: int) -> int:
        """What to give to `subprocess` as stdin for this try (counted from 1)."""
        if self._start is not None:
            os.lseek(self._number, self._start, os.SEEK_SET)
            return self._number
        return self._number if attempt == 1 else subprocess.DEVNULL


class _Spool:
    """What one try wrote, kept until it is known whether it was the last; one that surely is writes straight out."""

    def __init__(self, straight: bool) -> None:
        self.out: IO[bytes] | None = None if straight else _temporary()
        self.err: IO[bytes] | None = None if straight else _temporary()

    def show(self) -> None:
        """Copy both to where they belong."""
        _copy(self.out, sys.stdout.buffer)
        _copy(self.err, sys.stderr.buffer)

    def show_as_failed(self) -> None:
        """Copy both to stderr."""
        _copy(self.out, sys.stderr.buffer)
        _copy(self.err, sys.stderr.buffer)

    def close(self) -> None:
        """Forget it."""
        for file in (self.out, self.err):
            if file is not None:
                file.close()


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _copy(source: IO[bytes] | None, target: IO[bytes]) -> None:
    if source is not None:
        source.seek(0)
        shutil.copyfileobj(source, target)
        target.flush()


class _Signals:
    """Collects signals in a pipe while it is entered; the process group in `group` gets those that are passed on."""

    def __init__(self) -> None:
        self.group: int | None = None
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        caught = [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
        self._old_handlers = {number: signal.signal(number, self._note) for number in (*caught, signal.SIGCHLD)}
        self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> int:
        """Wait that long; return early, with its number, when a signal to be passed on comes or came before."""
        until_at = time.monotonic() + seconds
        while self.received is None and (left_s := until_at - time.monotonic()) > 0:
            self.wake(left_s)
        return self.received or 0

    def wake(self, seconds: float | None) -> None:
        """Wait until any signal comes, a child's end included, but not longer than that."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while ready and os.read(self._reader, 512):
                pass

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self.received = number
        if self.group is not None:
            _signal_group(self.group, number)


def _try(
    command: Sequence[str], timeout_s: float | None, stdin: int, spool: _Spool, signals: _Signals
) -> tuple[int, bool]:
    """One try: its exit code as a shell would have it, and whether it could be started."""
    sys.stdout.flush()
    try:
        process = subprocess.Popen(command, stdin=stdin, stdout=spool.out, stderr=spool.err, process_group=0)
    except OSError as error:
        return _cannot_run(command, error), False
    signals.group = process.pid
    if signals.received is not None:  # it came before there was a group to pass it on to
        _signal_group(process.pid, signals.received)
    try:
        return _wait(process, timeout_s, signals), True
    finally:
        signals.group = None


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float | None, signals: _Signals) -> int:
    deadline_at = None if timeout_s is None else time.monotonic() + timeout_s
    while process.poll() is None:
        left_s = None if deadline_at is None else deadline_at - time.monotonic()
        if left_s is not None and left_s <= 0:
            _end_group(process, signals)
            return retry_decision.TIMED_OUT_CODE
        signals.wake(left_s)
    return 128 - process.returncode if process.returncode < 0 else process.returncode


def _end_group(process: "subprocess.Popen[bytes]", signals: _Signals) -> None:
    """SIGTERM to all of it, SIGKILL to what is left after two seconds."""
    _signal_group(process.pid, signal.SIGTERM)
    _signal_group(process.pid, signal.SIGCONT)
    until_at = time.monotonic() + KILL_AFTER_S
    while time.monotonic() < until_at:
        if process.poll() is not None and not _group_exists(process.pid):
            return
        signals.wake(_POLL_GROUP_S)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _cannot_run(command: Sequence[str], error: OSError) -> int:
    missing = isinstance(error, FileNotFoundError)
    reason = "not found" if missing else (error.strerror or "cannot be run").lower()
    print(f"perdure: {command[0]}: {reason}", file=sys.stderr)
    return 127 if missing else 126
