"""Serves the API on a unix socket that we bind ourselves: 0660 in a directory of mode 0750, closed to all others."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from pathlib import Path

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    """Signals are the daemon's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the handlers alone."""
        yield

    async def main_loop(self) -> None:
        """Serve until cancelled; uvicorn's own would wake ten times a second to find out whether it is to end."""
        await self.on_tick(0)
        await asyncio.Event().wait()


async def serve(app: FastAPI, path: Path) -> None:
    """Answer on the unix socket `path` until cancelled; a socket file that a dead daemon left is replaced."""
    listener = _bind(path)
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, ws="none", http="h11", loop="none", date_header=False
    )
    server = _Server(config)
    try:
        await server.serve(sockets=[listener])
    except asyncio.CancelledError:
        server.force_exit = True
        raise
    finally:
        listener.close()
        _unlink(path)


def _bind(path: Path) -> socket.socket:
    _unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
