"""Gathers what the machine says for `perdure doctor`; `prevent.weakness` judges it.

Works without a daemon: it reads the file's model, asks HAProxy for its version, and looks at who is running.
"""

import os
from pathlib import Path

from perdure.adapters.balancer import program
from perdure.model import errors
from perdure.model.service import Deployment
from perdure.prevent import weakness


def find_haproxy(configured: str | None) -> object:
    """Find the HAProxy that would be used; UnavailableError when there is none."""
    return program.find(configured)


def examine(deployment: Deployment, daemon_pid: int | None) -> tuple[weakness.Finding, ...]:
    """All weaknesses of a deployment on this machine; `daemon_pid` None means that no daemon runs."""
    root, supervised = os.geteuid() == 0, None if daemon_pid is None else _is_supervised(daemon_pid)
    try:
        haproxy = program.find(deployment.haproxy)
    except errors.UnavailableError as error:
        return weakness.judge(deployment, weakness.Facts(None, False, error.sentence, root, supervised))
    return weakness.judge(deployment, weakness.Facts(haproxy.version, haproxy.lua, "", root, supervised))


def _is_supervised(pid: int) -> bool | None:
    """Whether a process belongs to a systemd service: its control group ends in `.service`; None: cannot tell."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    return any(part.endswith(".service") for line in groups for part in line.rpartition(":")[2].split("/"))
