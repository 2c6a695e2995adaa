"""Following what is wanted: every change that the controller writes reaches the agent, also after the store was away.

`daemon` runs it, and so does the simulated world. The agent learns of commands in no other way, so that the controller
may one day write from another host.
"""

import asyncio

import structlog

from perdure.control import persist
from perdure.control.agent import Agent
from perdure.model.errors import ConflictError, UnavailableError
from perdure.ports.store import Store

AGAIN_S = 1.0

log = structlog.get_logger()


async def follow(agent: Agent, store: Store, revision: int) -> None:
    """Tell the agent of every change of what is wanted after `revision`, for ever."""
    while True:
        try:
            async for change in store.watch(persist.SERVICES, revision):
                revision = change.revision
                if change.record is None:
                    agent.drop(change.key.removeprefix(persist.SERVICES))
                else:
                    agent.want(persist.read_desired(change.record.value))
                agent.wanted_revision = revision
        except (ConflictError, UnavailableError) as error:
            log.error("what is wanted cannot be followed", cause=error.sentence)
            if isinstance(error, ConflictError):
                revision = await _anew(agent, store, revision)
            await asyncio.sleep(AGAIN_S)


async def _anew(agent: Agent, store: Store, revision: int) -> int:
    """The history of changes does not reach back: tell of everything; returns the revision that this is true of."""
    try:
        snapshot = await store.read(persist.SERVICES)
    except UnavailableError:
        return revision
    for name in [name for name in agent.world.services if persist.service_key(name) not in snapshot.records]:
        agent.drop(name)
    for record in snapshot.records.values():
        agent.want(persist.read_desired(record.value))
    return snapshot.revision
