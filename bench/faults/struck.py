"""Who a fault is done to, and what a strike leaves behind: for the question that follows, and to be taken back."""

import os
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import program
from bench.sides import PerdureSide, Side

CONTROL_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Struck:
    """A replica that a fault is done to; port 0: nobody in particular."""

    port: int
    pid: int
    over: threading.Event = field(default_factory=threading.Event, compare=False)
    """The trial has ended: whatever lasts must stop."""
    afterwards: ExitStack = field(default_factory=ExitStack, compare=False)
    """Takes back what was done beside the replica."""
    family: list[int] = field(default_factory=list, compare=False)
    """The process with its children."""
    relapses: list[float | None] = field(default_factory=list, compare=False)
    """Of each time that it was ill: how long until it got no requests; None: it got them all the time."""
    strays: list[float] = field(default_factory=list, compare=False)
    """When a request of a client reached somebody who is no replica, in seconds after the strike."""

    @property
    def slot(self) -> str:
        """Its slot; outside Perdure its port stands for it."""
        variables = Path(f"/proc/{self.pid}/environ").read_bytes().decode().split("\0")
        return next((one.partition("=")[2] for one in variables if one.startswith("PERDURE_SLOT=")), str(self.port))

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return Path(os.readlink(f"/proc/{self.pid}/cwd"))  # noqa: PTH115


Strike = Callable[[Struck, Side], None]


def switch(side: Side, port: int, query: Mapping[str, object]) -> None:
    """Tell a replica how to fail; raises OSError when it cannot be told."""
    words = "&".join(f"{name}={value}" for name, value in query.items())
    request = urllib.request.Request(f"{side.program.url(port)}/fault?{words}", b"", method="POST")
    with urllib.request.urlopen(request, timeout=CONTROL_TIMEOUT_S, context=program.careless()) as answer:
        answer.read()


def port_of(side: Side, slot: str, otherwise: int) -> int:
    """The port of whoever is in the slot now; the sides beside Perdure never change it."""
    if not isinstance(side, PerdureSide):
        return otherwise
    replicas = side.status()["services"]["web"]["replicas"]
    return next((int(one["port"]) for one in replicas if one["slot"] == slot and one["port"]), otherwise)
