"""What a replica, or a command check, is given: a clean environment, an identity, and its expanded command.

Nothing of the daemon's own environment passes but a short list of names, so that no socket, token or watchdog address
of the daemon reaches a service. `spawn` and the command prober are the users.
"""

import grp
import os
import pwd
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perdure.model.errors import ConfigError

INHERITED = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV"})

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as; `variables` are HOME and the like, when a user was named."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    variables: tuple[tuple[str, str], ...] = ()


def resolve(user: str | None, group: str | None) -> Identity | None:
    """Look both up, by name or number; None for what the daemon is already. Raises ConfigError when unknown."""
    if user is None and group is None:
        return None
    account = None if user is None else _account(user)
    uid = os.geteuid() if account is None else account.pw_uid
    own_gid = os.getegid() if account is None else account.pw_gid
    gid = own_gid if group is None else _group(group)
    groups = (gid,) if account is None else tuple(os.getgrouplist(account.pw_name, gid))
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    return Identity(uid, gid, groups, () if account is None else _variables(account))


def compose(identity: Identity | None, given: Mapping[str, str], own: Pairs) -> dict[str, str]:
    """The whole environment of a child: inherited, then the user's, then `given` by Perdure, then the service's `own`.

    Later ones win, except that PORT and PERDURE_* are Perdure's alone.
    """
    environment = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("LC_")}
    environment.setdefault("PATH", os.defpath)
    if identity is not None:
        environment.update(identity.variables)
    environment.update(given)
    environment.update((name, value) for name, value in own if name != "PORT" and not name.startswith("PERDURE_"))
    return environment


def expand(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Replace `$NAME` and `${NAME}` in every item; `$$` is a dollar, and unknown names stay as they are written."""
    return [string.Template(item).safe_substitute(environment) if "$" in item else item for item in command]


def _variables(account: pwd.struct_passwd) -> tuple[tuple[str, str], ...]:
    name = account.pw_name
    return ("HOME", account.pw_dir), ("USER", name), ("LOGNAME", name), ("SHELL", account.pw_shell or "/bin/sh")


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"there is no user {user!r} on this host", "create it, or correct `user`") from None


def _group(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"there is no group {group!r} on this host", "create it, or correct `group`") from None
