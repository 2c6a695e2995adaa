"""Ears for heartbeats: the HTTP port on loopback and the notify sockets, and from whom each beat came.

The addresses stay the same when the daemon is restarted, since running replicas keep theirs in the environment: the
port is recorded in the store, the sockets' name follows from the state directory. The notify socket is a file that
nobody else can take; services that run as another user cannot reach it, and get one in the abstract namespace.
"""

import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog

from perdure.adapters import heartbeat
from perdure.control import paths
from perdure.control.agent import Agent
from perdure.control.surroundings import Surroundings
from perdure.model.evidence import Beat
from perdure.ports.store import Store, Transaction

KEY = "observed/beats"

log = structlog.get_logger()


@dataclass(slots=True)
class Ears:
    """Hands each beat to the agent, as evidence about the replica that sent it; beats of strangers are nobody's."""

    surroundings: Surroundings = field(default_factory=Surroundings)
    agent: Agent | None = None
    _by_token: dict[str, str] = field(default_factory=dict)
    _by_session: dict[int, str] = field(default_factory=dict)

    def by_token(self, token: str, arrived_at: float) -> None:
        """A beat that came by HTTP."""
        if token not in self._by_token:
            self._learn()
        self._hand_in(self._by_token.get(token), arrived_at)

    def by_session(self, session: int, arrived_at: float) -> None:
        """A beat that came through the notify socket from a process of this session."""
        if session not in self._by_session:
            self._learn()
        self._hand_in(self._by_session.get(session), arrived_at)

    def _hand_in(self, replica: str | None, arrived_at: float) -> None:
        if replica is not None and self.agent is not None:
            self.agent.monitor.on_evidence(Beat(replica, arrived_at))

    def _learn(self) -> None:
        """Who sends with which token and from which session, for the replicas that live now."""
        self._by_token.clear()
        self._by_session.clear()
        if self.agent is None:
            return
        for _, slot in self.agent.world.slots():
            replica = slot.replica
            if replica is not None and slot.live and replica.process is not None:
                self._by_token[replica.token] = replica.name
                self._by_session[replica.process.pid] = replica.name


@contextlib.asynccontextmanager
async def listen(where: paths.Paths, store: Store) -> AsyncIterator[Ears]:
    """Listen for heartbeats while the block lasts, where an earlier daemon did."""
    ears = Ears()
    record = (await store.read(KEY)).records.get(KEY)
    wanted = int(record.value["port"]) if record is not None else 0
    name = "perdure-" + hashlib.sha256(str(where.state).encode()).hexdigest()[:16]
    notify = heartbeat.NotifySocket(name, ears.by_session, where.run)
    public = heartbeat.NotifySocket(name, ears.by_session)
    receiver = heartbeat.BeatReceiver(ears.by_token)
    notify.open()
    try:
        heard_by_all = sys.platform == "linux" and _opened(public)
        port = await _open(receiver, wanted)
        if port != wanted:
            await store.commit(Transaction(put={KEY: {"port": port}}))
        ears.surroundings = Surroundings(port, notify.address, public.address if heard_by_all else "")
        yield ears
    finally:
        await receiver.close()
        public.close()
        notify.close()


def _opened(public: heartbeat.NotifySocket) -> bool:
    """Whether the name in the abstract namespace, which any local process may take, was free."""
    try:
        public.open()
    except OSError as error:
        sentence = "services with `user` get no $NOTIFY_SOCKET: its name is taken by another process"
        log.error(sentence, name=public.address, cause=str(error), hint="they can use $PERDURE_HEARTBEAT_URL")
        return False
    return True


async def _open(receiver: heartbeat.BeatReceiver, wanted: int) -> int:
    """Listen on the port of the earlier daemon, or on another one when a stranger has taken it meanwhile."""
    try:
        return await receiver.open(wanted)
    except OSError:
        if wanted == 0:
            raise
        log.warning("the port for heartbeats is taken; running replicas must be restarted to send to the new one")
        return await receiver.open(0)
