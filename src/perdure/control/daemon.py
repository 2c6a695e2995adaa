"""The daemon: puts the parts together, takes over what runs, and turns the loop until it is told to leave.

Crash-only: SIGKILL is an ordinary way to end it; HAProxy and all replicas go on, and the next daemon takes them over.
SIGTERM ends the daemon alone in the same way, SIGINT (Ctrl-C) and `perdure down` end everything in order. The
reader's path goes on in `agent`; `perdure up` starts this module as a process of its own.
"""

import argparse
import asyncio
import os
import resource
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import structlog
import uvloop

from perdure import __version__
from perdure.adapters.balancer import program
from perdure.adapters.balancer.haproxy import HAProxy
from perdure.adapters.bundle.files import BundleFiles
from perdure.adapters.clock import SystemClock
from perdure.adapters.host import KernelHost
from perdure.adapters.prober import Probers
from perdure.adapters.role import RoleFiles
from perdure.adapters.runner import environment
from perdure.adapters.runner.process import Processes, noted
from perdure.adapters.state.client import Keepers
from perdure.adapters.store.sqlite import SQLiteStore
from perdure.config import load, preflight
from perdure.control import adopt, api, assemble, beats, follow, journal, lock, logs, paths, persist, serve
from perdure.control.agent import Agent
from perdure.control.controller import Controller
from perdure.model.errors import ConfigError, PerdureError
from perdure.model.service import Address, Deployment, Service
from perdure.ports.bundle import Account
from perdure.prevent import balance

log = structlog.get_logger()


