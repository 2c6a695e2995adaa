"""Starting the daemon: in the place of this process, or detached from it and watched until it answers.

The daemon itself is `perdure.control.daemon`; here it is only a command line. Used by `running`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import NoReturn

from perdure.cli import client as api
from perdure.cli import terminal, waiting
from perdure.control.paths import Paths
from perdure.model import errors
from perdure.model.service import Deployment

ANSWER_TIMEOUT_S = 30.0
_START_MARGIN_S = 5.0
_LOG_LINES = 20


class DaemonDiedError(errors.UnavailableError):
    """The daemon ended instead of answering; its exit code is passed on when it is one of Perdure's."""

    def __init__(self, code: int, lines: Iterable[str], hint: str) -> None:
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = "; its last lines:\n" + "\n".join(f"  | {line}" for line in lines) if lines else "; it wrote nothing"
        super().__init__(f"the daemon {ended} before it answered{said}", hint)
        self.exit_code = code if code > 0 else 1


def command(paths: Paths) -> list[str]:
    """The command line of the daemon of one deployment."""
    daemon = [sys.executable, "-m", "perdure.control.daemon"]
    return [*daemon, "--file", str(paths.file), "--state", str(paths.state)]


def replace(paths: Paths) -> NoReturn:
    """Become the daemon, in the foreground."""
    argv = command(paths)
    sys.stdout.flush()
    os.execv(argv[0], argv)


def detach(paths: Paths) -> "subprocess.Popen[bytes]":
    """Start the daemon in a session of its own, with its output appended to its log."""
    try:
        for directory in (paths.state, paths.logs):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        with paths.daemon_log.open("ab") as log:
            return subprocess.Popen(
                command(paths), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    except OSError as error:
        hint = "set PERDURE_HOME to a directory that you may write to"
        raise errors.ConfigError(f"cannot keep state in {paths.state}: {error.strerror}", hint) from error


def wait_for_answer(paths: Paths, daemon: "subprocess.Popen[bytes]", log_start_bytes: int) -> api.Client:
    """Return a client as soon as the new daemon answers; `log_start_bytes` is how long its log was before."""
    client = api.Client(paths)
    deadline_at = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline_at:
        if (code := daemon.poll()) is not None:
            hint = "perdure check, or perdure up to see it in the foreground"
            raise DaemonDiedError(code, _last_lines(paths, log_start_bytes), hint)
        try:
            client.get("status")
        except errors.UnavailableError:
            time.sleep(waiting.POLL_S / 2)
        else:
            return client
    sentence = f"the daemon (pid {daemon.pid}) did not answer within {ANSWER_TIMEOUT_S:.0f} s"
    raise errors.UnavailableError(sentence, f"look into {paths.daemon_log}")


def wait_for_services(
    client: api.Client, daemon: "subprocess.Popen[bytes]", timeout_s: float, log_start_bytes: int
) -> list[str]:
    """Show the start until every service is ready; return the names of those that are not when the time is over."""
    deadline_at = time.monotonic() + timeout_s
    with waiting.showing() as show:
        while True:
            if (code := daemon.poll()) is not None:
                hint = f"look into {client.paths.daemon_log}"
                raise DaemonDiedError(code, _last_lines(client.paths, log_start_bytes), hint)
            status = client.get("status")
            show(status)
            left = waiting.not_ready(status)
            if not left or time.monotonic() > deadline_at:
                return left
            time.sleep(waiting.POLL_S)


def start_timeout_s(deployment: Deployment) -> float:
    """How long the start may take: the start time-outs along the longest chain of dependencies, and a margin."""
    services = {service.name: service for service in deployment.services}

    def chain_s(name: str, above: frozenset[str]) -> float:
        service = services.get(name)
        if service is None or name in above:
            return 0.0
        longest = max((chain_s(other, above | {name}) for other in service.depends_on), default=0.0)
        return service.restart.start_timeout_s + longest

    return max((chain_s(name, frozenset()) for name in services), default=0.0) + _START_MARGIN_S


def log_size_bytes(paths: Paths) -> int:
    """How long the daemon's log is now; 0 when there is none."""
    try:
        return paths.daemon_log.stat().st_size
    except OSError:
        return 0


def _last_lines(paths: Paths, start_bytes: int) -> list[str]:
    try:
        with paths.daemon_log.open("rb") as log:
            log.seek(start_bytes)
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [terminal.harmless(line) for line in text.splitlines()[-_LOG_LINES:]]
