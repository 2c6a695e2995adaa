"""HAProxy as Perdure's balancer: renders its configuration, runs it, tells it where traffic goes, reads what it did.

Every change of configuration is a new generation: a new process with files of its own, which gets the listening sockets
from the daemon and ends the old process softly. Membership changes go over the runtime socket and start nothing. The
parts: `render` (what), `listeners` and `launch` (sockets, processes), `runtime`, `commands` and `statistics` (talking),
`memory` (what the next daemon must know). Nothing here decides; `control.carry` does.
"""

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perdure.adapters.balancer import (
    commands,
    launch,
    lingering,
    listeners,
    memory,
    render,
    runtime,
    sample,
    statistics,
)
from perdure.adapters.balancer.generation import Generation, Starter, pid_behind, stopped_listening
from perdure.adapters.balancer.program import Program
from perdure.model.errors import ConfigError, UnavailableError
from perdure.model.replica import Process
from perdure.model.service import Address
from perdure.model.traffic import Backend, BackendSpec, BalancerChange, PutServer, Reading, SetEpoch, SetRetry
from perdure.ports.clock import Clock

STOP_GRACE_S = 2.0


class HAProxy:
    """The port `ports.balancer.Balancer` on real HAProxy processes; one at a time, and older ones that finish."""

    def __init__(self, run_directory: Path, program: Program, clock: Clock) -> None:
        """`run_directory` is absolute, and must be short enough for unix sockets in it."""
        self._directory = run_directory
        self._program = program
        self._clock = clock
        self._listeners = listeners.Listeners()
        self._log = run_directory / "haproxy.log"
        self._sample = sample.Sample(self._paths(0).log)
        self._starter = Starter(program, self._log)
        self._current: Generation | None = None
        self._draining: list[launch.Watch] = []
        self._lingering = lingering.Lingering(clock)
        self._number = 0
        self._retry_allowed: dict[str, bool] = {}
        self._epochs: dict[str, int] = {}
        self._callback: Callable[[], None] = lambda: None
        self._changing = asyncio.Lock()

    async def configure(self, backends: Sequence[BackendSpec]) -> Process:
        """See the port. A process that ends while it starts is UnavailableError, with what it said last."""
        async with self._changing:
            listen = self._listen_addresses(backends)
            digest = self._digest(backends, listen)
            self._open_sample()
            if self._current is not None and self._current.digest == digest:
                return self._current.process
            strays = await self._strays(0) if self._current is None else []
            had = self._listeners.addresses
            try:
                self._listeners.open(set(listen.values()), shared=self._current is not None or bool(strays))
                process = await self._replace(backends, listen, digest)
            except BaseException:
                self._listeners.keep_only(had)
                for watch in strays:
                    watch.forget()
                raise
            self._finish(strays)
            self._listeners.keep_only(set(listen.values()))
            return process

    async def adopt(self, process: Process, backends: Sequence[BackendSpec]) -> bool:
        """See the port. Sockets that HAProxy does not hand back are opened beside its own at the next `configure`."""
        async with self._changing:
            self._open_sample()
            known = memory.load(self._directory)
            self._number = max(self._number, known.generation)
            self._watch_draining(known.draining)
            if known.process != process:
                return False
            paths = self._paths(known.generation)
            try:
                watch = launch.Watch(process, self._ended)
            except ProcessLookupError:
                return False
            newer = await self._strays(known.generation)
            if newer:
                # A daemon died between starting the next one and noting it. That one has told this one to finish, and
                # serves; `configure` replaces it without a gap, as it would this one.
                for stray in newer:
                    stray.forget()
                self._finish([watch])
                return False
            try:
                if await pid_behind(paths.stats) != process.pid:
                    raise UnavailableError("another process answers on HAProxy's socket")
                state = await runtime.ask(paths.stats, "show servers state")
                retries = await runtime.ask(paths.stats, f"show acl {commands.escaped(paths.retries_off)}")
                epochs = await self._asked_epochs(paths)
            except UnavailableError:
                # It hangs, or is on its way out: a new one is better than one that nobody can talk to.
                await watch.end(0.0)
                return False
            with contextlib.suppress(UnavailableError):
                addresses = set(self._listen_addresses(backends).values())
                await self._listeners.recover(paths.stats, addresses)
            reader = statistics.Reader(known.servers, statistics.drained_servers(state))
            self._current = Generation(known.generation, known.digest, watch, dict(known.servers), reader)
            off = commands.numbers(retries)
            self._retry_allowed = {name: number not in off for number, name in enumerate(known.servers, 1)}
            self._epochs = dict(epochs)
            self._starter.trust(known.digest)
            self._finish(await self._strays(0))
            return True

    async def read(self) -> Reading:
        """See the port; servers in MAINT with something left to finish cost a second exchange."""
        current = self._serving()
        path, reader = self._paths(current.number).stats, current.reader
        reader.take(await runtime.ask(path, reader.begin()))
        more = reader.missing()
        if more is not None:
            reader.take(await runtime.ask(path, more))
        at = self._clock.now()
        found = reader.backends()
        lingers = await self._lingering.ports([watch.process for watch in self._draining])
        backends = tuple(self._with_switches(backend) for backend in found)
        return Reading(at, current.process.pid, backends, lingers, tuple(self._sample.take()))

    async def change(self, changes: Sequence[BalancerChange]) -> None:
        """See the port; what was sent before the error stays done."""
        current = self._serving()
        paths = self._paths(current.number)
        for change in changes:
            if isinstance(change, PutServer):
                current.reader.put(change.service, change.server, change.admin)
        launch.bound_log(self._log)
        for line in commands.lines(changes, paths, list(current.servers)):
            commands.check(await runtime.ask(paths.stats, line))
        for change in changes:
            if isinstance(change, SetRetry):
                self._retry_allowed[change.service] = change.allowed
            elif isinstance(change, SetEpoch):
                self._epochs[change.service] = change.epoch

    def on_exit(self, callback: Callable[[], None]) -> None:
        """See the port."""
        self._callback = callback

    def kill(self) -> None:
        """See the port."""
        if self._current is not None:
            self._current.watch.signal(signal.SIGKILL)

    async def stop(self) -> None:
        """See the port; idempotent. Requests in flight are cut after `STOP_GRACE_S`."""
        async with self._changing:
            ending = [*self._draining]
            if self._current is not None:
                ending.append(self._current.watch)
            self._current = None
            for watch in ending:
                watch.signal(signal.SIGTERM)
            await asyncio.gather(*(watch.end(STOP_GRACE_S) for watch in ending))
            self._listeners.keep_only(())
            self._sample.close()
            self._paths(0).log.unlink(missing_ok=True)
            memory.save(self._directory, memory.Memory(generation=self._number))
            self._remove_files()

    def detach(self) -> None:
        """Let go of everything without ending HAProxy, as a daemon that is being replaced does."""
        for watch in [*self._draining, *([self._current.watch] if self._current else [])]:
            watch.forget()
        self._draining.clear()
        self._current = None
        self._listeners.keep_only(())
        self._sample.close()

    async def _replace(self, specs: Sequence[BackendSpec], listen: Mapping[str, Address], digest: str) -> Process:
        """Start the next generation; afterwards the one before only finishes its requests."""
        self._number += 1
        paths, old = self._paths(self._number), self._current
        names = [spec.service.name for spec in specs]
        paths.retries_off.write_text(render.render_retries_off(names, self._retry_allowed))
        paths.epochs.write_text(render.render_epochs(names, self._epochs))
        paths.config.write_text(self._render(specs, listen, self._number))
        try:
            await self._starter.validate(digest, paths)
            watch = await self._start_after(old, paths)
        except BaseException:
            self._remove_files()
            raise
        servers = {spec.service.name: spec.servers for spec in specs}
        self._retry_allowed = {name: self._retry_allowed.get(name, True) for name in servers}
        self._epochs = {name: self._epochs.get(name, 0) for name in servers}
        self._current = Generation(self._number, digest, watch, servers, statistics.Reader(servers))
        self._remember()
        if old is not None:
            await stopped_listening(self._paths(old.number).stats)
        self._remove_files()
        return watch.process

    async def _start_after(self, old: Generation | None, paths: render.Paths) -> launch.Watch:
        """Start a process; from then on the end of the old one, which it tells to finish, is no event."""
        if old is not None and old.watch.alive:
            self._draining.append(old.watch)
        try:
            async with self._listeners.lent_at(self._directory / "lend.sock") as lent:
                return await self._starter.start(paths, lent, old.process.pid if old else None, self._ended)
        except BaseException:
            if old is not None and old.watch in self._draining:
                self._draining.remove(old.watch)
            elif old is not None:
                self._ended(old.watch)
            raise

    def _ended(self, watch: launch.Watch) -> None:
        if watch in self._draining:
            self._draining.remove(watch)
            self._remember()
        elif self._current is not None and self._current.watch is watch:
            self._current = None
            self._callback()

    def _remember(self) -> None:
        current = self._current
        memory.save(
            self._directory,
            memory.Memory(
                generation=self._number,
                digest=current.digest if current else "",
                process=current.process if current else None,
                servers=current.servers if current else {},
                draining=tuple(watch.process for watch in self._draining),
            ),
        )

    def _watch_draining(self, processes: Sequence[Process]) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                self._draining.append(launch.Watch(process, self._ended))

    async def _strays(self, after: int) -> list[launch.Watch]:
        """Processes that a daemon started and died before it could note them: they answer on their socket. `after`: of
        later generations than this one.
        """
        found = []
        mine = self._current.number if self._current else None
        for path in self._directory.glob("haproxy-*.sock"):
            number = path.stem.removeprefix("haproxy-")
            if not number.isdecimal() or int(number) == mine:
                continue
            self._number = max(self._number, int(number))
            pid = await pid_behind(path) if int(number) > after else None
            ticks = launch.started_ticks(pid) if pid else None
            if pid and ticks is not None:
                with contextlib.suppress(ProcessLookupError):
                    found.append(launch.Watch(Process(pid, ticks), self._ended))
        return found

    def _finish(self, watches: Sequence[launch.Watch]) -> None:
        """Let processes finish what they have, and accept no more."""
        for watch in watches:
            self._draining.append(watch)
            watch.signal(signal.SIGUSR1)
        if watches:
            self._remember()

    def _remove_files(self) -> None:
        """Remove the files that nobody needs: a HAProxy that finishes its requests has read all it wants."""
        current = self._current
        mine = {f"wait-{name}.sock" for name in current.servers} if current else set()
        if current is not None:
            paths = self._paths(current.number)
            mine |= {paths.config.name, paths.stats.name, paths.retries_off.name, paths.epochs.name}
        for pattern in ("haproxy-*.cfg", "haproxy-*.sock", "retries-off-*.list", "epochs-*.map", "wait-*.sock"):
            for path in self._directory.glob(pattern):
                if path.name not in mine:
                    path.unlink(missing_ok=True)

    def _open_sample(self) -> None:
        try:
            self._sample.open()
        except OSError as error:
            raise UnavailableError(f"HAProxy's log cannot be received: {error}", "see that it is writable") from error

    def _listen_addresses(self, specs: Sequence[BackendSpec]) -> Mapping[str, Address]:
        return {
            spec.service.name: listeners.resolve(spec.service.listen)
            for spec in specs
            if spec.service.listen is not None
        }

    def _digest(self, specs: Sequence[BackendSpec], listen: Mapping[str, Address]) -> str:
        text = f"{self._program.path} {self._program.version}\n{self._render(specs, listen, 0)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _render(self, specs: Sequence[BackendSpec], listen: Mapping[str, Address], number: int) -> str:
        paths = self._paths(number)
        longest = max([len(bytes(paths.stats)), *(len(bytes(paths.waiting(spec.service.name))) for spec in specs)])
        if longest > render.SOCKET_PATH_BYTES_MAX:
            raise ConfigError(
                f"the path {self._directory} is too long for sockets in it", "set PERDURE_HOME to a shorter directory"
            )
        if any(spec.service.one_active for spec in specs) and not render.fits_expressions(paths.epochs):
            raise ConfigError(
                f"the path {self._directory} has characters that HAProxy's expressions cannot hold",
                "set PERDURE_HOME to a directory without quotes, commas and brackets",
            )
        return render.render(specs, listen, paths, self._program.lua)

    def _paths(self, number: int) -> render.Paths:
        return render.Paths(self._directory, number)

    def _serving(self) -> Generation:
        if self._current is None:
            raise UnavailableError("HAProxy does not run", "it is started again; see: perdure status")
        return self._current

    async def _asked_epochs(self, paths: render.Paths) -> Mapping[str, int]:
        """Those that HAProxy has; none, if its configuration has no active-passive service."""
        if str(paths.epochs) not in paths.config.read_text():
            return {}
        return commands.epochs(await runtime.ask(paths.stats, f"show map {commands.escaped(paths.epochs)}"))

    def _with_switches(self, backend: Backend) -> Backend:
        allowed, epoch = self._retry_allowed.get(backend.service, True), self._epochs.get(backend.service, 0)
        if allowed and not epoch:
            return backend
        return Backend(backend.service, backend.servers, backend.queued, allowed, epoch)
