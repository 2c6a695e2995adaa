"""This host, as its kernel shows it: `ports.host.Host`."""

import asyncio
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from perdure.adapters import tasks
from perdure.adapters.runner import listening
from perdure.model.evidence import Space, Tasks

COUNTERS = Path("/proc/vmstat")
OOM_KILLS = b"oom_kill "


class KernelHost:
    """Implements `ports.host.Host` on Linux."""

    def backlogs(self) -> Mapping[int, tuple[int, int]]:
        """One question to the kernel serves all replicas of the host."""
        return listening.backlogs()

    def oom_kills(self) -> int:
        """The kernel's own count; 0 where it does not count them."""
        try:
            counters = COUNTERS.read_bytes()
        except FileNotFoundError:
            return 0
        found = (line for line in counters.splitlines() if line.startswith(OOM_KILLS))
        return next((int(line[len(OOM_KILLS) :]) for line in found), 0)

    async def tasks(self, user: str | None) -> Tasks | None:
        """Asked in a thread: it reads a line for each process of the host."""
        return await asyncio.to_thread(_tasks, user)

    async def space(self, path: str) -> Space | None:
        """Asked in a thread: a network file system whose server is gone answers never."""
        try:
            found = await asyncio.to_thread(os.statvfs, path)
        except OSError:
            return None
        unit = found.f_frsize
        # What is kept for root is free for root alone; a service that does not run as root finds the disk full before.
        return Space(found.f_bavail * unit, found.f_blocks * unit, found.f_favail, found.f_files)


def _tasks(user: str | None) -> Tasks | None:
    found = [tasks.of_control_group(Path("/proc/self/cgroup").read_text())]
    if user is None:
        found.append(tasks.of_user(os.geteuid()))
    elif user.isdecimal():
        found.append(tasks.of_user(int(user)))
    else:
        found.append(tasks.of_user(pwd.getpwnam(user).pw_uid))
    return min((one for one in found if one is not None), key=lambda one: one.limit - one.used, default=None)
