"""Commands about the whole deployment: `up`, `down`, `reload`.

`up` checks everything first, so that a mistake starts nothing; then it becomes the daemon, or starts it detached
(`launching`).
"""

import os
import time
from typing import Annotated

import typer

from perdure.cli import client as api
from perdure.cli import launching, leftovers, options, terminal, waiting
from perdure.control.paths import Paths
from perdure.model import errors

Detach = Annotated[
    bool, typer.Option("-d", "--detach", help="Run in the background, and wait until the services are ready.")
]
StartTimeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="DURATION", help="With -d: how long to wait (default: the services' start_timeout)."
    ),
]


def up(
    detach: Detach = False, no_wait: options.NoWait = False, timeout: StartTimeout = None, file: options.File = None
) -> None:
    """Start everything that the file declares, and keep it answering."""
    from perdure.cli import declaring

    paths = options.deployment_paths(file)
    timeout_s = None if timeout is None else options.duration_s("--timeout", timeout)
    _refuse_a_second(paths)
    deployment = declaring.checked(paths)
    if not detach:
        launching.replace(paths)
    log_start_bytes = launching.log_size_bytes(paths)
    daemon = launching.detach(paths)
    client = launching.wait_for_answer(paths, daemon, log_start_bytes)
    if no_wait:
        print(f"the daemon runs with pid {daemon.pid}")
        return
    limit_s = launching.start_timeout_s(deployment) if timeout_s is None else timeout_s
    left = launching.wait_for_services(client, daemon, limit_s, log_start_bytes)
    _show(client)
    if left:
        sentence = f"{', '.join(left)}: not ready after {terminal.span(limit_s)}; Perdure goes on trying"
        raise errors.UnavailableError(sentence, f"perdure explain {left[0]}")


def down(
    no_wait: options.NoWait = False, timeout: options.Timeout = waiting.DEFAULT_TIMEOUT, file: options.File = None
) -> None:
    """End all replicas, the balancer and the daemon."""
    paths = options.deployment_paths(file)
    client = api.Client(paths)
    timeout_s = options.duration_s("--timeout", timeout)
    try:
        pid = int(client.get("status")["daemon"]["pid"])
    except api.NotRunningError as error:
        raise _not_running(paths) from error
    for sentence in client.post("down"):
        print(sentence)
    if not no_wait and not _gone(client, pid, timeout_s):
        raise errors.UnavailableError(f"not everything ended within {timeout}", "perdure status")


def reload(
    no_wait: options.NoWait = False, timeout: options.Timeout = waiting.DEFAULT_TIMEOUT, file: options.File = None
) -> None:
    """Apply the changed file with the least possible disturbance."""
    from perdure.cli import declaring

    paths = options.deployment_paths(file)
    client = api.Client(paths)
    before = client.get("status")
    declaring.checked(paths)
    for sentence in client.post("reload"):
        print(sentence)
    if not no_wait:
        waiting.wait_until_done(client, before, None, timeout)


def _refuse_a_second(paths: Paths) -> None:
    try:
        status = api.Client(paths).get("status")
    except (api.NotRunningError, errors.ConfigError):
        return  # nobody is there; a path that is too long or a missing file is found by the check that follows
    sentence = f"Perdure runs here already (pid {status['daemon']['pid']})"
    raise errors.ConflictError(sentence, "perdure reload to apply a changed file, perdure status to see what runs")


def _not_running(paths: Paths) -> errors.PerdureError:
    if leftovers.replicas(paths) or leftovers.balancer_runs(paths):
        sentence = "the daemon is not running, but what it started still serves"
        return errors.UnavailableError(sentence, "perdure up -d, then perdure down")
    return errors.UnavailableError("nothing runs here: the daemon is not running, and it left nothing", "perdure up -d")


def _gone(client: api.Client, pid: int, timeout_s: float) -> bool:
    """Wait until the socket is dead and the process is gone, showing the end of the replicas meanwhile."""
    deadline_at = time.monotonic() + timeout_s
    with waiting.showing() as show:
        while time.monotonic() < deadline_at:
            try:
                show(client.get("status"))
            except errors.UnavailableError:
                if not _alive(pid):
                    return True
            time.sleep(waiting.POLL_S)
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _show(client: api.Client) -> None:
    from perdure.cli import status_view

    terminal.show(status_view.render(client.get("status")))
