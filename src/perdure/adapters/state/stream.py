"""State that only the service's own commands know: `take` writes it to its standard output, `restore` reads it.

They run as the service's user, in the slot's directory, with the environment of the service's processes and nothing of
Perdure's own but `PERDURE_STATE`; in a session of their own, which is ended with them, and with this process (`guard`).
What they write to their standard error is the service's own words: its last lines are in the error when they fail.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from perdure.adapters.runner import environment
from perdure.adapters.state import filesystem, guard
from perdure.adapters.state.place import Applied, Place, look
from perdure.adapters.state.vault import Content, Draft, Entry, EntryKind, Vault
from perdure.model.errors import UnavailableError
from perdure.model.snapshot import Manifest
from perdure.ports.keeper import Source

LIMIT_S = 3_600.0
"""For `take` and `restore`, which move all of the state."""
HOOK_LIMIT_S = 60.0
PIPE_BYTES = 1 << 16
ERROR_BYTES = 4_096
ERROR_LINES = 3


def take(vault: Vault, draft: Draft, source: Source, scratch: Path) -> Manifest:
    """Run `take` and put what it writes into the vault, once it has said with its exit code that all is there."""
    began_at = time.monotonic()
    taken_at = time.time()
    try:
        with scratch.open("wb") as file:
            for chunk in read(source, source.keeping.take, LIMIT_S):
                file.write(chunk)
        entry = Entry(
            path="",
            kind=EntryKind.FILE,
            mode=0o600,
            uid=os.geteuid(),
            gid=os.getegid(),
            mtime_ns=time.time_ns(),
            size=scratch.stat().st_size,
        )
        dated = Draft(draft.service, draft.slot, draft.kind, draft.epoch, draft.data_epoch, taken_at)
        with vault.begin(dated) as intake, scratch.open("rb") as file:
            intake.entry(entry, file)
            return intake.commit(time.monotonic() - began_at)
    finally:
        scratch.unlink(missing_ok=True)


def apply(content: Content, source: Source, place: Place) -> None:
    """Run `restore` on the content; what the state is when it fails is the command's own affair, and marked."""
    place.directory.mkdir(parents=True, exist_ok=True)
    place.begin()
    feed(source, source.keeping.restore, content.read(""))
    place.complete(Applied(content.manifest, {}))


