"""What is wrong with `bench/app.py` right now: the faults that a request switches on and off, and what they do.

It keeps what a fault needs (memory, descriptors, children, a wrong clock) and undoes it when the service is to be well
again. `app.py` asks it for each request; the list of faults is in its docstring.
"""

import argparse
import asyncio
import ctypes
import os
import random
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Answer = tuple[int, bytes]
Query = Mapping[str, str]
FOREVER_S = 86_400.0
LARGE_BYTES = 16_384
"""Of a longer answer no more than this arrives while `large-hangs` is on."""
STUBBORN = ("sh", "-c", "trap '' TERM; exec sleep 600")
CLONE_VM, CLONE_VFORK = 0x100, 0x4000
STACK_BYTES = 65_536
ANSWERED_BADLY = frozenset({"error", "content", "slow", "close", "silent", "large-hangs"})


class Harm:
    """The faults of one process; without any, it does nothing."""

    def __init__(self, said: argparse.Namespace) -> None:
        self.said = said
        self.fault: Query = {}
        """How requests are answered badly; empty: well."""
        self.mute = False
        self.data = b"same"
        self.clock_s = 0.0
        """How far the clock is ahead."""
        self.orders = os.open(said.orders, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if said.orders else -1
        self.tls = self._context() if said.tls else None
        self.accepting: Callable[[bool], object] = lambda wanted: None
        """Begins or ends to accept connections; the socket goes on listening."""
        self._times_left: int | None = None
        self._leaking: asyncio.TimerHandle | None = None
        self._kept: list[object] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._began_at = time.monotonic()
        if said.fails or said.leaks:
            self.fault = {"kind": "error", "share": str(said.fails)}

    def strikes(self, path: str) -> str:
        """The kind of fault that this request suffers; empty for none."""
        if not self.fault or path == "/fault":
            return ""
        on = self.fault.get("on", "work")
        struck = on in ("all", path) or (not on.startswith("/") and (on == "health") == (path == "/healthz"))
        share = max(float(self.fault.get("share", "1")), self._exhausted())
        if not struck or self._times_left == 0 or random.random() >= share:
            return ""
        if self._times_left is not None:
            self._times_left -= 1
        return self.fault["kind"]

    def _exhausted(self) -> float:
        """Share of the requests that find nothing left of what leaks."""
        leaks_s = self.said.leaks
        return 0.0 if leaks_s is None else (time.monotonic() - self._began_at) / leaks_s - 1.0

    def switch(self, query: Query) -> Answer:
        """Begin a fault, or end all of them; those that keep the process from answering begin after the answer."""
        kind = query.get("kind", "")
        at_once: dict[str, Callable[[], object]] = {
            "none": self.heal,
            "mute": lambda: setattr(self, "mute", True),
            "data": lambda: setattr(self, "data", query["is"].encode()),
            "clock": lambda: setattr(self, "clock_s", float(query["offset"])),
            "deaf": lambda: self.accepting(False),
            "expired": lambda: self._present(self.said.tls_expired),
            "disk-full": lambda: self._open_orders("/dev/full", os.O_WRONLY),
            "read-only": lambda: self._open_orders(self.said.orders, os.O_RDONLY),
            "leak": lambda: self._leak(query),
            "memory": lambda: self._kept.append(b"\1" * int(query["size"])),
            "files": lambda: self._open_files(int(query["count"])),
            "stubborn": lambda: self._become_stubborn(int(query.get("children", "0"))),
        }
        after_answer: dict[str, Callable[[], object]] = {
            "hang-loop": lambda: time.sleep(float(query.get("seconds", FOREVER_S))),
            "uninterruptible": wait_uninterruptibly,
            "exit": lambda: os._exit(int(query.get("code", "1"))),
            "crash": lambda: os.kill(os.getpid(), signal.SIGKILL),
        }
        if kind in at_once:
            at_once[kind]()
        elif kind in after_answer:
            asyncio.get_running_loop().call_later(0.01, after_answer[kind])
        elif kind in ANSWERED_BADLY:
            self.fault = query
            self._times_left = int(query["times"]) if "times" in query else None
        else:
            return 400, f"no such fault: {kind}\n".encode()
        return 200, f"{kind}\n".encode()

    def heal(self) -> None:
        """End every fault that can be ended."""
        self.fault, self.mute, self.data, self.clock_s = {}, False, b"same", 0.0
        if self._leaking is not None:
            self._leaking.cancel()
        self._kept.clear()
        while self._children:
            child = self._children.pop()
            child.kill()
            child.wait()
        if self.said.orders:
            self._open_orders(self.said.orders, os.O_WRONLY)
        if self.tls is not None:
            self._present(self.said.tls)
        self.accepting(True)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.said.tls)
        return context

    def _present(self, certificate: Path) -> None:
        """Show this certificate to whoever connects from now on."""
        assert self.tls is not None
        self.tls.load_cert_chain(certificate)

    def _open_orders(self, path: Path | str, flags: int) -> None:
        """Let what is written go there from now on."""
        opened = os.open(path, flags | os.O_APPEND, 0o644)
        os.dup2(opened, self.orders)
        os.close(opened)

    def _open_files(self, count: int) -> None:
        self._kept.extend(open(os.devnull) for _ in range(count))  # noqa: PTH123, SIM115

    def _leak(self, query: Query) -> None:
        self._kept.append(b"\1" * int(query.get("size", "0")))
        self._open_files(int(query.get("files", "0")))
        loop = asyncio.get_running_loop()
        self._leaking = loop.call_later(float(query.get("every", "1")), self._leak, query)

    def _become_stubborn(self, children: int) -> None:
        """Ignore SIGTERM, as do the children."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._children += [subprocess.Popen(STUBBORN, stdin=subprocess.DEVNULL) for _ in range(children)]


def wait_uninterruptibly() -> None:
    """Wait as for a disk that does not answer: state D, where SIGKILL alone is heard.

    The kernel lets a parent wait so for a child that shares its memory (vfork) until it ends, and this one only pauses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.malloc.restype = ctypes.c_void_p
    top = ctypes.c_void_p((libc.malloc(STACK_BYTES) + STACK_BYTES) // 16 * 16)
    libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), top, CLONE_VM | CLONE_VFORK | signal.SIGCHLD, None)
