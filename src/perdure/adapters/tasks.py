"""How many tasks (threads and processes) may still be started: the control group's limit, and that of a user.

`host.KernelHost` asks here. A control group's limit (TasksMax of a systemd unit) is shared by the daemon and all
replicas; RLIMIT_NPROC counts all tasks of one user, and holds for nobody who may override it, as root.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from perdure.adapters.runner import stat
from perdure.model.evidence import Tasks

GROUPS = Path("/sys/fs/cgroup")


def of_control_group(membership: str, root: Path = GROUPS) -> Tasks | None:
    """The tightest limit of a control group and those above it; `membership` is what /proc/PID/cgroup says. None: there
    is none.
    """
    found: list[Tasks] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        group = root / (controllers or "unified" if controllers or (root / "unified").is_dir() else "")
        for inner in (Path(path), *Path(path).parents):
            one = _counted(group / str(inner).lstrip("/"))
            if one is not None:
                found.append(one)
    return min(found, key=lambda one: one.limit - one.used, default=None)


def of_user(uid: int) -> Tasks | None:
    """What a user may still start; None for root, or without a limit. Reads a line for each process of the host."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if uid == 0 or limit == resource.RLIM_INFINITY:
        return None
    return Tasks(sum(_threads(uid)), limit, f"the user with the id {uid}")


def _threads(uid: int) -> Iterator[int]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.name.isdecimal() and entry.stat().st_uid == uid:
                    seen = stat.read(int(entry.name))
                    yield seen.threads if seen is not None else 0


def _counted(group: Path) -> Tasks | None:
    try:
        used, limit = (group / "pids.current").read_text(), (group / "pids.max").read_text().strip()
    except OSError:
        return None
    return Tasks(int(used), int(limit), "the control group of the daemon") if limit.isdecimal() else None
