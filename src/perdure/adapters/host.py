"""This host, as its kernel shows it: `ports.host.Host`."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from perdure.adapters.runner import listening
from perdure.model.evidence import Space

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

    async def space(self, path: str) -> Space | None:
        """Asked in a thread: a network file system whose server is gone answers never."""
        try:
            found = await asyncio.to_thread(os.statvfs, path)
        except OSError:
            return None
        unit = found.f_frsize
        # What is kept for root is free for root alone; a service that does not run as root finds the disk full before.
        return Space(found.f_bavail * unit, found.f_blocks * unit, found.f_favail, found.f_files)
