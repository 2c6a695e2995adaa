"""Gathers what the machine says for `perdure doctor`; `prevent.weakness` judges it.

Works without a daemon: it reads the file's model, asks HAProxy for its version, and looks at who is running and at the
files of each state. What a daemon says of itself is handed in, as the document of `status`.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from perdure.adapters import role
from perdure.adapters.balancer import program
from perdure.control.paths import Paths
from perdure.model import errors
from perdure.model.finding import Finding
from perdure.model.replica import SERVING, Slot
from perdure.model.service import Deployment, Service
from perdure.model.snapshot import Keeping, StateKind
from perdure.prevent import weakness, weakness_release
from perdure.prevent.weakness_state import Seen

Document = Mapping[str, Any]
FRESH_S = 10.0
"""A replica that has just begun to serve may not have written anything yet."""


def find_haproxy(configured: str | None) -> object:
    """Find the HAProxy that would be used; UnavailableError when there is none."""
    return program.find(configured)


def examine(deployment: Deployment, where: Paths, told: Document | None, wall: float) -> tuple[Finding, ...]:
    """All weaknesses of a deployment on this machine; `told` is what the daemon's `status` says, None when no daemon
    runs, and `wall` is Unix time.
    """
    root, supervised = os.geteuid() == 0, None if told is None else _is_supervised(int(told["daemon"]["pid"]))
    services = told["services"] if told is not None else {}
    states = {
        one.name: _seen(one, one.state, where, services.get(one.name) or {}, wall)
        for one in deployment.services
        if one.state is not None
    }
    releases = {name: _released(document) for name, document in services.items()}
    try:
        haproxy = program.find(deployment.haproxy)
        facts = weakness.Facts(haproxy.version, haproxy.lua, "", root, supervised, states, releases)
    except errors.UnavailableError as error:
        facts = weakness.Facts(None, False, error.sentence, root, supervised, states, releases)
    return weakness.judge(deployment, facts)


def _released(told: Document) -> weakness_release.Seen:
    """What matters for the next release of a service that runs."""
    rollout = told.get("rollout") or {}
    held = [size for one in told["replicas"] if one["pid"] and (size := _memory_bytes(one["pid"])) is not None]
    return weakness_release.Seen(
        requests_per_s=told.get("requests_per_s"),
        replica_bytes=max(held, default=None),
        free_bytes=psutil.virtual_memory().available,
        thrown_out=rollout["release"] if rollout.get("failed") else "",
        cause=rollout.get("ended_for", ""),
    )


def _memory_bytes(pid: int) -> int | None:
    """What a replica and its children hold; None when it has ended, or this user may not look."""
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return None


def _seen(service: Service, keeping: Keeping, where: Paths, told: Document, wall: float) -> Seen:
    """What is known of a state; `told` is empty when the daemon does not run, or does not know the service."""
    data = told.get("data") or {}
    last, proof = data.get("last") or {}, (data.get("proven") or {}).get("proven")
    root = _live(service, keeping, where, told)
    path = root / keeping.path if root is not None else None
    return Seen(
        key_exposed=bool(keeping.key_file) and _is_exposed(Path(keeping.key_file)),
        missing=str(path) if path is not None and _is_missing(path) else "",
        outside=_outside(path, root) if path is not None and root is not None else "",
        free_bytes=_free_bytes(where),
        snapshots=data.get("snapshots"),
        size_bytes=last.get("size_bytes"),
        took_s=last.get("took_s"),
        proven_age_s=max(0.0, wall - proof["at"]) if proof is not None else None,
        lags_s={one["slot"]: one["lag_s"] for one in told.get("replicas") or () if one.get("standby")},
        problem=data.get("problem") or "",
    )


def _live(service: Service, keeping: Keeping, where: Paths, told: Document) -> Path | None:
    """The directory of the slot whose replica is active and has served for a while; None when there is none."""
    for one in told.get("replicas") or ():
        serves = one.get("state") in SERVING and one.get("role") == "active"
        if serves and (one.get("since_s") or 0.0) >= FRESH_S and keeping.kind is not StateKind.COMMAND:
            number = Slot.parse(one["slot"]).number
            return where.slots / service.name / str(number) / role.STATE
    return None


def _is_missing(path: Path) -> bool:
    """Whether nothing is there, or an empty directory; False when this user may not look."""
    try:
        return not any(path.iterdir()) if path.is_dir() else not path.exists()
    except PermissionError:
        return False


def _outside(path: Path, root: Path) -> str:
    """Where a path leads, if that is out of the slot's own directory."""
    try:
        there = path.resolve()
        return "" if there.is_relative_to(root.resolve()) else str(there)
    except (OSError, RuntimeError):
        return ""


def _is_exposed(key_file: Path) -> bool:
    try:
        return bool(key_file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def _free_bytes(where: Paths) -> int | None:
    """What this user may still write where the snapshots are; None before there is anything."""
    try:
        return shutil.disk_usage(where.snapshots if where.snapshots.exists() else where.state).free
    except OSError:
        return None


def _is_supervised(pid: int) -> bool | None:
    """Whether a process belongs to a systemd service: its control group ends in `.service`; None: cannot tell."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    return any(part.endswith(".service") for line in groups for part in line.rpartition(":")[2].split("/"))