def restore(content: Content, place: Place) -> None:
    """Write the stream into a directory: that all of it can be read is all that can be checked."""
    (entry,) = content.entries
    place.directory.mkdir(mode=0o700)
    filesystem.require_room(place.directory, entry.size)
    descriptor = os.open(place.live, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for chunk in content.read(""):
            file.write(chunk)
        file.flush()
        os.fsync(descriptor)
    seen = look(place.live)
    assert seen is not None, "it was just written"
    place.note(Applied(content.manifest, {"": seen}))


def run(source: Source, command: Sequence[str], name: str, limit_s: float = HOOK_LIMIT_S) -> None:
    """Run a command of the service that neither reads nor writes state; UnavailableError when it fails."""
    with _running(source, command, name, limit_s) as child:
        for _ in child.read():
            pass


def read(source: Source, command: Sequence[str], limit_s: float) -> Iterator[bytes]:
    """What the command writes; UnavailableError, at the end, when it fails: what came before is nothing then."""
    with _running(source, command, "take", limit_s) as child:
        yield from child.read()


def feed(source: Source, command: Sequence[str], chunks: Iterable[bytes], limit_s: float = LIMIT_S) -> None:
    """Give the chunks to the command; UnavailableError when it fails, or ends before it has read all of them."""
    with _running(source, command, "restore", limit_s, feeding=True) as child:
        child.feed(chunks)
        for _ in child.read():
            pass


class _Child:
    """A running command. Its error output is always drained, so that it never waits for somebody to read it."""

    def __init__(self, process: subprocess.Popen[bytes], what: str, limit_s: float) -> None:
        self._process = process
        self._what = what
        self._limit_s = limit_s
        self._until_at = time.monotonic() + limit_s
        self._said = b""
        self._selector = selectors.DefaultSelector()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ)
        self._exit_descriptor = os.pidfd_open(process.pid)
        self._selector.register(self._exit_descriptor, selectors.EVENT_READ)

    def read(self) -> Iterator[bytes]:
        """What it writes until it ends; a child that it left behind with the same outputs is not waited for."""
        while self._exit_descriptor in self._selector.get_map():
            yield from self._ready()
        while any(key.events & selectors.EVENT_READ for key in self._selector.get_map().values()):
            rest = list(self._ready(wait=False))
            if not rest:
                return
            yield from rest

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Write to its input as fast as it reads."""
        pipe = self._process.stdin
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe.fileno(), selectors.EVENT_WRITE)
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    for _ in self._ready():
                        pass
                    with suppress(BlockingIOError):
                        view = view[os.write(pipe.fileno(), view) :]
        except BrokenPipeError:
            self.end("it ended before it had read all of the snapshot")
        finally:
            self._selector.unregister(pipe.fileno())
            pipe.close()

    def end(self, early: str = "") -> None:
        """Wait for its exit; UnavailableError when that is not 0."""
        try:
            code = self._process.wait(max(0.0, self._until_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._late() from None
        if code or early:
            how = f"exit code {code}" if code >= 0 else f"it was ended by signal {-code}"
            raise self._failed(f"{early} ({how})" if early else how)

    def kill(self) -> None:
        """End it and all that it started, and release what is held of it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        os.close(self._exit_descriptor)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _ready(self, wait: bool = True) -> Iterator[bytes]:
        left_s = max(0.0, self._until_at - time.monotonic())
        events = self._selector.select(left_s if wait else 0.0)
        if left_s == 0.0 or (wait and not events):
            raise self._late()
        assert self._process.stderr is not None
        for key, mask in events:
            if mask & selectors.EVENT_WRITE:
                continue
            if key.fd == self._exit_descriptor:
                self._selector.unregister(key.fd)
                continue
            chunk = os.read(key.fd, PIPE_BYTES)
            if not chunk:
                self._selector.unregister(key.fd)
            elif key.fd == self._process.stderr.fileno():
                self._said = (self._said + chunk)[-ERROR_BYTES:]
            else:
                yield chunk

    def _late(self) -> UnavailableError:
        return self._failed(f"it did not end within {self._limit_s:g} s")

    def _failed(self, how: str) -> UnavailableError:
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines() if line.strip()]
        said = f": {' / '.join(lines[-ERROR_LINES:])}" if lines else ""
        return UnavailableError(f"{self._what} failed: {how}{said}", "run it by hand in the slot's directory")


@contextmanager
def _running(
    source: Source, command: Sequence[str], name: str, limit_s: float, *, feeding: bool = False
) -> Iterator[_Child]:
    what = f"the command `{name}` of {source.slot}"
    identity = environment.resolve(source.user, source.group)
    given = dict(source.environment) | {"PERDURE_STATE": source.directory}
    variables = environment.compose(identity, given, ())
    # Before the command's pipes are there: it must not hold any of them open.
    watching = guard.Guard(guard.end_group)
    try:
        try:
            process = subprocess.Popen(
                environment.expand(command, variables),
                stdin=subprocess.PIPE if feeding else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=source.directory,
                env=variables,
                start_new_session=True,
                umask=0o022,
                user=None if identity is None else identity.uid,
                group=None if identity is None else identity.gid,
                extra_groups=None if identity is None else identity.groups,
            )
        except OSError as error:
            raise UnavailableError(
                f"{what} cannot be started: {error.strerror}", "check that the program is there, and may be run"
            ) from error
        watching.tell(b"%d" % process.pid)
        child = _Child(process, what, limit_s)
        try:
            yield child
            child.end()
        finally:
            child.kill()
    finally:
        watching.dismiss()
