"""Waiting until a command is carried out: poll the status, show what changes, stop at a deadline.

The daemon answers a command as soon as it is durable; people want to see it done. On a terminal the status is shown
live, otherwise one line is printed for each replica that changed. Used by `running` and `changing`.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from perdure.cli import client as api
from perdure.cli import options, terminal
from perdure.model import errors

POLL_S = 0.1
QUIET_POLLS = 2
"""The loop learns of a recorded command a moment after it was acknowledged; one look could come before that."""
DEFAULT_TIMEOUT = "10m"
SERVING = frozenset({"ready", "suspect"})

Status = Mapping[str, Any]
Show = Callable[[Status], None]


def pending(status: Status, services: Collection[str] | None) -> list[str]:
    """Names of the services that still have a command to be carried out; `services` None means all."""
    return [
        name
        for name, service in status["services"].items()
        if (services is None or name in services) and (service.get("desired") or {}).get("pending")
    ]


def not_ready(status: Status) -> list[str]:
    """Names of the services that do not have as many serving replicas as they should."""
    return [name for name, service in status["services"].items() if _serving(service) < _desired(service)]


def wait_until_done(client: api.Client, before: Status, services: Collection[str] | None, timeout: str) -> None:
    """Return when nothing of `services` is pending; UnavailableError when that takes longer than `timeout`.

    `before` is the status before the command, so that the first change is shown too.
    """
    deadline_at = time.monotonic() + options.duration_s("--timeout", timeout)
    quiet = 0
    with showing() as show:
        show(before)
        while True:
            time.sleep(POLL_S)
            status = _status(client)
            show(status)
            left = pending(status, services)
            quiet = 0 if left else quiet + 1
            if quiet == QUIET_POLLS:
                return
            if left and time.monotonic() > deadline_at:
                sentence = f"{', '.join(left)}: not done after {timeout}; the command goes on"
                raise errors.UnavailableError(sentence, f"perdure explain {left[0]}")


@contextlib.contextmanager
def showing() -> Iterator[Show]:
    """Show one status after the other: a live picture for a person, lines of what changed for everything else."""
    if not terminal.is_terminal():
        yield _Lines().show
        return
    from rich.live import Live

    from perdure.cli import status_view

    with Live(console=terminal.out(), transient=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda status: live.update(status_view.render(status), refresh=True)


class _Lines:
    """Prints `web/1: starting -> ready` for each change since the first status that was shown."""

    def __init__(self) -> None:
        self._before: dict[str, str] | None = None

    def show(self, status: Status) -> None:
        """Print what differs from the status before."""
        now = {
            str(replica["slot"]): str(replica["state"])
            for service in status["services"].values()
            for replica in service.get("replicas") or ()
        }
        before = now if self._before is None else self._before
        for slot in sorted(now.keys() | before.keys()):
            old, new = before.get(slot, "new"), now.get(slot, "gone")
            if old != new:
                print(f"{slot}: {old} -> {new}", flush=True)
        self._before = now


def _status(client: api.Client) -> Status:
    try:
        answer: Status = client.get("status")
        return answer
    except api.NotRunningError as error:
        sentence = "the daemon ended while the command was carried out; it goes on when the daemon runs again"
        raise errors.UnavailableError(sentence, "perdure up -d") from error


def _serving(service: Status) -> int:
    return sum(replica["state"] in SERVING for replica in service.get("replicas") or ())


def _desired(service: Status) -> int:
    desired = service.get("desired") or {}
    replicas = len(service.get("replicas") or ()) if desired.get("replicas") is None else int(desired["replicas"])
    undrained = replicas - len(desired.get("drained") or ())
    return undrained if desired.get("serving") is None else min(int(desired["serving"]), undrained)