class Daemon:
    """One daemon for one state directory."""

    def __init__(self, where: paths.Paths, deployment: Deployment) -> None:
        self._where = where
        self._deployment = deployment
        self._started_at = time.monotonic()
        self._leaving = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Take over what runs, apply the file, and serve until a signal or `perdure down`."""
        where = self._where
        store = await SQLiteStore.open(where.database)
        try:
            runner = Processes(where.run, where.logs)
            found = program.find(self._deployment.haproxy)
            haproxy = HAProxy(where.run, found, SystemClock())
            async with beats.listen(where, store) as ears:
                roles = RoleFiles(where.slots, runner)
                keeper = Keepers(where.snapshots, lambda service: _key_file(agent, service))
                random = secrets.SystemRandom().random
                parts = assemble.Parts(
                    SystemClock(),
                    store,
                    runner,
                    KernelHost(),
                    Probers(),
                    haproxy,
                    roles,
                    keeper,
                    random,
                    BundleFiles(where.releases),
                    _account,
                )
                agent = assemble.agent(parts, self._deployment.ports, ears.surroundings)
                agent.carrier.version = found.version
                ears.agent = agent
                try:
                    await self._serve(agent, assemble.desk(agent, parts), runner)
                finally:
                    await parts.prober.close()
                    haproxy.detach()
                    runner.close()
        finally:
            await store.close()

    async def _serve(self, agent: Agent, desk: assemble.Desk, runner: Processes) -> None:
        store = agent.recorder.store
        controller = desk.controller
        revision = await adopt.adopt(agent, store, noted(self._where.run))
        for sentence in await controller.apply(self._deployment, starting=True):
            log.info(sentence)
        self._on_signals(controller)
        office = api.Office(
            agent,
            store,
            desk,
            logs.LogFiles(self._where.logs, runner),
            lambda: self._told(agent),
            lambda: self._reload(agent, controller),
            lambda: self._declared(agent),
            self._leaving.set,
        )
        jobs = {
            "follow what is wanted": follow.follow(agent, store, revision),
            "write to the store": agent.recorder.run(),
            "note that the monitor runs": agent.monitor.tick(),
            "listen to its echo": agent.monitor.listen(),
            "look at the processes": agent.monitor.look(),
            "survey the services": agent.surveyor.run(),
            "carry the traffic": agent.carrier.run(),
            "turn the loop": agent.run(),
            "keep the terms": agent.owners.run(),
            "preserve state": agent.preserver.run(),
            "watch what goes back": desk.rollbacks.run(),
            "carry out rollouts": desk.rollouts.run(),
            "rotate the logs": logs.rotate(agent.world, runner),
            "serve the API": serve.serve(api.make(office), self._where.api),
            "end everything when told to": self._leave(agent),
        }
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job, name=name) for name, job in jobs.items()]
            await self._ended.wait()
            for task in tasks:
                task.cancel()
        await agent.monitor.close()
        await agent.preserver.close()
        await agent.recorder.settled()

    def _on_signals(self, controller: Controller) -> None:
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            task = loop.create_task(controller.stop_all(), name="stop everything")
            task.add_done_callback(lambda done: self._leaving.set() if done.exception() is None else None)

        loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        loop.add_signal_handler(signal.SIGINT, interrupted)

    async def _leave(self, agent: Agent) -> None:
        """When told to: wait until the last replica is gone, then end HAProxy and the daemon."""
        await self._leaving.wait()
        await agent.emptied()
        await agent.carrier.stop()
        agent.recorder.note(persist.documents([], agent.carrier), [])
        await agent.recorder.settled()
        self._ended.set()

    async def _reload(self, agent: Agent, controller: Controller) -> list[str]:
        """Apply the file as it is now, if this machine can run it; addresses that we use ourselves are no problem."""
        return await controller.apply(await self._declared(agent))

    async def _declared(self, agent: Agent) -> Deployment:
        """What the file declares now; ConfigError when this machine cannot run it."""
        deployment = await asyncio.to_thread(load.load, self._where.file)
        ours = {service.desired.service.listen for service in agent.world.services.values()}
        ours |= {Address(balance.REPLICA_HOST, port) for port in agent.world.ports()}
        held = frozenset(address for address in ours if address is not None)
        problems = await asyncio.to_thread(preflight.problems, deployment, in_use_ok=held)
        if problems:
            raise ConfigError(f"{self._where.file} cannot run here", "correct the file; nothing was changed", problems)
        return deployment

    def _told(self, agent: Agent) -> dict[str, Any]:
        now = time.monotonic()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": os.getpid(),
            "uptime_s": round(now - self._started_at, 3),
            "loop_age_s": round(max(0.0, now - agent.loop_at), 3),
            "file": str(self._where.file),
            "version": __version__,
            "store": agent.recorder.failure or "ok",
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "memory_bytes": psutil.Process().memory_info().rss,
        }


def _key_file(agent: Agent, service: str) -> str:
    """The key that a service's snapshots are encrypted with; empty for none."""
    known = agent.world.services.get(service)
    state = known.desired.service.state if known is not None else None
    return state.key_file if state is not None else ""


def _account(service: Service) -> Account | None:
    """Whom the files of a service's releases belong to; an unknown user shows when its replica is started."""
    try:
        found = environment.resolve(service.user, service.group)
    except ConfigError:
        return None
    return Account(found.uid, found.gid) if found is not None else None


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon in the foreground; the exit code of its error class, or 0."""
    parser = argparse.ArgumentParser(prog="perdure-daemon")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args(arguments)
    where = paths.Paths(options.file.absolute(), options.state.absolute())
    journal.configure(sys.stderr)
    os.umask(0o027)
    try:
        for directory in (where.state, where.run, where.logs):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            # Others may pass through where a service runs as somebody else: see `adapters.bundle`.
            directory.chmod(0o750 | directory.stat().st_mode & 0o001)
        _raise_descriptor_limit()
        with lock.DirectoryLock(where.lock):
            uvloop.run(_run(where))
    except PerdureError as error:
        log.error(error.sentence, hint=error.hint)
        return error.exit_code
    return 0


def _raise_descriptor_limit() -> None:
    """Each replica costs the daemon a few descriptors, so take as many as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(where: paths.Paths) -> None:
    deployment = load.load(where.file)
    await Daemon(where, deployment).run()


if __name__ == "__main__":
    sys.exit(main())
