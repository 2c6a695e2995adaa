"""Users, groups and what they may do on this machine: part of `preflight`.

Only root can run a service as somebody else, or raise the hard limit of open files; whoever is not root is told so
before anything starts.
"""

import grp
import os
import pwd
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from perdure.config.mistake import Mistake, quoted
from perdure.model.errors import Problem
from perdure.model.service import Service

_MAY_RAISE_LIMITS = 1 << 24  # CAP_SYS_RESOURCE
_AS_ROOT = "run Perdure as root, or remove the line"


def problems(service: Service) -> Iterator[Problem]:
    """Yield what is wrong with the user and the group of a service."""
    at = f"service.{service.name}"
    account = _account(service.user) if service.user is not None else None
    if service.user is not None and account is None:
        hint = (
            f"create it (useradd --system {service.user}), or correct the name" if service.user.isidentifier() else ""
        )
        yield Problem(
            f"{at}.user", f"there is no user {quoted(service.user)} on this machine", hint or "correct the name"
        )
    elif account is not None and os.geteuid() not in (0, account.pw_uid):
        yield Problem(f"{at}.user", f"only root may run a service as {quoted(account.pw_name)}", _AS_ROOT)
    if service.group is None:
        return
    gid = _group(service.group)
    if gid is None:
        sentence = f"there is no group {quoted(service.group)} on this machine"
        yield Problem(f"{at}.group", sentence, "create it (groupadd --system), or correct the name")
    elif os.geteuid() != 0 and gid != os.getegid():
        yield Problem(f"{at}.group", f"only root may run a service in the group {quoted(service.group)}", _AS_ROOT)


def variables(user: str | None) -> Mapping[str, str]:
    """Return HOME and the like of a user; nothing for none, and for one that does not exist."""
    account = _account(user) if user is not None else None
    if account is None:
        return {}
    return {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": account.pw_shell}


def wrong_open_files(count: int) -> Mistake | None:
    """Say why a limit of open files cannot be set; None when it can."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if count <= hard or hard == resource.RLIM_INFINITY:
        return None
    highest = _system_limit() if _may_raise_limits() else hard
    if count <= highest:
        return None
    if highest > hard:
        return Mistake(f"must be at most {highest} on this machine (got {count})", f"or: sysctl fs.nr_open={count}")
    return Mistake(
        f"must be at most {hard}, the limit of this user (got {count})",
        f"raise it with `ulimit -Hn {count}` as root, LimitNOFILE= of the unit, or /etc/security/limits.conf",
    )


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError, ValueError):
        return None


def _group(group: str) -> int | None:
    if group.isdecimal():
        return int(group) if len(group) < 10 else None
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        return None


def _may_raise_limits() -> bool:
    """Root in a container often may not, so the capability counts; where there is no /proc, being root does."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return os.geteuid() == 0
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & _MAY_RAISE_LIMITS)


def _system_limit() -> int:
    try:
        return int(Path("/proc/sys/fs/nr_open").read_text("ascii"))
    except (OSError, ValueError):
        return 2**20
